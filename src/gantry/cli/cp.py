"""`gantry cp`: files between a container and the local file system, with the rules of Docker's cp for destinations."""

from __future__ import annotations

import base64
import os
import stat
import sys

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, quote
from gantry.cli.terminal import is_terminal
from gantry.cli.units import human_size
from gantry.client import jsontext
from gantry.client.client import segment
from gantry.client.errors import ResponseError
from gantry.client.tarball import BlockReader, pack, rename, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from gantry.cli.flags import Arguments

_LINKS = 40
_DIRECTORY, _SYMLINK = 1 << 31, 1 << 27
_SPECIAL = {1 << 26: "a device", 1 << 25: "a named pipe", 1 << 24: "a socket", 1 << 19: "an irregular file"}
"""Go's FileMode bits."""


class Place:
    """One end of a copy: `path` as given (cleaned, its trailing / or /. kept)."""

    def __init__(self, path: str, *, exists: bool, is_directory: bool, renamed: str = "") -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory
        self.renamed = renamed
        """The name its entries should have, where a link was followed."""


def _run(ctx: Context, args: Arguments) -> int:
    (source_container, source), (target_container, target) = (_split(word) for word in args.positional)
    if source_container and target_container:
        raise CommandError("copying between containers is not supported")
    if not source_container and not target_container:
        raise CommandError("must specify at least one container source")
    quiet = args.boolean("quiet") if "quiet" in args.changed else not is_terminal(2)
    follow = args.boolean("follow-link")
    if source_container:
        size = _download(ctx, source_container, source, target, follow=follow, archive=args.boolean("archive"))
        shown = target
    else:
        size = _upload(ctx, source, target_container, target, follow=follow, archive=args.boolean("archive"))
        shown = f"{target_container}:{target}"
    if not quiet and target != "-":
        ctx.warn(f"Successfully copied {human_size(size, 3)} to {shown}")
    return 0


def _split(word: str) -> tuple[str, str]:
    """(container, path), the container "" for a local path."""
    container, colon, path = word.partition(":")
    if word.startswith("/") or not colon or container.startswith("."):
        return "", word
    return container, path


# ----------------------------------------------------------------------------------------- paths


def _clean(path: str) -> str:
    """Normalised, with a trailing "/" or "/." kept: it says that a directory is meant."""
    clean = os.path.normpath(path)
    clean = "/" + clean.lstrip("/") if clean.startswith("/") else clean
    if path.endswith("/.") or path == ".":
        return clean if clean == "." else clean.rstrip("/") + "/."
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def split_entry(path: str) -> tuple[str, str]:
    """(directory, base): ("/a", "b") of /a/b and of /a/b/, ("/a/b", ".") of /a/b/."""
    clean = os.path.normpath(path)
    if path.endswith("/.") or path == ".":
        return clean, "."
    return os.path.dirname(clean) or ".", os.path.basename(clean) or "/"


def _asserts_directory(path: str) -> bool:
    return path.endswith(("/", "/.")) or path == "."


def _prepare(source: Place, target: Place) -> tuple[str, str | None]:
    """(directory to unpack into, name that the entries get instead of their own: None to keep it)."""
    directory, base = split_entry(target.path)
    if target.exists and target.is_directory:
        return target.path, None
    if target.exists and source.is_directory:
        raise CommandError("cannot copy directory")
    if not target.exists and not source.is_directory and _asserts_directory(target.path):
        raise CommandError("no such directory")
    return directory, base


# ------------------------------------------------------------------------------------ containers


def _container_stat(ctx: Context, container: str, path: str) -> dict[str, Any]:
    headers = ctx.client.head(f"/containers/{segment(container)}/archive", {"path": path})
    return _path_stat(headers)


def _path_stat(headers: dict[str, str]) -> dict[str, Any]:
    try:
        found = jsontext.decode(base64.b64decode(headers.get("x-docker-container-path-stat", "")))
    except ValueError as error:
        raise CommandError(f"unable to decode container path stat header: {error}") from error
    return dict(found)


def _link_target(path: str, target: str) -> str:
    return target if target.startswith("/") else os.path.join(split_entry(path)[0], target)


def _download(ctx: Context, container: str, source: str, target: str, *, follow: bool, archive: bool) -> int:
    del archive  # what is written locally belongs to the user who copies, as in Docker
    local = target if target == "-" else _local_target(target)
    renamed = ""
    if follow:
        try:
            found = _container_stat(ctx, container, source)
        except ResponseError:
            found = {}  # the request for the archive says what is wrong
        if int(found.get("mode") or 0) & _SYMLINK:
            renamed = split_entry(source)[1]
            source = _link_target(source, str(found["linkTarget"]))
    response = ctx.client.request("GET", f"/containers/{segment(container)}/archive", {"path": source})
    if local == "-":
        from gantry.cli.streams import write_all

        for block in response.blocks():
            write_all(1, block)
        return 0
    is_directory = bool(int(_path_stat(response.headers).get("mode") or 0) & _DIRECTORY)
    place = Place(source, exists=True, is_directory=is_directory, renamed=renamed)
    directory, name = _prepare(place, _local_place(local))
    base = split_entry(source)[1]
    wanted = name or renamed
    reader = BlockReader(response.blocks())
    unpack(reader, directory, rename(base, wanted) if wanted else (lambda entry: entry))
    for _ in iter(lambda: reader.read(1 << 16), b""):
        continue  # what pads the archive
    return reader.count


