"""Touching a container's root file system from outside: every path is resolved inside it by the kernel."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gantry.errors import InvalidArgument
from gantry.linux.openat2 import open_directory, openat2

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[int]:
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield top
    finally:
        os.close(top)


def read_file(root: Path, path: str, limit: int) -> bytes | None:
    """A small regular file of the container; None where it is absent, no regular file, or larger than `limit`.

    Nothing else is ever opened: a FIFO or a device in the file's place neither blocks nor acts.
    """
    with _opened(root) as top:
        try:
            handle = openat2(top, path, os.O_PATH)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
                return None
            with open(f"/proc/self/fd/{handle}", "rb") as file:
                data = file.read(limit + 1)
                return data if len(data) <= limit else None
        finally:
            os.close(handle)


def make_directory(root: Path, path: str) -> None:
    """Make `path` and its parents inside the root, mode 0755, owned by root, where they are missing.

    Raises InvalidArgument ("Cannot mkdir: … is not a directory") where a file stands in the way.
    """
    with _opened(root) as top:
        try:
            os.close(open_directory(top, path.strip("/"), create=True))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG):
                raise InvalidArgument(f"Cannot mkdir: {path} is not a directory") from None
            raise


def add_marks(root: Path) -> None:
    """`/.dockerenv`, and `/etc/mtab` where the image has none: programs look for them. Never follows a link."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    with _opened(root) as top:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(".dockerenv", flags, 0o755, dir_fd=top))
        try:
            etc = os.open("etc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise
        try:
            with contextlib.suppress(FileExistsError):
                os.symlink("/proc/mounts", "mtab", dir_fd=etc)
        finally:
            os.close(etc)
