"""The build context: received into a private directory, from a request, a URL or a git repository."""

import asyncio
import concurrent.futures
import os
import posixpath
import re
import stat
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from gantry.aio import TaskOwner, run_blocking
from gantry.build.copy import archive_at
from gantry.build.fetch import download, is_git, is_url
from gantry.build.git import clone, parse_git
from gantry.build.parser import MAX_SIZE
from gantry.errors import GantryError, Internal, InvalidArgument, Unavailable, Unsupported
from gantry.linux.openat2 import open_directory, openat2
from gantry.model.ignore import IgnoreMatcher, parse_ignore
from gantry.oci import archive

Read = Callable[[], Awaitable[bytes]]
_IGNORE = ".dockerignore"
_MAX_IGNORE = 4 << 20
CONTEXT_PREFIX = ".gantry-context-"
_IMAGE = "docker-image://"
_SENT = re.compile(r"context:([0-9]{1,3})")


class BodyReader:
    """A request's body as the blocking file that a thread reads."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._pending: concurrent.futures.Future[bytes] | None = None
        self._closed = False

    def read(self, size: int = -1) -> bytes:
        if not self._rest and not self._closed:
            self._pending = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            self._rest = self._pending.result()
        if size < 0:
            size = len(self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def _next(self) -> bytes:
        return b"" if self._closed else await self._read()

    def close(self) -> None:
        """No more is read: a thread that waits for more is woken with an error."""
        self._closed = True
        if self._pending is not None:
            self._pending.cancel()


async def receive(read: Read, directory: Path) -> None:
    """Unpack a request's tar; raises InvalidArgument for what is none."""
    reader = BodyReader(read)
    async with TaskOwner("context") as owner:
        unpacking = owner.spawn(_outcome(run_blocking(_unpack, cast("BinaryIO", reader), directory)))
        try:
            error = await asyncio.shield(unpacking)
        except asyncio.CancelledError:
            reader.close()
            await asyncio.wait({unpacking})  # the directory goes away after its last file was written
            raise
    if error is not None:
        raise error


async def _outcome(work: Coroutine[Any, Any, None]) -> Exception | None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - raised by the one who waits
        return error
    return None


def _unpack(stream: BinaryIO, directory: Path) -> None:
    try:
        archive.unpack(directory, "/", stream, chown=(os.geteuid(), os.getegid()))
        while stream.read(1 << 20):
            pass  # what follows the archive belongs to the request
    except OSError as error:
        if error.errno in (5, 28, 122):
            raise Internal(f"Error processing tar file: {(error.strerror or str(error)).lower()}") from error
        raise InvalidArgument(f"Error processing tar file: {(error.strerror or str(error)).lower()}") from error


async def fetch(remote: str, directory: Path, scratch: Path) -> str:
    """Get a remote context; returns the Dockerfile's text where the URL was one, else ""."""
    if remote == "client-session":
        raise Unsupported("a context from a client session needs BuildKit: build with DOCKER_BUILDKIT=0")
    if is_git(remote):
        await clone(parse_git(remote), directory, scratch)
        return ""
    if not is_url(remote):
        raise InvalidArgument(f"remote must be a git repository or an http(s) URL: {remote[:128]}")
    try:
        got = await download(remote, scratch / "remote")
    except GantryError as error:
        raise Unavailable(f"error downloading remote context {remote}: {error.message}") from error
    return await run_blocking(_take, got.path, directory)


def _take(path: Path, directory: Path) -> str:
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = archive_at(parent, path.name)
    finally:
        os.close(parent)
    if file is not None:
        with file:
            _unpack(file, directory)
        return ""
    if path.stat().st_size > MAX_SIZE:
        raise InvalidArgument(
            f"the remote context is no archive, and for a Dockerfile it is larger than {MAX_SIZE} bytes"
        )
    return path.read_text("utf-8", "replace")


# ------------------------------------------------------------------------------------ named contexts


def any_sent(sources: Mapping[str, str]) -> bool:
    """Whether some named context comes in the request's body."""
    return any(map(_SENT.fullmatch, sources.values()))


def _take_out(sent: Path, place: Path) -> bool:
    """Move a directory that came with the main context; a link in its place is none."""
    try:
        if not stat.S_ISDIR(sent.lstat().st_mode):
            return False
    except OSError:
        return False
    sent.rename(place)
    return True


async def named(sources: Mapping[str, str], directory: Path, scratch: Path) -> dict[str, Path | str]:
    """Named contexts, each as its directory or as the name of an image. Raises InvalidArgument.

    A source is `docker-image://NAME`, the URL of a repository or an archive, or `context:N`: the directory
    `.gantry-context-N` that came in the main context, and is taken out of it here.
    """
    found: dict[str, Path | str] = {}
    (scratch / "contexts").mkdir()
    for number, (name, source) in enumerate(sources.items()):
        place = scratch / "contexts" / str(number)
        if source.startswith(_IMAGE):
            found[name] = source.removeprefix(_IMAGE)
            continue
        if sent := _SENT.fullmatch(source):
            if not await run_blocking(_take_out, directory / f"{CONTEXT_PREFIX}{sent[1]}", place):
                raise InvalidArgument(f"context {name} was announced and not sent")
        else:
            await run_blocking(place.mkdir)
            own = scratch / f"fetch-{number}"
            await run_blocking(own.mkdir)
            if await fetch(source, place, own):
                raise InvalidArgument(f"context {name}: {source} is neither a repository nor an archive")
        found[name] = place
    return found


# ------------------------------------------------------------------------------------ the Dockerfile in it


def read_dockerfile(directory: Path, name: str) -> tuple[str, bytes]:
    """(name, content) of the Dockerfile; raises InvalidArgument with Docker's words."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        shown = name or "Dockerfile"
        if posixpath.normpath(shown.lstrip("/")).split("/")[0] == "..":
            raise InvalidArgument(f"forbidden path outside the build context: {name} ()")
        for candidate in (name,) if name else ("Dockerfile", "dockerfile"):
            data = _read(root, candidate, MAX_SIZE)
            if data is not None:
                return candidate, data
        raise InvalidArgument(f"Cannot locate specified Dockerfile: {shown}")
    finally:
        os.close(root)


def excluded(directory: Path) -> Callable[[str], bool] | None:
    """What the context's .dockerignore leaves out, None where there is none."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        data = _read(root, _IGNORE, _MAX_IGNORE)
    finally:
        os.close(root)
    return IgnoreMatcher(parse_ignore(data.decode("utf-8", "replace"))).excludes if data else None


def hide_ignored(directory: Path, dockerfile: str) -> None:
    """Remove Dockerfile and .dockerignore where .dockerignore names them: they had to be sent all the same."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        data = _read(root, _IGNORE, _MAX_IGNORE)
        if not data:
            return
        matcher = IgnoreMatcher(parse_ignore(data.decode("utf-8", "replace")))
        for name in (dockerfile, _IGNORE):
            path = posixpath.normpath(name.lstrip("/"))
            if matcher.excludes(path):
                head, _, last = path.rpartition("/")
                parent = open_directory(root, head)
                try:
                    os.unlink(last, dir_fd=parent)
                except FileNotFoundError:
                    pass  # a Dockerfile that came by another way
                finally:
                    os.close(parent)
    finally:
        os.close(root)


def _read(root: int, path: str, limit: int) -> bytes | None:
    try:
        descriptor = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidArgument(f"{path} is larger than {limit} bytes")
    return data