def _local_target(path: str) -> str:
    local = _clean(path if path.startswith("/") else os.path.join(os.getcwd(), path))
    parent = os.path.dirname(os.path.normpath(local))
    if not os.path.exists(parent):
        raise CommandError(f"invalid output path: directory {quote(parent)} does not exist")
    if os.path.exists(local) and not (os.path.isdir(local) or os.path.isfile(local)):
        raise CommandError(f"invalid output path: {quote(local)} must be a directory or a regular file")
    return local


def _local_place(path: str) -> Place:
    """Where a download goes: a link in the last place is followed, so that what it names is replaced."""
    for _ in range(_LINKS):
        bare = path.rstrip("/") or "/"
        if not os.path.islink(bare):
            break
        path = os.path.join(os.path.dirname(bare), os.readlink(bare))
    else:
        raise CommandError(f"too many levels of symbolic links in {path}")
    try:
        found = os.stat(bare)
    except FileNotFoundError:
        return Place(path, exists=False, is_directory=False)
    except OSError as error:
        raise CommandError(f"stat {bare}: {os.strerror(error.errno or 0).lower()}") from error
    return Place(path, exists=True, is_directory=stat.S_ISDIR(found.st_mode))


def _upload(ctx: Context, source: str, container: str, target: str, *, follow: bool, archive: bool) -> int:
    place = _container_place(ctx, container, target)
    data: Iterable[bytes]
    if source == "-":
        if not place.is_directory:
            raise CommandError(f'destination "{container}:{target}" must be a directory')
        directory = place.path
        data = iter(lambda: sys.stdin.buffer.read(1 << 16), b"")
    else:
        local = _local_source(_clean(source if source.startswith("/") else os.path.join(os.getcwd(), source)), follow)
        directory, name = _prepare(local, place)
        parent, base = split_entry(local.path)
        data = pack(parent, base, name or local.renamed or base)
    counted = _Counter(data)
    query = {"path": directory, "noOverwriteDirNonDir": True, "copyUIDGID": archive or None}
    path = f"/containers/{segment(container)}/archive"
    ctx.client.request("PUT", path, query, data=counted, content_type="application/x-tar").read()
    return counted.count


class _Counter:
    """Passes blocks on and counts their bytes."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.count += len(block)
            yield block


def _container_place(ctx: Context, container: str, path: str) -> Place:
    place = Place(path, exists=False, is_directory=False)
    try:
        found = _container_stat(ctx, container, path)
        if int(found.get("mode") or 0) & _SYMLINK:
            place.path = _link_target(path, str(found["linkTarget"]))
            found = _container_stat(ctx, container, place.path)
    except ResponseError:
        return place  # its parent may exist; if not, the upload says so
    mode = int(found.get("mode") or 0)
    for bit, what in _SPECIAL.items():
        if mode & bit:
            raise CommandError(f'destination "{container}:{path}" must be a directory or a regular file: got {what}')
    place.exists, place.is_directory = True, bool(mode & _DIRECTORY)
    return place


def _local_source(path: str, follow: bool) -> Place:
    bare = path.rstrip("/") or "/"
    try:
        found = os.stat(path) if follow or path != bare else os.lstat(path)
    except OSError as error:
        raise CommandError(f"lstat {path}: {os.strerror(error.errno or 0).lower()}") from error
    renamed = ""
    if (follow or path == bare + "/") and os.path.islink(bare):
        renamed = split_entry(path)[1]
        path = os.path.realpath(bare)
    return Place(path, exists=True, is_directory=stat.S_ISDIR(found.st_mode), renamed=renamed)


COMMAND = Command(
    _run,
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tgantry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    (
        boolean("archive", "a", "Archive mode (copy all uid/gid information)"),
        boolean("follow-link", "L", "Always follow symbol link in SRC_PATH"),
        boolean("quiet", "q", "Suppress progress output during copy. Off without a terminal"),
    ),
    least=2,
    most=2,
    description="Copy files/folders between a container and the local filesystem\n\n"
    "'-' as the source reads a tar archive from standard input and unpacks it into a directory of the container;\n"
    "'-' as the destination writes the container's files as a tar archive to standard output.",
)
