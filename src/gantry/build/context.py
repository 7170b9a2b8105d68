"""The build context: received into a private directory, from a request, a URL or a git repository."""

import asyncio
import concurrent.futures
import os
import posixpath
import re
import shutil
import stat
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, BinaryIO, cast

from gantry.aio import TaskOwner, run_blocking
from gantry.build.copy import archive_at
from gantry.build.fetch import download, is_git, is_url
from gantry.build.parser import MAX_SIZE
from gantry.errors import GantryError, Internal, InvalidArgument, Unavailable, Unsupported
from gantry.linux.openat2 import open_directory, openat2
from gantry.model.ignore import IgnoreMatcher, parse_ignore
from gantry.oci import archive

Read = Callable[[], Awaitable[bytes]]
_IGNORE = ".dockerignore"
_MAX_IGNORE = 4 << 20
_REF = re.compile(r"[A-Za-z0-9_.][\w./@^~+-]*")
_GIT_TIMEOUT = 600.0
# Nothing of the daemon's own git configuration counts, nothing on its disk is a repository, no hook runs.
_GIT = (
    "git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.file.allow=never", "-c", "protocol.ext.allow=never",
    "-c", "core.fsmonitor=false", "-c", "core.symlinks=true", "-c", "advice.detachedHead=false",
)  # fmt: skip


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
        await clone(remote, directory, scratch)
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


def split_git(remote: str) -> tuple[str, str, str]:
    """(URL, ref, subdirectory) of `URL#ref:subdirectory`; raises InvalidArgument for a ref that is an option."""
    url, _, fragment = remote.partition("#")
    ref, _, subdirectory = fragment.partition(":")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if url.startswith("-") or (ref and not _REF.fullmatch(ref)):
        raise InvalidArgument(f"invalid git reference: {remote[:128]}")
    return url, ref, subdirectory


async def clone(remote: str, directory: Path, scratch: Path) -> None:
    """Fetch one commit, and make the context of it or of its subdirectory."""
    url, ref, subdirectory = split_git(remote)
    if not shutil.which("git"):
        raise Unavailable("a git context needs git: apt-get install git")
    checkout = scratch / "checkout"
    await run_blocking(checkout.mkdir)
    await _git(checkout, scratch, "init", "--quiet")
    await _git(checkout, scratch, "remote", "add", "origin", "--", url)
    await _git(checkout, scratch, "fetch", "--quiet", "--depth=1", "--no-tags", "origin", "--", ref or "HEAD")
    await _git(checkout, scratch, "checkout", "--quiet", "FETCH_HEAD")
    await _git(checkout, scratch, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    await run_blocking(_take_checkout, checkout, subdirectory, directory)


async def _git(checkout: Path, home: Path, *arguments: str) -> None:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "http:https:git:ssh", "LC_ALL": "C",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *_GIT, "-C", str(checkout), *arguments, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_GIT_TIMEOUT):
            _, said = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        reason = " ".join(said.decode("utf-8", "replace").split())[-400:]
        raise InvalidArgument(f"failed to load git context: git {arguments[0]}: {reason}")


def _take_checkout(checkout: Path, subdirectory: str, directory: Path) -> None:
    """Move the subdirectory's entries; it is looked up inside the checkout, whatever links say."""
    root = os.open(checkout, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            chosen = open_directory(root, subdirectory)
        except OSError as error:
            raise InvalidArgument(f"failed to load git context: {subdirectory}: no such directory") from error
        target = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(chosen):  # noqa: PTH208
                if name != ".git":
                    os.rename(name, name, src_dir_fd=chosen, dst_dir_fd=target)
        finally:
            os.close(chosen)
            os.close(target)
    finally:
        os.close(root)


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
