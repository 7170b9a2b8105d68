"""scripts/bench [CASE…] [--runs N] [--peer-host HOST] [--json FILE]: Gantry beside a Docker daemon, interleaved.

The peer is the daemon at --peer-host (or PEER_DOCKER_HOST), else one that answers at /var/run/docker.sock, else
none. Times are medians of wall-clock milliseconds, with the spread between the quartiles.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.daemon import BIN, Engine, Gantry, Peer, daemon_memory

Case = Callable[[Engine], float]


def wall(engine: Engine, *command: str) -> float:
    """Milliseconds of one command of the engine's own client."""
    start = time.perf_counter()
    done = subprocess.run([engine.program, *command], env=engine.environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{engine.name}: {command}: {done.stderr.decode(errors='replace').strip()}")
    return (time.perf_counter() - start) * 1000


def load(engine: Engine) -> float:
    """From an image archive to a container that has run, on an engine that does not have the image."""
    subprocess.run(
        [engine.program, "rmi", "-f", "bench/load"], env=engine.environment, capture_output=True, check=False
    )
    return wall(engine, "load", "-i", str(engine.archive)) + wall(engine, "run", "--rm", "bench/load", "/bin/true")


CASES: dict[str, Case] = {
    "run": lambda engine: wall(engine, "run", "--rm", "bench/busybox", "true"),
    "run-none": lambda engine: wall(engine, "run", "--rm", "--network", "none", "bench/busybox", "true"),
    "ps": lambda engine: wall(engine, "ps"),
    "version": lambda engine: wall(engine, "version"),
    "load": load,
}
TARGETS = {"run": 0.35, "run-none": 0.30, "ps": 2.5, "load": 0.8}


def measure(case: Case, engines: list[Engine], runs: int) -> dict[str, list[float]]:
    """Interleaved: every engine once per round, after one round of warming up."""
    for engine in engines:
        case(engine)
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for _ in range(runs):
        for engine in engines:
            samples[engine.name].append(case(engine))
    return samples


def spread(values: list[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return high - low


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of: {', '.join(CASES)}")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two runs of each small case")
    parser.add_argument("--peer-host", default=os.environ.get("PEER_DOCKER_HOST", ""))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    runs = 2 if options.quick else options.runs
    cases = [case for case in options.cases if case != "load"] if options.quick else options.cases
    with tempfile.TemporaryDirectory(prefix="gantry-bench-", dir="/var/tmp") as scratch:
        gantry = Gantry(Path(scratch))
        engines: list[Engine] = [gantry]
        if peer := Peer.find(options.peer_host, Path(scratch)):
            engines.append(peer)
        results: dict[str, dict[str, float]] = {}
        try:
            for engine in engines:
                engine.prepare(with_archive="load" in cases)
            print(f"# {platform.platform()}, {os.cpu_count()} CPUs, {runs} runs each")
            print("# " + ", ".join(f"{engine.name}: {engine.describe()}" for engine in engines))
            for name in cases:
                few = min(runs, 3) if name == "load" else runs
                samples = measure(CASES[name], engines, few)
                results[name] = {engine: statistics.median(values) for engine, values in samples.items()}
                shown = "  ".join(
                    f"{engine} {statistics.median(values):8.1f} ms ±{spread(values):5.1f}"
                    for engine, values in samples.items()
                )
                ratio = ""
                if peer:
                    value = results[name][gantry.name] / results[name][peer.name]
                    goal = TARGETS.get(name)
                    ratio = f"  ratio {value:5.2f}" + (f" (target {goal})" if goal else "")
                print(f"{name:<10} {shown}{ratio}")
            results["memory"] = daemon_memory(gantry)
            print("memory     " + "  ".join(f"{name} {value:.1f} MB" for name, value in results["memory"].items()))
        finally:
            for engine in engines:
                engine.close()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    assert BIN.exists()
    sys.exit(main())
