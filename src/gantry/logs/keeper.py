"""The logs of all containers: conmon writes them, this room sets files aside, sends them on, and reads them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import GantryError, InvalidArgument, Unavailable, Unsupported
from gantry.linux.inotify import DirectoryWatch, FileWatches
from gantry.logs import files, reader
from gantry.logs.forwarder import Forwarder
from gantry.logs.settings import Rotation, Settings, details, failed, settings_of
from gantry.logs.sinks.connection import Sink
from gantry.logs.sinks.fluentd import Fluentd
from gantry.logs.sinks.gelf import Gelf
from gantry.logs.sinks.journald import Journald
from gantry.logs.sinks.syslog import Syslog
from gantry.model import log_options
from gantry.model.container import Container
from gantry.ports import Ended, LogEntry, LogQuery

log = logging.getLogger(__name__)

_FASTEST = 200e6  # bytes a second that a container is thought to write at most: when to look again
_SOONEST, _LATEST = 0.02, 1.0
_REOPEN_TIMEOUT = 10.0
_DRAIN_TIMEOUT = 12.0


class LogKeeper:
    """`ports.Logs`. `reopen` tells the writer of a container's log to open it anew, and raises where it has ended."""

    def __init__(self, reopen: Callable[[str], Awaitable[None]], owner: TaskOwner, daemon: str = "gantry") -> None:
        self._reopen = reopen
        self._owner = owner
        self._daemon = daemon
        self._watches = FileWatches()
        self._connected: dict[str, Sink] = {}
        self._working: dict[str, asyncio.Task[None]] = {}

    # ------------------------------------------------------------------------------------------- writing

    async def prepare(self, container: Container) -> None:
        """Before a start: raises Internal where the options are wrong or the log server does not answer."""
        if not container.log_path:
            return
        try:
            settings = settings_of(container, self._daemon)
            sink = _sink(container, settings)
            if sink is not None and not getattr(sink, "later", False):
                await sink.connect()
        except (InvalidArgument, Unavailable) as error:
            raise failed(error) from error
        if sink is not None:
            if (unused := self._connected.pop(container.id, None)) is not None:
                await unused.close()
            self._connected[container.id] = sink

    def watch(self, container: Container, ended: Ended) -> None:
        """From here on, until it has ended: set its files aside, and send what it writes to its log server."""
        if not container.log_path:
            return
        try:
            settings = settings_of(container, self._daemon)
        except InvalidArgument as error:  # an earlier daemon let it start
            log.warning("container %s: %s", container.id[:12], error)
            settings = Settings(Rotation(), container.id[:12], {})
        before = self._working.get(container.id)
        task = self._owner.spawn(self._work(container, settings, ended, before), name=f"log {container.id[:12]}")
        self._working[container.id] = task
        task.add_done_callback(lambda done: self._forget(container.id, done))

    async def drain(self, container_id: str) -> None:
        """Wait until what an ended container wrote was sent, not for ever."""
        if (task := self._working.get(container_id)) is not None:
            await asyncio.wait({task}, timeout=_DRAIN_TIMEOUT)
            if not task.done():
                task.cancel()
        if (sink := self._connected.pop(container_id, None)) is not None:
            await sink.close()

    def _forget(self, container_id: str, task: "asyncio.Task[None]") -> None:
        if self._working.get(container_id) is task:
            del self._working[container_id]

    async def _work(
        self, container: Container, settings: Settings, ended: Ended, before: "asyncio.Task[None] | None"
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        path = Path(container.log_path)
        async with TaskOwner("log") as owner:
            forwarding = None
            connected = self._connected.pop(container.id, None)
            try:
                sink = connected or _sink(container, settings)
            except (InvalidArgument, Unavailable) as error:
                log.warning("container %s: its output is not sent: %s", container.id[:12], error)
                sink = None
            if sink is not None:
                later = connected is None or getattr(sink, "later", False)
                forwarder = Forwarder(container.id[:12], path, sink, buffer=settings.buffer, connected=not later)
                forwarding = owner.spawn(forwarder.run(ended), name="forward")
            rotating = owner.spawn(self._rotate(container, path, settings.rotation), name="rotate")
            await ended.wait()
            rotating.cancel()
            if forwarding is not None:
                await asyncio.wait({forwarding})
            await run_blocking(_compress, path, settings.rotation)

    async def _rotate(self, container: Container, path: Path, rotation: Rotation) -> None:
        """Set the file aside whenever it is large enough: looked at when it is written to, but not at every write."""
        if not rotation.size:
            return
        size = await run_blocking(_size, path)
        if size < 0 and files.existing(path):
            await self._opened_anew(container.id, path)  # an earlier daemon was killed in between
        while True:
            written = self._watches.once(path)
            size = await run_blocking(_size, path)
            if size >= rotation.size:
                if await self._set_aside(container.id, path, rotation):
                    continue
                return
            await written
            left = (rotation.size - size) / _FASTEST
            await asyncio.sleep(min(_LATEST, max(_SOONEST, left)))

    async def _set_aside(self, container_id: str, path: Path, rotation: Rotation) -> bool:
        try:
            await run_blocking(files.set_aside, path, rotation)
            if not await self._opened_anew(container_id, path):
                return False
            await run_blocking(files.compress, path, rotation)
        except OSError as error:
            log.warning("container %s: its log cannot be set aside: %s", container_id[:12], error)
            return False
        return True

    async def _opened_anew(self, container_id: str, path: Path) -> bool:
        """Have the writer open a new file; False where it has ended."""
        try:
            with DirectoryWatch(path.parent) as watch:
                await self._reopen(container_id)
                async with asyncio.timeout(_REOPEN_TIMEOUT):
                    while await run_blocking(_size, path) < 0:
                        await watch.changed.wait()
                        watch.changed.clear()
        except (GantryError, FileNotFoundError):
            return False
        except TimeoutError:
            log.warning("container %s: conmon does not open a new log", container_id[:12])
            return False
        return True

    # ------------------------------------------------------------------------------------------- reading

    async def read(self, container: Container, query: LogQuery, ended: Ended) -> AsyncIterator[list[LogEntry]]:
        if not container.log_path or not log_options.readable(container.host_config.log_config):
            raise Unsupported("configured logging driver does not support reading")
        batches = reader.read(Path(container.log_path), query, ended)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                yield batch

    def details(self, container: Container) -> bytes:
        """What `--details` puts before each line: the labels and variables that the log's options choose."""
        try:
            return details(settings_of(container, self._daemon).attributes)
        except InvalidArgument as error:
            raise Unsupported(error.message) from error


def _sink(container: Container, settings: Settings) -> Sink | None:
    """The log server of a container's driver; None for drivers that are files."""
    driver, options = container.host_config.log_config.type, container.host_config.log_config.config or {}
    if driver == "syslog":
        return Syslog(options, settings.tag)
    if driver == "gelf":
        return Gelf(options, settings.tag, container, settings.attributes)
    if driver == "fluentd":
        return Fluentd(options, settings.tag, container, settings.attributes)
    if driver == "journald":
        return Journald(settings.tag, container, settings.attributes)
    return None


def _size(path: Path) -> int:
    """The file's size in bytes, -1 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _compress(path: Path, rotation: Rotation) -> None:
    with contextlib.suppress(FileNotFoundError):  # the container is being removed
        files.compress(path, rotation)
