"""Who waits for a container: for its end, its removal, or its first output."""

import asyncio

from gantry.engine.registry import Registry
from gantry.errors import Conflict, GantryError
from gantry.model.container import Container, Phase
from gantry.ports import AttachStream, TaskStreams

CONDITIONS = ("not-running", "next-exit", "removed")

Outcome = tuple[int, str]  # exit code, and why the container could not be removed ("" where it could)


class Waiters:
    """`POST /containers/{id}/wait`, and an event per container that is set while it does not run."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._waiting: dict[str, list[tuple[str, asyncio.Future[Outcome]]]] = {}
        self._ended: dict[str, asyncio.Event] = {}

    def ended(self, container_id: str) -> asyncio.Event:
        """Set while the container does not run."""
        event = self._ended.get(container_id)
        if event is None:
            event = self._ended[container_id] = asyncio.Event()
            if not self._registry.get(container_id).status.running:
                event.set()
        return event

    def wait(self, container: Container, condition: str) -> "asyncio.Future[Outcome]":
        """A future of the exit code: condition is one of CONDITIONS."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not container.status.running:
            future.set_result((container.status.exit_code, ""))
            return future
        entry = (condition, future)
        waiting = self._waiting.setdefault(container.id, [])
        waiting.append(entry)
        future.add_done_callback(lambda _: waiting.remove(entry) if entry in waiting else None)
        return future

    def tell(self, container_id: str, code: int, *conditions: str, error: str = "") -> None:
        """End the waits for `conditions`."""
        for condition, future in list(self._waiting.get(container_id, ())):
            if condition in conditions and not future.done():
                future.set_result((code, error))

    def forget(self, container_id: str) -> None:
        """The container is gone; whoever follows its output comes to the end."""
        self._waiting.pop(container_id, None)
        if (event := self._ended.pop(container_id, None)) is not None:
            event.set()


class Attachers:
    """Attachments that were asked for before the process exists: they are made before it runs, so nothing is missed."""

    def __init__(self, streams: TaskStreams) -> None:
        self._streams = streams
        self._pending: dict[str, list[tuple[bool, asyncio.Future[AttachStream]]]] = {}

    async def attach(self, container: Container, *, stdin: bool) -> AttachStream:
        """The container's streams, now or when it is started next; raises Conflict where that start fails."""
        if container.status.phase in (Phase.RUNNING, Phase.PAUSED):
            return await self._streams.attach(container.id, stdin=stdin)
        future: asyncio.Future[AttachStream] = asyncio.get_running_loop().create_future()
        pending = self._pending.setdefault(container.id, [])
        pending.append((stdin, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                await future.result().close()
            raise
        finally:
            if (stdin, future) in pending:
                pending.remove((stdin, future))

    async def serve(self, container_id: str) -> None:
        """The process exists: connect everyone who waits."""
        for stdin, future in self._pending.pop(container_id, []):
            if future.done():
                continue
            try:
                stream = await self._streams.attach(container_id, stdin=stdin)
            except GantryError as error:
                if not future.done():
                    future.set_exception(error)
                continue
            if future.done():
                await stream.close()
            else:
                future.set_result(stream)

    def fail(self, container_id: str, error: GantryError) -> None:
        """There will be no process."""
        for _, future in self._pending.pop(container_id, []):
            if not future.done():
                future.set_exception(Conflict(error.message))
