"""The daemon's own start: with nothing, with 500 containers, and after it was killed."""

import signal
from typing import ClassVar

from bench.cases.api import create, each
from bench.cases.life import sweep
from bench.engines import Engine, Gantry
from bench.model import Case, Metric, Surroundings, Target


class _Boot(Case):
    """On a daemon of the case's own; the peers' daemons belong to others and are not restarted."""

    group = "daemon"
    kinds = frozenset(("gantry",))
    rounds = (1, 5, 10)
    counts: ClassVar[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = ((0, 0), (0, 0), (0, 0))

    def __init__(self) -> None:
        self._own: Gantry | None = None

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        self._own = own = Gantry(here.scratch, f"g-{self.name}")
        own.load(here.images.archive("busybox"))
        stopped, running = here.scale.pick(*self.counts)
        if stopped or running:
            made = create(own, stopped + running)
            each(own, "POST", "/containers/ID/start", made[:running])

    def finish(self, engine: Engine, here: Surroundings) -> None:
        if self._own is not None:
            sweep(self._own)
            self._own.close()
        self._own = None


class Start(_Boot):
    def __init__(self, name: str, title: str, counts: tuple[int, int, int], running: tuple[int, int, int],
                 *targets: Target) -> None:  # fmt: skip
        super().__init__()
        self.name = name
        self.title = title
        self.counts = tuple(zip(counts, running, strict=True))  # type: ignore[misc,assignment]
        self.metrics = (Metric(targets=targets),)

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        assert self._own is not None
        self._own.halt()
        return {"": self._own.boot() * 1000}


class Killed(_Boot):
    name = "daemon-killed"
    title = "from SIGKILL to an answer, with ten running containers"
    counts = ((0, 2), (0, 10), (0, 10))

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        assert self._own is not None
        self._own.halt(signal.SIGKILL)
        return {"": self._own.boot() * 1000}


CASES = (
    Start("daemon-start", "the daemon's start with no containers", (0, 0, 0), (0, 0, 0)),
    Start("daemon-start-full", "the daemon's start with 500 stopped and 50 running containers",
          (5, 500, 500), (2, 50, 50), Target(1500, "", "7")),
    Killed(),
)  # fmt: skip
