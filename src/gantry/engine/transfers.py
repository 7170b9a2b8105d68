"""Work that several callers want at once is done once: each hears of its progress, the last to leave ends it."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from gantry.aio import TaskOwner
from gantry.errors import GantryError, InvalidArgument
from gantry.ports import ProgressSink

T = TypeVar("T")


class _Running:
    def __init__(self, key: str) -> None:
        self.key = key
        self.sinks: list[ProgressSink] = []
        self.last: dict[str, dict[str, Any]] = {}
        self.task: asyncio.Task[tuple[Any, GantryError | None]] | None = None

    def __call__(self, message: dict[str, Any]) -> None:
        """May be called from any thread."""
        if name := message.get("id"):
            self.last[name] = message
        for sink in list(self.sinks):
            sink(message)


class Transfers:
    """Belongs to the event loop's thread."""

    def __init__(self, owner: TaskOwner) -> None:
        self._owner = owner
        self._running: dict[str, _Running] = {}

    async def join(
        self,
        key: str,
        sink: ProgressSink,
        work: Callable[[ProgressSink], Coroutine[Any, Any, T]],
        drop: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> tuple[T, bool]:
        """The result of `work`, and whether this caller began it.

        `drop` takes a result that nobody waits for any more.
        Whoever joined makes an attempt of their own where somebody else's failed for reasons of theirs.
        """
        while True:
            running = self._running.get(key)
            began = running is None
            if running is None:
                running = self._running[key] = _Running(key)
                running.task = self._owner.spawn(_caught(work(running)))
                running.task.add_done_callback(functools.partial(self._ended, running))
            else:
                for message in list(running.last.values()):
                    sink(message)
            result, error = await self._wait(running, sink, drop)
            if error is None:
                return result, began
            if began or isinstance(error, InvalidArgument):
                raise error

    async def _wait(
        self, running: _Running, sink: ProgressSink, drop: Callable[[Any], Coroutine[Any, Any, None]] | None
    ) -> tuple[Any, GantryError | None]:
        task = running.task
        assert task is not None
        running.sinks.append(sink)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if len(running.sinks) == 1:
                self._ended(running)  # nobody joins what is being ended
                task.cancel()
                await asyncio.wait({task})
                if drop is not None and not task.cancelled() and task.result()[1] is None:
                    await drop(task.result()[0])
            raise
        finally:
            running.sinks.remove(sink)

    def _ended(self, running: _Running, _: object = None) -> None:
        if self._running.get(running.key) is running:
            del self._running[running.key]


async def _caught(work: Coroutine[Any, Any, T]) -> tuple[T | None, GantryError | None]:
    try:
        return await work, None
    except GantryError as error:
        return None, error
