"""From an overlay directory back to a layer: what changed against the directories below it.

`upper` is a snapshot's own directory, `lower` the stack beneath, topmost first.
"""

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from gantry.model.stubs import RUNTIME_STUBS
from gantry.oci.layer import OPAQUE, OPAQUE_XATTR, WHITEOUT, XATTR_PREFIX

MODIFIED, ADDED, DELETED = 0, 1, 2
_CHUNK = 1 << 20


class Change(msgspec.Struct, frozen=True):
    """One changed path, absolute. `opaque` marks a directory that hides what lies below it."""

    kind: int
    path: str
    opaque: bool = False


def changes(upper: Path, lower: Sequence[Path]) -> list[Change]:
    """All changes, sorted by path, without the runtime's stubs and without directories that only lead to them."""
    found = list(_walk(upper, lower, ""))
    found.sort(key=lambda change: change.path.split("/"))
    return found


def _walk(upper: Path, lower: Sequence[Path], path: str) -> Iterator[Change]:
    with os.scandir(f"{upper}{path}") as entries:
        listed = list(entries)
    for entry in listed:
        name = f"{path}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if is_whiteout(status):
            if below(lower, name) is not None:
                yield Change(DELETED, name)
            continue
        under = below(lower, name)
        if under is None and name in RUNTIME_STUBS and _is_stub(entry, status):
            continue
        kind = ADDED if under is None else MODIFIED
        if not stat.S_ISDIR(status.st_mode):
            yield Change(kind, name)
            continue
        opaque = _is_opaque(entry.path)
        inside = list(_walk(upper, () if opaque else lower, name))
        if opaque and under is not None:
            yield Change(MODIFIED, name, opaque=True)
        elif under is None and name in RUNTIME_STUBS and not inside:
            continue
        elif under is None or inside or _differs(status, under):
            yield Change(kind, name)
        yield from inside


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _is_stub(entry: "os.DirEntry[str]", status: os.stat_result) -> bool:
    if stat.S_ISREG(status.st_mode):
        return status.st_size == 0
    if stat.S_ISDIR(status.st_mode):
        return False  # decided by what is inside
    return stat.S_ISLNK(status.st_mode) and os.readlink(entry.path) == "/proc/mounts"


def _differs(status: os.stat_result, under: os.stat_result) -> bool:
    return (status.st_mode, status.st_uid, status.st_gid) != (under.st_mode, under.st_uid, under.st_gid)


def below(lower: Sequence[Path], path: str) -> os.stat_result | None:
    """What `path` is in the stack, None where it is not there; links in the way are not followed."""
    parts = path.strip("/").split("/")
    for directory in lower:
        current = str(directory)
        hidden = False
        for index, part in enumerate(parts):
            current = f"{current}/{part}"
            try:
                status = os.lstat(current)
            except (FileNotFoundError, NotADirectoryError):
                break
            if is_whiteout(status):
                return None
            if index == len(parts) - 1:
                return status
            if not stat.S_ISDIR(status.st_mode):
                return None
            hidden = hidden or _is_opaque(current)
        if hidden:
            return None
    return None


def write_layer(upper: Path, lower: Sequence[Path], out: BinaryIO) -> None:
    """Write the changes as an uncompressed layer tar, in path order, with PAX headers where they are needed."""
    links: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as archive:
        for change in changes(upper, lower):
            name = change.path[1:]
            if change.kind == DELETED:
                parent, _, last = name.rpartition("/")
                archive.addfile(tarfile.TarInfo(f"{parent}/{WHITEOUT}{last}" if parent else WHITEOUT + last))
                continue
            add_path(archive, f"{upper}{change.path}", name, links)
            if change.opaque:
                archive.addfile(tarfile.TarInfo(f"{name}/{OPAQUE}"))
            archive.members = []  # type: ignore[attr-defined]


def add_path(archive: tarfile.TarFile, path: str, name: str, links: dict[tuple[int, int], str]) -> None:
    """Add one file system object under `name`; the second name of a file becomes a hard link. Sockets are left out."""
    status = os.lstat(path)
    info = tar_info(path, name, status)
    if info is None:
        return
    if info.isreg() and status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
    if info.isreg() and info.size:
        with open(path, "rb", opener=_no_follow) as file:
            archive.addfile(info, file)
    else:
        archive.addfile(info)


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def tar_info(path: str, name: str, status: os.stat_result) -> tarfile.TarInfo | None:
    """The header of one object with its extended attributes; None for a socket."""
    info = tarfile.TarInfo(name)
    info.mode = status.st_mode & 0o7777
    info.uid, info.gid = status.st_uid, status.st_gid
    info.mtime = status.st_mtime_ns // 1_000_000_000
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        info.size = status.st_size
    elif kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
    elif kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
    else:
        return None
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        headers: dict[str, str] = {}
        for attribute in os.listxattr(path, follow_symlinks=False):
            if attribute == "security.capability" or attribute.startswith("user."):
                value = os.getxattr(path, attribute, follow_symlinks=False)
                headers[XATTR_PREFIX + attribute] = value.decode("utf-8", "surrogateescape")
        info.pax_headers = headers
    return info
