"""Reading container logs: from any line on, across the files of a log, as they grow, in bounded memory."""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

from gantry.aio import TaskOwner, run_blocking
from gantry.linux.inotify import DirectoryWatch
from gantry.logs.files import LogFile, existing, open_log
from gantry.logs.k8s_file import Parser, tail_position
from gantry.ports import Ended, LogEntry, LogQuery

_BATCH = 256 << 10
_LONGEST_LINE = 4 << 20  # conmon's are far shorter; a damaged file must not fill the memory


class Cursor:
    """A place in the log at `path`, with what was read of an unfinished file line. Its methods block."""

    def __init__(self, path: Path, tail: int = -1) -> None:
        self._path = path
        self._tail = tail
        self._file: BinaryIO | None = None
        self._log = LogFile(path, 0, 0)
        self._parser = Parser()
        self._rest = b""
        self._offset = 0
        self._skip = 0

    @property
    def place(self) -> tuple[int, int, int] | None:
        """Number and inode of the file, and how many of its bytes have come out; None in the middle of a line."""
        if self._parser.pending:
            return None
        return self._log.number, self._log.inode, self._offset - len(self._rest)

    def resume(self, number: int, inode: int, offset: int) -> None:
        """Go on at a `place` of an earlier cursor; where that file is gone, with the oldest newer one that is left."""
        for file in existing(self._path):
            if file.number == number and (file.inode == inode or not file.current):
                self._enter(file)
                self._offset = offset
                return
        self._log = LogFile(self._path, number, inode)

    def batch(self) -> tuple[list[LogEntry], bool]:
        """The next entries, and whether there may be more at once."""
        if self._file is None and not self._open_first():
            return [], False
        data = self._read()
        if data:
            return self._entries(data), True
        # The end of this file, and of the log unless there is a newer file: then nobody writes to this one any more.
        following = self._newer()
        if following is None:
            return [], False
        entries = self._entries(data) if (data := self._read()) else []
        if not data:
            self._enter(following)
        return entries, True

    def last(self) -> list[LogEntry]:
        """What is left of unfinished lines when nothing more will be written."""
        return self._skipped(list(self._parser.end()))

    def lag(self) -> int:
        """Bytes that are written and not yet read, in this file and the newer ones."""
        newer = [file for file in existing(self._path) if file.number > self._log.number]
        behind = max(0, os.fstat(self._file.fileno()).st_size - self._offset) if self._file else 0
        return behind + sum(file.path.stat().st_size for file in newer if file.path.exists())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> bytes:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:  # somebody emptied the file
            self._offset, self._rest, self._parser = 0, b"", Parser()
        self._file.seek(self._offset)
        data = self._file.read(_BATCH)
        self._offset += len(data)
        return data

    def _entries(self, data: bytes) -> list[LogEntry]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b""
        return self._skipped(self._parser.feed(lines))

    def _skipped(self, entries: list[LogEntry]) -> list[LogEntry]:
        if not self._skip:
            return entries
        kept = entries[self._skip :]
        self._skip -= len(entries) - len(kept)
        return kept

    def _open_first(self) -> bool:
        if self._log.inode:  # a resumed one whose file has gone
            following = self._newer()
            return following is not None and self._enter(following)
        if self._tail < 0:
            return any(self._enter(file) for file in existing(self._path))
        return self._open_tail()

    def _open_tail(self) -> bool:
        """Enter the file where the last lines begin: from the newest backwards, as far as needed."""
        wanted = self._tail
        chosen: deque[LogFile] = deque(existing(self._path))
        while chosen:
            file = chosen.pop()
            if not self._enter(file):
                continue
            assert self._file is not None
            self._offset, self._skip, found = tail_position(self._file, wanted)
            wanted -= found
            if wanted <= 0 or not chosen:
                return True
        return False

    def _newer(self) -> LogFile | None:
        """The next file; None while this one is the last."""
        files = existing(self._path)
        if any(file.current and file.inode == self._log.inode for file in files):
            return None
        newer = [file for file in files if file.number > self._log.number or file.current]
        return newer[0] if newer else None

    def _enter(self, file: LogFile) -> bool:
        self.close()
        self._file = open_log(file)
        if self._file is None:
            return False
        inode = file.inode if file.compressed else os.fstat(self._file.fileno()).st_ino
        self._log = file._replace(inode=inode)
        self._offset, self._rest = 0, b""
        return True


async def read(path: Path, query: LogQuery, ended: Ended) -> AsyncGenerator[list[LogEntry], None]:
    """Entries in batches; with `follow` until `ended` is set and all is read, or `until` has come."""
    follow = query.follow and not ended.is_set()
    everything = query.stdout and query.stderr and not query.since and not query.until
    batches = _follow(path, query, ended) if follow else _read_all(path, query)
    try:
        async for batch in batches:
            chosen = batch if everything else [entry for entry in batch if _wanted(entry, query)]
            if chosen:
                yield chosen
            if query.until and batch and batch[-1].time > query.until:
                return
    finally:
        await batches.aclose()


def _wanted(entry: LogEntry, query: LogQuery) -> bool:
    return (
        entry.time >= query.since
        and (not query.until or entry.time <= query.until)
        and (query.stdout if entry.stream == 1 else query.stderr)
    )


async def _read_all(path: Path, query: LogQuery) -> AsyncGenerator[list[LogEntry], None]:
    cursor = Cursor(path, query.tail)
    try:
        more = True
        while more:
            entries, more = await run_blocking(cursor.batch)
            if entries:
                yield entries
        if rest := cursor.last():
            yield rest
    finally:
        cursor.close()


async def _follow(path: Path, query: LogQuery, ended: Ended) -> AsyncGenerator[list[LogEntry], None]:
    try:
        watch = DirectoryWatch(path.parent)
    except FileNotFoundError:
        return
    cursor = Cursor(path, query.tail)
    try:
        with watch:
            async with TaskOwner("log follower") as owner:
                owner.spawn(_wake(ended, watch.changed), name="end")
                while True:
                    finished = ended.is_set()
                    watch.changed.clear()
                    more = True
                    while more:
                        entries, more = await run_blocking(cursor.batch)
                        if entries:
                            yield entries
                    if finished:
                        break
                    if not await _wait(watch.changed, query.until):
                        return
            if rest := cursor.last():
                yield rest
    finally:
        cursor.close()


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
