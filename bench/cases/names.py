"""Names of containers, asked from one container of each engine with the same small program."""

import json
import shutil
import subprocess
from pathlib import Path

from bench.engines import LABEL, PROJECT, Engine
from bench.model import Case, Failed, Metric, Skip, Surroundings, Target

_RESOLVER = "127.0.0.11"
_CONCURRENT = 16
_A = 1


class Names(Case):
    name = "dns"
    group = "network"
    title = "the address of another container: queries one after the other, and sixteen at a time"
    metrics = (
        Metric("one", "req/s", "more", (Target(1, "docker", "4"),)),
        Metric("one-p99", targets=(Target(1, "docker", "4"),)),
        Metric("sixteen", "req/s", "more", (Target(1, "docker", "4"),)),
        Metric("sixteen-p99", targets=(Target(1, "docker", "4"),)),
    )
    kinds = frozenset(("gantry", "docker"))
    rounds = (1, 5, 10)

    def __init__(self) -> None:
        self._containers: dict[str, tuple[str, str]] = {}

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        program = _build(here.scratch)
        engine.run(f"network create --label {LABEL} gantry-bench-dns")
        server = engine.start("--network gantry-bench-dns --name gantry-bench-named")
        client = engine.start("--network gantry-bench-dns")
        self._containers[engine.name] = server, client
        staged = engine.shell.stage(program, program.name)
        engine.shell.run(f"chmod 755 {staged}")
        engine.run(f"cp {staged} {client}:/dnsload")
        for _ in range(20):
            if not engine.run(f"exec {client} /dnsload {_RESOLVER} gantry-bench-named {_A}", check=False).status:
                return
        raise Failed(f"nobody answers at {_RESOLVER}")

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        seconds = here.scale.pick(0.2, 2.0, 5.0)
        found: dict[str, float] = {}
        for name, flows in (("one", 1), ("sixteen", _CONCURRENT)):
            _, client = self._containers[engine.name]
            asked = f"exec {client} /dnsload {_RESOLVER} gantry-bench-named {_A} {seconds} {flows}"
            answer = json.loads(engine.output(asked))
            if answer["lost"] or answer["empty"] or not answer["answered"]:
                raise Failed(f"{asked}: {answer}")
            found |= {name: answer["qps"], f"{name}-p99": answer["p99_us"] / 1000}
        return found

    def finish(self, engine: Engine, here: Surroundings) -> None:
        engine.remove(*self._containers.pop(engine.name, ()))
        engine.run("network rm gantry-bench-dns", check=False)


def _build(scratch: Path) -> Path:
    """The program, static, so that it runs in any container; Skip where there is no compiler."""
    target = scratch / "dnsload"
    if not target.exists():
        if (compiler := shutil.which("cc")) is None:
            raise Skip("no C compiler for bench/programs/dnsload.c: apt-get install gcc libc6-dev")
        source = PROJECT / "bench" / "programs" / "dnsload.c"
        subprocess.run([compiler, "-O2", "-static", "-o", target, source], check=True, capture_output=True)
    return target


CASES = (Names(),)
