"""From an overlay directory back to a layer: what changed against the directories below it.

`upper` is a snapshot's own directory, `lower` the stack beneath, topmost first. A container may be changing `upper`
meanwhile: it is walked by descriptors, and no link in it is followed.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from gantry.errors import Internal
from gantry.model.stubs import RUNTIME_STUBS
from gantry.oci.overlay import OPAQUE, OPAQUE_XATTR, WHITEOUT, below, is_whiteout
from gantry.oci.tar_writer import TarWriter
from gantry.oci.tree import OPEN_DIRECTORY, Directories

MODIFIED, ADDED, DELETED = 0, 1, 2
_DEPTH_LIMIT = 512  # nested directories; each is an open descriptor while it is walked


class Change(msgspec.Struct, frozen=True):
    """One changed path, absolute. `opaque` marks a directory that hides what lies below it."""

    kind: int
    path: str
    opaque: bool = False


def changes(upper: Path, lower: Sequence[Path]) -> list[Change]:
    """All changes, sorted by path, without the runtime's stubs and without directories that only lead to them."""
    root = os.open(upper, OPEN_DIRECTORY)
    try:
        found, _ = _walk(root, lower, "", 0)
    finally:
        os.close(root)
    found.sort(key=lambda change: change.path.split("/"))
    return found


def _walk(directory: int, lower: Sequence[Path], path: str, depth: int) -> tuple[list[Change], bool]:
    """The changes below an open directory, and whether stubs were left out there."""
    if depth > _DEPTH_LIMIT:
        raise Internal(f"{path[:100]}…: directories are nested deeper than {_DEPTH_LIMIT}")
    found: list[Change] = []
    stubs = False
    for name in os.listdir(directory):
        full = f"{path}/{name}"
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        under = below(lower, full) if lower else None
        if is_whiteout(status):
            if under is not None:
                found.append(Change(DELETED, full))
        elif stat.S_ISDIR(status.st_mode):
            inside, skipped = _directory(directory, name, lower, full, status, under and under[1], depth)
            found += inside
            stubs = stubs or (skipped and not inside)
        elif under is None and full in RUNTIME_STUBS and _is_stub(directory, name, status):
            stubs = True
        else:
            found.append(Change(ADDED if under is None else MODIFIED, full))
    return found, stubs


def _directory(
    parent: int, name: str, lower: Sequence[Path], path: str, status: os.stat_result,
    under: os.stat_result | None, depth: int,
) -> tuple[list[Change], bool]:  # fmt: skip
    try:
        opened = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return [], False  # replaced while we looked
    try:
        opaque = _is_opaque(opened)
        inside, stubs = _walk(opened, () if opaque else lower, path, depth + 1)
    finally:
        os.close(opened)
    if opaque and under is not None:
        return [Change(MODIFIED, path, opaque=True), *inside], stubs
    if under is None:
        if path in RUNTIME_STUBS and not inside:
            return [], True
        return [Change(ADDED, path), *inside], stubs
    if inside or _differs(status, under, stubs=stubs):
        return [Change(MODIFIED, path), *inside], stubs
    return [], stubs


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


def _is_stub(directory: int, name: str, status: os.stat_result) -> bool:
    if stat.S_ISREG(status.st_mode):
        return status.st_size == 0
    return stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=directory) == "/proc/mounts"


def _differs(status: os.stat_result, under: os.stat_result, *, stubs: bool) -> bool:
    """Whether a directory itself was changed; the stubs made in it have changed its time."""
    if (status.st_mode, status.st_uid, status.st_gid) != (under.st_mode, under.st_uid, under.st_gid):
        return True
    return not stubs and status.st_mtime_ns != under.st_mtime_ns


def write_layer(upper: Path, lower: Sequence[Path], out: BinaryIO) -> int:
    """Write the changes as an uncompressed layer tar, in path order; returns its size."""
    root = os.open(upper, OPEN_DIRECTORY)
    directories = Directories(root)
    writer = TarWriter(out)
    try:
        for change in changes(upper, lower):
            parent_path, _, name = change.path[1:].rpartition("/")
            if change.kind == DELETED:
                writer.header(f"{parent_path}/{WHITEOUT}{name}" if parent_path else WHITEOUT + name)
                continue
            try:
                parent = directories.get(parent_path, create=False)
                writer.file(parent, name, change.path[1:])
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since: a running container goes on changing its files
            if change.opaque:
                writer.header(f"{change.path[1:]}/{OPAQUE}")
        writer.close()
    finally:
        directories.forget()
        os.close(root)
    return writer.size
