"""`run --rm busybox true` in four ways, and the floor below it: the OCI runtime alone."""

from bench.engines import LABEL, Crun, Engine
from bench.model import Case, Metric, Surroundings, Target

OPTIONS = (
    "-e ONE=1 -e TWO=2 -l tier=test --memory 64m --cpu-shares 512 --pids-limit 100 --read-only --tmpfs /tmp "
    "--cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges --user 0:0 -w /tmp --hostname bench "
    "--add-host other:192.0.2.1 --dns 192.0.2.53 --ulimit nofile=512:512 --shm-size 32m --stop-signal TERM "
    "--oom-score-adj 100"
)
"""Twenty options that a careful user gives."""

PORTS = " ".join(f"-p {port}:80" for port in range(18080, 18088))


class Run(Case):
    group = "start"
    other_clients = True

    def __init__(
        self, name: str, title: str, options: str, targets: tuple[Target, ...], *, floor: bool = False
    ) -> None:
        self.name = name
        self.title = title
        self.metrics = (Metric(targets=targets),)
        self.kinds = frozenset(("gantry", "docker", "podman", "crun") if floor else ("gantry", "docker", "podman"))
        self._options = options

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        if isinstance(engine, Crun):
            return {"": engine.run_bundle()}
        return {"": engine.time(f"run --rm --label {LABEL} {self._options} {engine.image} true")}


CASES = (
    Run(
        "run", "run --rm busybox true, on the default bridge", "",
        (
            Target(0.35, "docker", "2"), Target(0.20, "docker", "7"), Target(0.20, "podman", "7"),
            Target(5, "crun", "7"),
        ),
        floor=True,
    ),
    Run(
        "run-none", "run --rm --network none busybox true", "--network none",
        (Target(0.30, "docker", "2"), Target(3.5, "crun", "7")),
        floor=True,
    ),
    Run("run-options", "run --rm with twenty options", OPTIONS, ()),
    Run("run-ports", "run --rm with eight published ports", PORTS, ()),
)  # fmt: skip
