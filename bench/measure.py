"""The measuring: every contestant once per round, so that what disturbs the machine disturbs them alike."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bench.engines import Engine
from bench.model import Case, Failed, Metric, Skip, Surroundings


@dataclass
class Result:
    """The samples of one case by metric name, then contestant; `skipped` and `errors` say why one has none."""

    case: Case
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def metric(self, name: str) -> Metric:
        return next(metric for metric in self.case.metrics if metric.name == name)


def takes_part(case: Case, engine: Engine) -> bool:
    return engine.kind in case.kinds and (engine.name == engine.kind or case.other_clients)


def measure(case: Case, here: Surroundings, budget: float, tell: Callable[[str], None] = lambda _: None) -> Result:
    """Prepare, warm up, then sample in rounds until there are enough or `budget` seconds are over (three at least)."""
    result = Result(case)
    began = time.monotonic()
    ready: list[Engine] = []
    try:
        for engine in here.contestants:
            if takes_part(case, engine):
                tell(f"{case.name}: preparing {engine.name}")
                _attempt(result, engine, partial(_base, engine, here))
                if engine.name not in result.errors and _attempt(result, engine, partial(case.prepare, engine, here)):
                    ready.append(engine)
        warm_up = here.scale.pick(0, case.warm_up, case.warm_up)
        for turn in range(warm_up + case.rounds[here.scale]):
            enough = turn >= warm_up + min(3, case.rounds[here.scale])
            if enough and time.monotonic() - began > budget:
                break
            for engine in list(ready):
                tell(f"{case.name}: {engine.name}, round {turn + 1}")
                if not _attempt(result, engine, partial(_sample, result, engine, here, turn >= warm_up)):
                    ready.remove(engine)
    finally:
        for engine in here.contestants:
            if takes_part(case, engine):
                _attempt(result, engine, partial(case.finish, engine, here))
    result.seconds = time.monotonic() - began
    return result


def _base(engine: Engine, here: Surroundings) -> bool:
    """Have the image that every case uses: whoever shares a peer may have removed it; whether it was missing."""
    missing = engine.has_images and engine.run(f"image inspect {engine.image}", check=False).status != 0
    if missing:
        engine.load(here.images.archive("busybox"))
    return missing


def _sample(result: Result, engine: Engine, here: Surroundings, counts: bool) -> None:
    try:
        values = result.case.sample(engine, here)
    except Failed:
        if not _base(engine, here):
            raise
        values = result.case.sample(engine, here)
    if counts:
        for name, value in values.items():
            result.samples.setdefault(name, {}).setdefault(engine.name, []).append(value)


def _attempt(result: Result, engine: Engine, action: Callable[[], object]) -> bool:
    try:
        action()
    except Skip as skip:
        result.skipped.setdefault(engine.name, str(skip))
        return False
    except (Failed, OSError, ValueError) as error:
        result.errors.setdefault(engine.name, f"{type(error).__name__}: {error}"[:600])
        return False
    return True
