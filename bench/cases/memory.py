"""What an engine holds: at rest, for each running container, and after many containers have come and gone."""

import time
from pathlib import Path

from bench import processes
from bench.cases.life import sweep
from bench.engines import LABEL, Engine
from bench.model import Case, Metric, Surroundings, Target

_MONITORS = ("conmon", "containerd-shim", "docker-proxy", "netavark", "aardvark-dns", "rootlessport", "slirp4netns")
_DAEMONS = ("gantryd", "dockerd", "containerd", "python3", "python")


def _daemons(engine: Engine) -> list[int]:
    """The daemon and the daemons that it started, not what it started for containers."""
    pid = engine.daemon_pid()
    return [one for one in processes.tree(pid) if one == pid or _program(one) in _DAEMONS] if pid else []


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Memory(Case):
    name = "memory"
    group = "memory"
    title = (
        "the daemon and its helpers at rest, and what each running container adds in all processes of the engine: "
        "proportional (a page that processes share counts once), and the sum of their resident sizes"
    )
    metrics = (
        Metric("rest", "MB", targets=(Target(90, "", "2"),)),
        Metric("container", "MB", targets=(Target(3, "", "2"),)),
        Metric("container, each process's whole", "MB"),
    )
    rounds = (1, 2, 3)
    warm_up = 1

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        rest = processes.holding(_daemons(engine))
        count = here.scale.pick(2, 20, 50)
        try:
            containers = [engine.start() for _ in range(count)]
            running = processes.holding(_daemons(engine))
            monitors = processes.holding(processes.naming(containers, _MONITORS))
        finally:
            sweep(engine)
        values = {
            "container": (running.proportional - rest.proportional + monitors.proportional) / count,
            "container, each process's whole": (running.resident - rest.resident + monitors.resident) / count,
        }
        if engine.daemon_pid():
            values["rest"] = rest.resident
        return values


class Cycles(Case):
    """Growth is what is held after the second half of the cycles by what was held after the first."""

    name = "cycles"
    group = "memory"
    title = (
        "1,000 run --rm (150 in the main run), four at a time: what the daemon holds afterwards, by what it held before"
    )
    kinds = frozenset(("gantry",))
    metrics = (
        Metric("resident", "", targets=(Target(1.02, "", "7"),)),
        Metric("descriptors", "", targets=(Target(1.02, "", "7"),)),
        Metric("threads", "", targets=(Target(1.02, "", "7"),)),
        Metric("mounts", "", targets=(Target(1.02, "", "7"),)),
        Metric("interfaces", "", targets=(Target(1.02, "", "7"),)),
    )
    rounds = (1, 1, 1)
    warm_up = 0

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        self._run(engine, here.scale.pick(5, 50, 100))

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        before = self._look(engine)
        self._run(engine, here.scale.pick(10, 150, 1000))
        after = self._look(engine)
        return {name: after[name] / before[name] for name in before}

    def _run(self, engine: Engine, count: int) -> None:
        command = f"{engine.program} run --rm --label {LABEL} {engine.image} true"
        engine.shell.run(f"seq {count} | xargs -P 4 -I NUMBER {command}", output=False)

    def _look(self, engine: Engine) -> dict[str, float]:
        time.sleep(1.0)  # what was removed goes a moment after the answer
        held = processes.holding([engine.daemon_pid()])
        return {
            "resident": held.resident, "descriptors": held.descriptors, "threads": held.threads,
            **processes.resources(),
        }  # fmt: skip


CASES = (Memory(), Cycles())
