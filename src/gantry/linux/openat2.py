"""openat2(2): opening paths that cannot leave their root, whatever symbolic links are in the way."""

import ctypes
import os
import platform
import secrets
import stat
from contextlib import suppress
from typing import Self

import msgspec

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_NUMBER = 437  # the same on every architecture
_EAGAIN_TRIES = 64
_REMOVE_DEPTH = 100

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """A descriptor for `path` below descriptor `directory`; raises OSError. Magic links are never followed."""
    how = _How(flags | os.O_CLOEXEC, mode, resolve | RESOLVE_NO_MAGICLINKS)
    name = os.fsencode(path)
    for _ in range(_EAGAIN_TRIES):
        descriptor = _libc.syscall(
            ctypes.c_long(_NUMBER),
            ctypes.c_int(directory),
            name,
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code != 11:  # EAGAIN: something was renamed while the kernel looked
            raise OSError(code, os.strerror(code), path)
    raise OSError(11, os.strerror(11), path)


def open_directory(root: int, path: str, *, create: bool = False, mode: int = 0o755) -> int:
    """A descriptor of directory `path` inside `root`, with its missing parents made where `create`.

    Links are followed as if `root` were the root directory.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return openat2(root, path or ".", flags)
    except FileNotFoundError:
        if not create:
            raise
    current = os.dup(root)
    walked = ""
    try:
        for part in path.split("/"):
            if part in ("", "."):
                continue
            walked = f"{walked}/{part}"
            try:
                following = openat2(root, walked, flags)
            except FileNotFoundError:
                os.mkdir(part, mode, dir_fd=current)
                following = openat2(root, walked, flags)
            os.close(current)
            current = following
    except BaseException:
        os.close(current)
        raise
    return current


class InRoot(msgspec.Struct):
    """A path inside a root, split: an open parent directory and the last name ("" for the root itself)."""

    parent: int
    name: str

    def close(self) -> None:
        os.close(self.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def parent_of(root: int, path: str) -> InRoot:
    """Open the directory that holds `path`, following links inside the root; the last name is not looked at."""
    head, _, tail = path.strip("/").rpartition("/")
    if tail == "..":
        return InRoot(open_directory(root, path), "")
    return InRoot(open_directory(root, head), "" if tail == "." else tail)


def real_path(descriptor: int) -> str:
    """Where an open descriptor is, as this process sees it."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def remove_tree(parent: int, name: str) -> None:
    """Remove `name` in open directory `parent`, with everything below it, however deep; never follows a link."""
    waiting = [name]
    while waiting:
        _remove(parent, waiting.pop(), parent, waiting, 0)


def _remove(directory: int, name: str, top: int, waiting: list[str], depth: int) -> None:
    """Remove one tree. What lies too deep for descriptors and recursion moves up to `top` and waits for its turn."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=directory)
            return
        _remove_directory(directory, name, top, waiting, depth)


def _remove_directory(directory: int, name: str, top: int, waiting: list[str], depth: int) -> None:
    opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        for entry in os.listdir(opened):
            if depth < _REMOVE_DEPTH:
                _remove(opened, entry, top, waiting, depth + 1)
            elif stat.S_ISDIR(os.stat(entry, dir_fd=opened, follow_symlinks=False).st_mode):
                moved = f".gone-{secrets.token_hex(8)}"
                os.rename(entry, moved, src_dir_fd=opened, dst_dir_fd=top)
                waiting.append(moved)
            else:
                os.unlink(entry, dir_fd=opened)
    finally:
        os.close(opened)
    os.rmdir(name, dir_fd=directory)


def supported() -> bool:
    """Whether this kernel has openat2 (5.6 and newer)."""
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2]) >= (5, 6)
