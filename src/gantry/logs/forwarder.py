"""From a container's log file to a log server: each entry at least once, also over the daemon's end."""

import asyncio
import contextlib
import logging
from pathlib import Path

import msgspec

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Unavailable
from gantry.linux.inotify import DirectoryWatch
from gantry.logs.reader import Cursor
from gantry.logs.sinks.connection import Sink
from gantry.ports import Ended, LogEntry

log = logging.getLogger(__name__)

PLACE = "log-place.json"  # beside the log: how far it was sent
_FIRST_PAUSE = 0.1  # seconds before a server that failed is tried again; then twice as long
_LONGEST_PAUSE = 5.0
_PATIENCE_AT_THE_END = 10.0  # how long a server may fail once the container has ended


class _Place(msgspec.Struct, frozen=True):
    number: int
    inode: int
    offset: int


class Forwarder:
    """Reads behind the container and sends. `buffer` is how far it may lag in bytes, 0 for any distance."""

    def __init__(self, name: str, path: Path, sink: Sink, *, buffer: int, connected: bool) -> None:
        self._name = name
        self._path = path
        self._sink = sink
        self._buffer = buffer
        self._connected = connected
        self._place = path.parent / PLACE

    async def run(self, ended: Ended) -> None:
        """Until `ended` is set and all is sent, or the server failed for too long after that."""
        try:
            watch = DirectoryWatch(self._path.parent)
        except FileNotFoundError:
            return
        cursor = Cursor(self._path)
        try:
            if (place := await run_blocking(self._read_place)) is not None:
                await run_blocking(cursor.resume, place.number, place.inode, place.offset)
            with watch:
                async with TaskOwner("log forwarder") as owner:
                    owner.spawn(self._wake(ended, watch), name="end")
                    while True:
                        finished = ended.is_set()
                        watch.changed.clear()
                        await self._pass_on(cursor, ended)
                        if finished:
                            break
                        await watch.changed.wait()
                if rest := cursor.last():
                    await self._deliver(rest, ended)
        except _GaveUp as error:
            log.warning("container %s: its last output could not be sent: %s", self._name, error)
        finally:
            cursor.close()
            await self._sink.close()

    async def _pass_on(self, cursor: Cursor, ended: Ended) -> None:
        more = True
        while more:
            entries, more = await run_blocking(cursor.batch)
            if entries:
                await self._deliver(entries, ended)
                await self._remember(cursor)
            if self._buffer and more and await run_blocking(cursor.lag) > self._buffer:
                log.warning("container %s: the log server is too slow, output was left out", self._name)
                while more:
                    _, more = await run_blocking(cursor.batch)

    async def _deliver(self, entries: list[LogEntry], ended: Ended) -> None:
        pause = _FIRST_PAUSE
        failing = 0.0
        while True:
            try:
                if not self._connected:
                    await self._sink.connect()
                    self._connected = True
                await self._sink.send(entries)
            except (OSError, Unavailable) as error:
                if self._connected or not failing:
                    log.warning("container %s: log server: %s", self._name, error)
                self._connected = False
                failing = failing + pause if ended.is_set() else 0.0
                if failing > _PATIENCE_AT_THE_END:
                    raise _GaveUp(str(error)) from error
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    def _read_place(self) -> _Place | None:
        try:
            return msgspec.json.decode(self._place.read_bytes(), type=_Place)
        except (OSError, msgspec.DecodeError):
            return None

    async def _remember(self, cursor: Cursor) -> None:
        """Written down after it was sent: what a killed daemon did not write down is sent once more."""
        if (place := cursor.place) is None:
            return  # in the middle of a line

        def write() -> None:
            temporary = self._place.with_suffix(".tmp")
            temporary.write_bytes(msgspec.json.encode(_Place(*place)))
            temporary.rename(self._place)

        with contextlib.suppress(FileNotFoundError):  # the container is being removed
            await run_blocking(write)

    @staticmethod
    async def _wake(ended: Ended, watch: DirectoryWatch) -> None:
        await ended.wait()
        watch.changed.set()


class _GaveUp(Exception):
    """The server failed for too long after the container's end."""
