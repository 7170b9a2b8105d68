"""What a build tells while it goes on: vertexes, statuses and logs, as BuildKit's SolveStatus has them."""

from typing import Any, Protocol

import msgspec


class VertexEvent(msgspec.Struct, frozen=True):
    """A vertex changed: times are nanoseconds since the epoch, 0 for not yet. `result` is for our own renderers."""

    digest: str
    name: str
    inputs: tuple[str, ...] = ()
    started: int = 0
    completed: int = 0
    cached: bool = False
    error: str = ""
    result: Any = None


class StatusEvent(msgspec.Struct, frozen=True):
    """Progress inside a vertex; `total` is 0 where it is not known. `text` is shown as it is."""

    vertex: str
    id: str
    timestamp: int
    text: str = ""
    current: int = 0
    total: int = 0
    started: int = 0
    completed: int = 0
    message: dict[str, Any] | None = None


class LogEvent(msgspec.Struct, frozen=True):
    """Output of a step: `stream` is 1 or 2."""

    vertex: str
    stream: int
    data: bytes
    timestamp: int


BuildEvent = VertexEvent | StatusEvent | LogEvent


class EventSink(Protocol):
    def __call__(self, event: BuildEvent) -> None: ...


class StepLog(Protocol):
    """What a running operation may tell; the solver adds vertex and time."""

    def log(self, stream: int, data: bytes) -> None: ...

    def status(
        self, name: str, *, text: str = "", current: int = 0, total: int = 0, message: dict[str, Any] | None = None
    ) -> None: ...
