"""The two ways in which a build's events become lines for a client: the classic builder's text, and vertexes."""

import base64
import codecs
from collections.abc import Sequence
from typing import Any, Protocol

from gantry.build.plan import Step
from gantry.build.progress import BuildEvent, LogEvent, StatusEvent, VertexEvent
from gantry.build.run import CONTAINER
from gantry.build.state import BuildState
from gantry.model import timestamp
from gantry.model.identity import short_id
from gantry.ports import ProgressSink


class Renderer(Protocol):
    """Gets a build's events and writes messages."""

    def __call__(self, event: BuildEvent) -> None: ...

    def plan(self, steps: Sequence[Step]) -> None: ...

    def warn(self, text: str) -> None: ...

    def failed(self) -> None:
        """Write what was held back; the error follows."""
        ...

    def finished(self, image_id: str, tags: Sequence[str]) -> None: ...


class ClassicRenderer:
    """`Step 1/3 : …` in the order of the Dockerfile, whatever order the steps run in.

    Steps that run beside the one that is being shown are held back until it has ended.
    """

    def __init__(self, sink: ProgressSink, *, remove: bool = True, force_remove: bool = False, quiet: bool = False):
        self._sink = sink
        self._remove = remove
        self._force = force_remove
        self._quiet = quiet
        self._held: list[dict[str, Any]] = []
        self._shown: list[_ShownStep] = []
        self._by_vertex: dict[str, list[_ShownStep]] = {}
        self._front = 0

    def plan(self, steps: Sequence[Step]) -> None:
        self._shown = [_ShownStep(step, number, len(steps)) for number, step in enumerate(steps, 1)]
        for shown in self._shown:
            for vertex in shown.step.vertexes:
                self._by_vertex.setdefault(vertex.digest, []).append(shown)
        self._advance()

    def __call__(self, event: BuildEvent) -> None:
        digest = event.digest if isinstance(event, VertexEvent) else event.vertex
        if not self._shown:
            if isinstance(event, StatusEvent) and event.message is not None:
                self._write(event.message)
            return
        for shown in self._by_vertex.get(digest, ()):
            if isinstance(event, VertexEvent):
                shown.vertex(event, remove=self._remove, force=self._force)
            elif isinstance(event, LogEvent):
                shown.log(event)
            else:
                shown.status(event)
        self._advance()

    def warn(self, text: str) -> None:
        self._write({"stream": f"{text}\n"})

    def failed(self) -> None:
        for shown in self._shown[self._front :]:
            if shown.failed:
                for message in shown.take():
                    self._write(message)
        self._quiet = False
        held, self._held = self._held, []
        for message in held:
            self._sink(message)

    def finished(self, image_id: str, tags: Sequence[str]) -> None:
        if self._quiet:
            self._sink({"stream": f"{image_id}\n"})
            return
        self._write({"stream": f"Successfully built {short_id(image_id)}\n"})
        for tag in tags:
            self._write({"stream": f"Successfully tagged {tag}\n"})

    def _advance(self) -> None:
        while self._front < len(self._shown):
            shown = self._shown[self._front]
            for message in shown.take():
                self._write(message)
            if not shown.done:
                return
            self._front += 1

    def _write(self, message: dict[str, Any]) -> None:
        if self._quiet:
            self._held.append(message)
        else:
            self._sink(message)


