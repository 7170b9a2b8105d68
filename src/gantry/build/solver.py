"""The solver: runs a graph of operations, each as soon as its inputs are there, each at most once.

It knows operations, cache keys and inputs, and nothing of Dockerfiles or images. Steps that two builds want at once
are run once, and both are told.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from gantry.aio import TaskOwner
from gantry.build.progress import BuildEvent, EventSink, LogEvent, StatusEvent, StepLog, VertexEvent
from gantry.model import timestamp

R = TypeVar("R")
_numbers = itertools.count()
_REPLAY = 10_000  # events of a running step that a second build is told when it joins


class Op(Protocol[R]):
    """One operation. A result is remembered under both keys, each "" where there is none.

    `shareable` says that it may outlive the build that started it, because another one waits for it too.
    """

    @property
    def shareable(self) -> bool: ...

    def cache_key(self, inputs: Sequence[R]) -> str:
        """A key that follows from the definition and the inputs alone; cheap."""
        ...

    async def content_key(self, inputs: Sequence[R]) -> str:
        """A key that looks at the contents which the operation reads; asked for where the other key fails."""
        ...

    async def run(self, inputs: Sequence[R], log: StepLog) -> R: ...


class Cache(Protocol[R]):
    """Remembers results by key."""

    async def load(self, key: str, inputs: Sequence[R]) -> R | None: ...

    async def save(self, keys: Sequence[str], inputs: Sequence[R], result: R) -> None: ...


class Vertex(Generic[R]):
    """A node of the graph. `name` is what is shown; `fresh` asks for a run even where a result is remembered."""

    def __init__(self, op: Op[R], inputs: "Sequence[Vertex[R]]" = (), name: str = "", *, fresh: bool = False) -> None:
        self.op = op
        self.inputs = tuple(inputs)
        self.name = name
        self.fresh = fresh
        text = "\0".join((name, str(next(_numbers)), *(vertex.digest for vertex in self.inputs)))
        self.digest: str = "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class _Outcome(Generic[R]):
    """A result or the error in its place: what tasks hand on, so that a failed step is no failed task."""

    def __init__(self, result: R | None = None, error: Exception | None = None) -> None:
        self._result = result
        self.error = error

    def get(self) -> R:
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]


class _Running(Generic[R]):
    """A step that runs, with those who listen to it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[_Outcome[R]] | None = None
        self.listeners: list[StepLog] = []
        self.told: list[tuple[str, dict[str, Any]]] = []

    def join(self, listener: StepLog) -> None:
        for method, arguments in self.told:
            getattr(listener, method)(**arguments)
        self.listeners.append(listener)

    def _tell(self, method: str, arguments: dict[str, Any]) -> None:
        if len(self.told) < _REPLAY:
            self.told.append((method, arguments))
        for listener in self.listeners:
            getattr(listener, method)(**arguments)

    def log(self, stream: int, data: bytes) -> None:
        self._tell("log", {"stream": stream, "data": data})

    def status(
        self, name: str, *, text: str = "", current: int = 0, total: int = 0, message: dict[str, Any] | None = None
    ) -> None:
        self._tell("status", {"name": name, "text": text, "current": current, "total": total, "message": message})


