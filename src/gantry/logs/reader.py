"""Reading container logs: from any line on, as they grow, in bounded memory."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Internal, Unsupported
from gantry.linux.inotify import DirectoryWatch
from gantry.logs.k8s_file import Parser, tail_position
from gantry.model.container import Container
from gantry.ports import Ended, LogEntry, LogQuery

_BATCH = 256 << 10
_LONGEST_LINE = 4 << 20  # conmon's are far shorter; a damaged file must not fill the memory


class FileLogs:
    """`ports.Logs` on the files that conmon writes (`Container.log_path`)."""

    async def read(self, container: Container, query: LogQuery, ended: Ended) -> AsyncIterator[LogEntry]:
        if not container.log_path:
            raise Unsupported("configured logging driver does not support reading")
        path = Path(container.log_path)
        follow = query.follow and not ended.is_set()
        entries = _follow(path, query, ended) if follow else _read_all(path, query)
        async with contextlib.aclosing(entries):
            async for entry in entries:
                if query.until and entry.time > query.until:
                    return
                if entry.time >= query.since and (query.stdout if entry.stream == 1 else query.stderr):
                    yield entry

    async def remove(self, container: Container) -> None:
        if container.log_path:
            await run_blocking(Path(container.log_path).unlink, missing_ok=True)


class _Cursor:
    """A position in one log file, with what was read of an unfinished file line."""

    def __init__(self, path: Path, tail: int) -> None:
        self._path = path
        self._tail = tail
        self._file: BinaryIO | None = None
        self._parser = Parser()
        self._rest = b""
        self._offset = 0
        self._skip = 0

    def batch(self) -> tuple[list[LogEntry], bool]:
        """The next entries and whether there may be more at once (blocking)."""
        if self._file is None and not self._open():
            return [], False
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:  # somebody emptied the file
            self._offset, self._rest, self._parser = 0, b"", Parser()
        self._file.seek(self._offset)
        data = self._file.read(_BATCH)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b""
        return self._skipped(list(self._parser.feed(lines))), len(data) == _BATCH

    def last(self) -> list[LogEntry]:
        """What is left of unfinished lines when nothing more will be written."""
        return self._skipped(list(self._parser.end()))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _skipped(self, entries: list[LogEntry]) -> list[LogEntry]:
        if not self._skip:
            return entries
        kept = entries[self._skip :]
        self._skip -= len(entries) - len(kept)
        return kept

    def _open(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Internal(f"cannot read the log {self._path}: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        if self._tail >= 0:
            self._offset, self._skip = tail_position(self._file, self._tail)
        return True


@contextlib.contextmanager
def _cursor(path: Path, tail: int) -> Iterator[_Cursor]:
    cursor = _Cursor(path, tail)
    try:
        yield cursor
    finally:
        cursor.close()


async def _read_all(path: Path, query: LogQuery) -> AsyncGenerator[LogEntry, None]:
    with _cursor(path, query.tail) as cursor:
        more = True
        while more:
            entries, more = await run_blocking(cursor.batch)
            for entry in entries:
                yield entry
        for entry in cursor.last():
            yield entry


async def _follow(path: Path, query: LogQuery, ended: Ended) -> AsyncGenerator[LogEntry, None]:
    """All entries, then new ones, until `ended` is set (everything written before is read) or `until` has come."""
    try:
        watch = DirectoryWatch(path.parent)
    except FileNotFoundError:
        return
    with watch, _cursor(path, query.tail) as cursor:
        async with TaskOwner("log follower") as owner:
            owner.spawn(_wake(ended, watch.changed), name="end")
            while True:
                finished = ended.is_set()
                watch.changed.clear()
                more = True
                while more:
                    entries, more = await run_blocking(cursor.batch)
                    for entry in entries:
                        yield entry
                if finished:
                    break
                if not await _wait(watch.changed, query.until):
                    return
        for entry in cursor.last():
            yield entry


async def _wake(ended: Ended, changed: asyncio.Event) -> None:
    await ended.wait()
    changed.set()


async def _wait(changed: asyncio.Event, until: int) -> bool:
    """Wait for a change; False where the time `until` has come before."""
    if not until:
        await changed.wait()
        return True
    left = (until - time.time_ns()) / 1_000_000_000
    try:
        async with asyncio.timeout(max(left, 0)):
            await changed.wait()
    except TimeoutError:
        return False
    return True
