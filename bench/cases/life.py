"""Each step of a container's life alone, and many containers at once."""

import statistics

from bench.engines import LABEL, Engine
from bench.model import Case, Metric, Scale, Surroundings, Target

_OBEDIENT = """sh -c 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done'"""
"""Ends at once when it is asked to."""


class Steps(Case):
    name = "life"
    group = "life"
    title = "create, start, exec, stop, rm: one container, each step alone"
    metrics = tuple(
        Metric(step, targets=(Target(0.5, "docker", "3"),) if step == "exec" else ())
        for step in ("create", "start", "exec", "stop", "rm")
    )

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        made = engine.run(f"create --label {LABEL} {engine.image} {_OBEDIENT}")
        container = made.output.strip()
        times = {"create": made.seconds * 1000}
        for step, command in (("start", "start"), ("exec", "exec"), ("stop", "stop"), ("rm", "rm")):
            times[step] = engine.time(f"{command} {container}{' true' if step == 'exec' else ''}")
        return times


class Crowd(Case):
    """Containers that stay, made by `run -d`; removing them is not measured."""

    group = "life"
    warm_up = 0
    rounds = (1, 1, 3)

    def __init__(self, name: str, title: str, counts: tuple[int, int, int], at_once: int, *targets: Target) -> None:
        self.name = name
        self.title = title
        self.metrics = (Metric("each", targets=targets),)
        self._counts = counts
        self._at_once = at_once

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        count = here.scale.pick(*self._counts)
        command = f"{engine.program} run -d --label {LABEL} {engine.image} sleep 3600"
        try:
            done = engine.shell.run(f"seq {count} | xargs -P {self._at_once} -I NUMBER {command}", output=False)
        finally:
            sweep(engine)
        return {"each": done.seconds * 1000 / count}


class Growth(Case):
    name = "growth"
    group = "life"
    title = (
        "run -d while others run: the median of the first ten, and of the last ten (of 500, or of 200 in the main run)"
    )
    metrics = (Metric("first"), Metric("last"), Metric("last by first", unit="", targets=(Target(1.3, "", "3"),)))
    scales = frozenset((Scale.QUICK, Scale.FULL))
    rounds = (1, 1, 1)
    warm_up = 0

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        try:
            command = f"run -d --label {LABEL} {engine.image} sleep 3600"
            times = [engine.time(command) for _ in range(here.scale.pick(3, 200, 500))]
        finally:
            sweep(engine)
        few = min(10, len(times))
        first, last = statistics.median(times[:few]), statistics.median(times[-few:])
        return {"first": first, "last": last, "last by first": last / first}


def sweep(engine: Engine) -> None:
    """Remove every container of the benchmark."""
    engine.shell.run(f"{engine.program} ps -aq --filter label={LABEL} | xargs -r {engine.program} rm -f", output=False)


CASES = (
    Steps(),
    Crowd("one-by-one", "100 containers, run -d one by one (20 in the main run)", (2, 20, 100), 1),
    Crowd("at-once", "100 containers, run -d 16 at a time", (4, 100, 100), 16, Target(0.2, "docker", "7")),
    Growth(),
)