class _ShownStep:
    def __init__(self, step: Step, number: int, total: int) -> None:
        self.step = step
        self.failed = False
        self._left = {vertex.digest for vertex in step.vertexes}
        self._last = step.vertexes[-1].digest if step.vertexes else ""
        self._messages: list[dict[str, Any]] = [
            {"stream": f"Step {number}/{total} : {step.text}"}, {"stream": "\n"},
        ]  # fmt: skip
        if step.triggers:
            plural = "s" if step.triggers > 1 else ""
            self._messages += [{"stream": f"# Executing {step.triggers} build trigger{plural}"}, {"stream": "\n"}]
        self._open = not step.vertexes
        self._containers: dict[str, str] = {}
        self._decoders: dict[tuple[str, int], codecs.IncrementalDecoder] = {}

    @property
    def done(self) -> bool:
        return not self._left

    def take(self) -> list[dict[str, Any]]:
        if not self._open:
            return []
        taken, self._messages = self._messages, []
        return taken

    def _stream(self, text: str) -> None:
        self._messages.append({"stream": text})

    def vertex(self, event: VertexEvent, *, remove: bool, force: bool) -> None:
        self._open = True
        if not event.completed or self._is_base(event.digest):
            if event.completed and not event.error:
                self._left.discard(event.digest)
                self._end(event)
            return
        container = self._containers.pop(event.digest, "")
        if event.error:
            self.failed = True
            if container and force:
                self._stream(f"Removing intermediate container {container}\n")
            return
        if event.cached:
            self._stream(" ---> Using cache\n")
        if container and remove:
            self._stream(f" ---> Removed intermediate container {container}\n")
        self._left.discard(event.digest)
        self._end(event)

    def _is_base(self, digest: str) -> bool:
        """Whether this is the end of an earlier stage: its own step shows what it does."""
        return self.step.on_stage and digest == self.step.vertexes[0].digest

    def _end(self, event: VertexEvent) -> None:
        state = event.result
        if event.digest == self._last and isinstance(state, BuildState):
            self._stream(f" ---> {short_id(state.image_id)}\n")
            if self.step.ends_stage and state.image_id:
                self._messages.append({"aux": {"ID": state.image_id}})

    def log(self, event: LogEvent) -> None:
        if self._is_base(event.vertex):
            return
        decoder = self._decoders.setdefault(
            (event.vertex, event.stream), codecs.getincrementaldecoder("utf-8")("replace")
        )
        if text := decoder.decode(event.data):
            self._stream(f"\x1b[91m{text}\x1b[0m" if event.stream == 2 else text)

    def status(self, event: StatusEvent) -> None:
        if self._is_base(event.vertex):
            return
        if event.message is not None:
            self._messages.append(event.message)
        elif event.id == CONTAINER:
            self._containers[event.vertex] = event.text
            self._stream(f" ---> Running in {event.text}\n")
        else:
            detail = {"current": event.current, "total": event.total}
            self._messages.append({"status": event.id, "progressDetail": detail, "id": short_id(event.vertex)})


class VertexRenderer:
    """One JSON object per event, with the fields of BuildKit's SolveStatus: `vertex`, `status`, `log`."""

    def __init__(self, sink: ProgressSink) -> None:
        self._sink = sink

    def plan(self, steps: Sequence[Step]) -> None:
        for step in steps:
            for vertex in step.vertexes:
                inputs = [below.digest for below in vertex.inputs]
                self._sink({"vertex": {"digest": vertex.digest, "inputs": inputs, "name": vertex.name}})

    def __call__(self, event: BuildEvent) -> None:
        if isinstance(event, VertexEvent):
            shown: dict[str, Any] = {"digest": event.digest, "inputs": list(event.inputs), "name": event.name}
            shown["started"] = timestamp.rfc3339(event.started)
            if event.completed:
                shown["completed"] = timestamp.rfc3339(event.completed)
            if event.cached:
                shown["cached"] = True
            if event.error:
                shown["error"] = event.error
            if isinstance(event.result, BuildState) and event.result.image_id:
                shown["image"] = event.result.image_id
            self._sink({"vertex": shown})
        elif isinstance(event, LogEvent):
            self._sink(
                {
                    "log": {
                        "vertex": event.vertex,
                        "stream": event.stream,
                        "data": base64.b64encode(event.data).decode(),
                        "timestamp": timestamp.rfc3339(event.timestamp),
                    }
                }
            )
        elif event.message is not None:
            self._sink({"status": {**_pull(event.message), "vertex": event.vertex}})
        else:
            self._sink(
                {
                    "status": {
                        "id": event.id, "vertex": event.vertex, "name": event.text, "current": event.current,
                        "total": event.total, "timestamp": timestamp.rfc3339(event.timestamp),
                    }
                }
            )  # fmt: skip

    def warn(self, text: str) -> None:
        self._sink({"warning": {"short": text}})

    def failed(self) -> None:
        """Nothing is held back here."""

    def finished(self, image_id: str, tags: Sequence[str]) -> None:
        self._sink({"aux": {"ID": image_id}})
        for tag in tags:
            self._sink(
                {"status": {"id": f"naming to {tag}", "name": tag, "completed": timestamp.rfc3339(timestamp.now())}}
            )


def _pull(message: dict[str, Any]) -> dict[str, Any]:
    """A registry client's progress message as a status."""
    detail = message.get("progressDetail") or {}
    return {
        "id": message.get("id", ""), "name": message.get("status", ""), "current": detail.get("current", 0),
        "total": detail.get("total", 0), "timestamp": timestamp.rfc3339(timestamp.now()),
    }  # fmt: skip
