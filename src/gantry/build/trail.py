"""What the steps of a build gave so far, so that one that fails can say where it stands and on what."""

from gantry.build.errors import StepFailed
from gantry.build.history import DEFAULT_SHELL
from gantry.build.instructions import Dockerfile
from gantry.build.plan import Plan
from gantry.build.progress import BuildEvent, EventSink, VertexEvent
from gantry.build.state import BuildState
from gantry.ports import LeaseHandle


class Trail:
    """Passes a build's events on and keeps the results: for explanations, and from the collector."""

    def __init__(self, sink: EventSink, lease: LeaseHandle) -> None:
        self._sink = sink
        self._lease = lease
        self._results: dict[str, BuildState] = {}
        self._failed: VertexEvent | None = None

    def __call__(self, event: BuildEvent) -> None:
        if isinstance(event, VertexEvent):
            if event.error and self._failed is None:
                self._failed = event
            elif isinstance(event.result, BuildState):
                state = self._results[event.digest] = event.result
                held = (state.image_id, state.chain_id, *(layer.digest for layer in state.layers))
                self._lease.add(*filter(None, held))
        self._sink(event)

    def explain(self, error: StepFailed, plan: Plan, dockerfile: Dockerfile) -> None:
        """Add to `error` the lines of its step and the image of the state before."""
        failed = self._failed
        if failed is None:
            return
        step = next((each for each in plan.steps if any(v.digest == failed.digest for v in each.vertexes)), None)
        before = self._results.get(failed.inputs[0]) if failed.inputs else None
        error.explained(
            dockerfile.name, dockerfile.source, (step.start, step.end) if step else (0, 0),
            before.image_id if before else "", (before.config.shell if before else None) or DEFAULT_SHELL,
        )  # fmt: skip
