"""inotify(7): be told of a directory's changes instead of asking."""

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path
from typing import Self

IN_MODIFY, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x80, 0x100, 0x200

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """Sets `changed` whenever something in `directory` is made, written or moved in."""

    def __init__(self, directory: Path) -> None:
        self.changed = asyncio.Event()
        self._descriptor = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._descriptor < 0:
            raise _error("inotify_init1")
        mask = IN_MODIFY | IN_MOVED_TO | IN_CREATE
        if _libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask) < 0:
            error = _error(os.fspath(directory))
            os.close(self._descriptor)
            raise error

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 64 << 10)
        self.changed.set()


def _error(name: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), name)