class Solver(Generic[R]):
    """Shared by all builds of a daemon. `parallel` bounds the operations that run at once."""

    def __init__(self, cache: Cache[R], *, parallel: int = 8) -> None:
        self._cache = cache
        self._slots = asyncio.Semaphore(parallel)
        self._running: dict[str, _Running[R]] = {}
        self._owner = TaskOwner("solver")

    async def solve(self, targets: Sequence[Vertex[R]], sink: EventSink) -> list[R]:
        """The targets' results; raises the first error, after everything that was running has been stopped."""
        async with TaskOwner("build") as owner:
            build = _Build(self, owner, sink)
            failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
            build.failed = failed
            tasks = [build.start(vertex) for vertex in targets]
            everything = owner.spawn(_all(tasks))
            waiting: set[asyncio.Future[Any]] = {everything, failed}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                raise failed.result()
            return [outcome.get() for outcome in everything.result()]

    async def close(self) -> None:
        """Stop every step and wait until each has cleaned up."""
        await self._owner.close()

    async def execute(self, vertex: Vertex[R], inputs: Sequence[R], log: StepLog) -> tuple[R, bool]:
        """One step's result, remembered, shared or made; and whether it was remembered."""
        quick = vertex.op.cache_key(inputs)
        if quick and not vertex.fresh and (found := await self._cache.load(quick, inputs)) is not None:
            return found, True
        content = await vertex.op.content_key(inputs)
        if content and not vertex.fresh and (found := await self._cache.load(content, inputs)) is not None:
            if quick:
                await self._cache.save([quick], inputs, found)
            return found, True
        keys = [key for key in (quick, content) if key]
        return await self._share(keys, vertex, inputs, log), False

    async def _share(self, keys: Sequence[str], vertex: Vertex[R], inputs: Sequence[R], log: StepLog) -> R:
        # A fresh run is nobody else's: whoever asks for it wants it to begin after he asked.
        name = "" if vertex.fresh or not keys or not vertex.op.shareable else keys[-1]
        running = self._running.get(name) if name else None
        if running is None or running.task is None or running.task.done():
            running = _Running()
            if name:
                self._running[name] = running
            running.task = self._owner.spawn(self._run(name, keys, vertex, inputs, running))
        running.join(log)
        try:
            return (await asyncio.shield(running.task)).get()
        finally:
            running.listeners.remove(log)
            if not running.listeners and not running.task.done():
                running.task.cancel()
                await asyncio.wait({running.task})

    async def _run(
        self, name: str, keys: Sequence[str], vertex: Vertex[R], inputs: Sequence[R], running: "_Running[R]"
    ) -> _Outcome[R]:
        try:
            async with self._slots:
                result = await vertex.op.run(inputs, running)
            await self._cache.save(keys, inputs, result)
            return _Outcome(result)
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits for this step
            return _Outcome(error=error)
        finally:
            if self._running.get(name) is running:
                del self._running[name]


async def _all(tasks: "Sequence[asyncio.Task[_Outcome[R]]]") -> list[_Outcome[R]]:
    return [await task for task in tasks]


class _Build(Generic[R]):
    """One build's walk over its graph."""

    failed: "asyncio.Future[Exception]"

    def __init__(self, solver: Solver[R], owner: TaskOwner, sink: EventSink) -> None:
        self._solver = solver
        self._owner = owner
        self._sink = sink
        self._tasks: dict[Vertex[R], asyncio.Task[_Outcome[R]]] = {}

    def start(self, vertex: Vertex[R]) -> "asyncio.Task[_Outcome[R]]":
        """Start a vertex and all below it; without recursion, a Dockerfile may be long."""
        pending = [vertex]
        while pending:
            current = pending[-1]
            missing = [below for below in current.inputs if below not in self._tasks]
            if current in self._tasks or not missing:
                pending.pop()
                if current not in self._tasks:
                    self._tasks[current] = self._owner.spawn(self._solve(current))
            else:
                pending.extend(missing)
        return self._tasks[vertex]

    async def _solve(self, vertex: Vertex[R]) -> _Outcome[R]:
        outcomes = [await self._tasks[below] for below in vertex.inputs]
        if error := next((outcome.error for outcome in outcomes if outcome.error is not None), None):
            return _Outcome(error=error)
        began = timestamp.now()
        shown = VertexEvent(vertex.digest, vertex.name, tuple(below.digest for below in vertex.inputs), began)
        self._sink(shown)
        try:
            result, cached = await self._solver.execute(
                vertex, [outcome.get() for outcome in outcomes], _Told(self._sink, vertex.digest)
            )
        except Exception as error:  # noqa: BLE001 - raised by `solve`
            self._sink(_ended(shown, error=str(error)))
            if not self.failed.done():
                self.failed.set_result(error)
            return _Outcome(error=error)
        self._sink(_ended(shown, cached=cached, result=result))
        return _Outcome(result)


def _ended(event: VertexEvent, *, cached: bool = False, error: str = "", result: Any = None) -> VertexEvent:
    return VertexEvent(event.digest, event.name, event.inputs, event.started, timestamp.now(), cached, error, result)


class _Told:
    """A step's words on their way to one build's listener."""

    def __init__(self, sink: EventSink, vertex: str) -> None:
        self._sink = sink
        self._vertex = vertex

    def _send(self, event: BuildEvent) -> None:
        self._sink(event)

    def log(self, stream: int, data: bytes) -> None:
        self._send(LogEvent(self._vertex, stream, data, timestamp.now()))

    def status(
        self, name: str, *, text: str = "", current: int = 0, total: int = 0, message: dict[str, Any] | None = None
    ) -> None:
        self._send(StatusEvent(self._vertex, name, timestamp.now(), text, current, total, message=message))
