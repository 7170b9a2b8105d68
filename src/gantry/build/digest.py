"""What a COPY reads, as one digest: names, kinds, modes, owners and data; times do not count."""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence

from gantry.build.selection import walk
from gantry.linux.openat2 import openat2

_CHUNK = 1 << 20
_COPIED_XATTRS = ("security.capability",)


def source_digest(
    root: int, paths: Sequence[str], *, owners: bool, excluded: Callable[[str], bool] | None = None
) -> tuple[str, str]:
    """(kind, hexadecimal digest): kind is "file", "dir" or "multi". With `owners`, who owns a file counts.

    `excluded` answers for paths below each copied directory.
    """
    total = hashlib.sha256()
    kind = "multi"
    for path in paths:
        opened = openat2(root, path or ".", os.O_PATH)
        try:
            status = os.fstat(opened)
        finally:
            os.close(opened)
        if stat.S_ISDIR(status.st_mode):
            kind = "dir" if len(paths) == 1 else "multi"
            for inner, entry, directory in walk(root, path, excluded):
                _add(total, inner, entry, directory, inner.rpartition("/")[2], owners)
        else:
            kind = "file" if len(paths) == 1 else "multi"
            descriptor = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                _frame(total, "F", path.rpartition("/")[2], _header(status, owners))
                _data(total, descriptor)
            finally:
                os.close(descriptor)
        total.update(b"\0next\0")
    return kind, total.hexdigest()


def is_copied(name: str) -> bool:
    """Whether a copy keeps this extended attribute."""
    return name in _COPIED_XATTRS or name.startswith("user.")


def _add(total: "hashlib._Hash", path: str, status: os.stat_result, directory: int, name: str, owners: bool) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            _frame(total, "F", path, _header(status, owners))
            _data(total, descriptor)
        finally:
            os.close(descriptor)
    elif kind == stat.S_IFLNK:
        _frame(total, "L", path, _owner(status, owners), os.readlink(name, dir_fd=directory))
    elif kind == stat.S_IFDIR:
        _frame(total, "D", path, _header(status, owners))
    else:
        _frame(total, "N", path, _header(status, owners), f"{kind} {status.st_rdev}")


def _header(status: os.stat_result, owners: bool) -> str:
    return f"{status.st_mode & 0o7777:o} {_owner(status, owners)}"


def _owner(status: os.stat_result, owners: bool) -> str:
    return f"{status.st_uid}:{status.st_gid}" if owners else ""


def _frame(total: "hashlib._Hash", *fields: str) -> None:
    for field in fields:
        data = os.fsencode(field)
        total.update(b"%d:" % len(data))
        total.update(data)


def _data(total: "hashlib._Hash", descriptor: int) -> None:
    for name in sorted(os.listxattr(descriptor)):
        if is_copied(name):
            value = os.getxattr(descriptor, name)
            _frame(total, "X", name)
            total.update(b"%d:" % len(value) + value)
    # The data's own digest has a fixed length: no file's end can pass for another's beginning.
    inner = hashlib.sha256()
    while data := os.read(descriptor, _CHUNK):
        inner.update(data)
    total.update(inner.digest())
