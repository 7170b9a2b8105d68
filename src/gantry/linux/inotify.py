"""inotify(7): be told of a directory's changes instead of asking."""

import asyncio
import contextlib
import ctypes
import os
import struct
from pathlib import Path
from typing import Self

IN_MODIFY, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x80, 0x100, 0x200
IN_ONESHOT = 0x80000000
_EVENT = struct.Struct("iIII")

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


class FileWatches:
    """Waits for the next write to any of many files, with one inotify instance."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def once(self, path: Path) -> "asyncio.Future[None]":
        """Done after the next write to the file, or at once where it cannot be watched: look again, then."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self._descriptor < 0:
            self._descriptor = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
            if self._descriptor < 0:
                raise _error("inotify_init1")
            loop.add_reader(self._descriptor, self._readable)
        watch = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), IN_MODIFY | IN_ONESHOT)
        if watch < 0:
            future.set_result(None)
        else:
            if (before := self._waiting.pop(watch, None)) is not None and not before.done():
                before.set_result(None)
            self._waiting[watch] = future
        return future

    def close(self) -> None:
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._descriptor, 64 << 10)
            while len(data) >= _EVENT.size:
                watch, _, _, length = _EVENT.unpack_from(data)
                data = data[_EVENT.size + length :]
                if (future := self._waiting.pop(watch, None)) is not None and not future.done():
                    future.set_result(None)


def _error(name: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), name)
