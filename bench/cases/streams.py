"""Bytes through the engine: logs, attach, exec, cp."""

import os
import select
import statistics
import subprocess
import time

from bench import processes
from bench.engines import LABEL, Engine
from bench.model import Case, Failed, Metric, Surroundings, Target

_LINE = "0123456789" * 10
_WHOLE_LOG = "--log-opt max-size=8g"
"""Nothing of the log is thrown away, whatever the engine's default is."""


class Logs(Case):
    name = "logs"
    group = "streams"
    title = (
        "1 GB of lines (256 MB in the main run): written by a container to its end, then read by logs; "
        "by how much the daemon has grown afterwards"
    )
    metrics = (
        Metric("written", "MB/s", "more"),
        Metric("read", "MB/s", "more", (Target(0.7, "docker", "3"),)),
        Metric("growth", "MB"),
    )
    rounds = (1, 3, 3)
    warm_up = 0

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        megabytes = here.scale.pick(1, 256, 1024)
        held = _held(engine)
        script = f"sh -c 'yes {_LINE} | head -c {megabytes << 20}'"
        name = f"gantry-bench-logs-{os.getpid()}"
        try:
            writing = engine.time(
                f"run -d --name {name} --network none {_WHOLE_LOG} --label {LABEL} {engine.image} {script}"
            )
            writing += engine.time(f"wait {name}")
            reading = engine.time(f"logs {name}")
            grown = _held(engine) - held
        finally:
            engine.remove(name)
        values = {"written": megabytes / writing * 1000, "read": megabytes / reading * 1000}
        return values | ({"growth": grown} if held else {})


def _held(engine: Engine) -> float:
    """Megabytes of the daemon; 0 where there is none."""
    pid = engine.daemon_pid()
    return processes.holding([pid]).resident if pid else 0


class Follow(Case):
    name = "follow"
    group = "streams"
    title = "from a line on an attached standard input, through cat in the container, to logs -f: the median of many"
    rounds = (1, 5, 10)
    warm_up = 0

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        name = f"gantry-bench-follow-{os.getpid()}"
        clients: list[subprocess.Popen[bytes]] = []
        try:
            words = ["-i", "--name", name, "--network", "none", "--label", LABEL, engine.image, "cat"]
            attached = engine.shell.spawn([engine.program.strip("'"), "run", *words])
            clients.append(attached)
            _exchange(attached, attached, b"ready\n")
            follower = engine.shell.spawn([engine.program.strip("'"), "logs", "-f", name])
            clients.append(follower)
            _exchange(None, follower, b"ready\n")
            lines = [b"%d\n" % number for number in range(here.scale.pick(5, 50, 200))]
            times = [_exchange(attached, follower, line) * 1000 for line in lines]
        finally:
            engine.remove(name)
            for client in clients:
                client.kill()
                client.wait()
                for pipe in (client.stdin, client.stdout):
                    if pipe is not None:
                        pipe.close()
        return {"": statistics.median(times)}


def _exchange(source: "subprocess.Popen[bytes] | None", sink: "subprocess.Popen[bytes]", line: bytes) -> float:
    """Seconds until a line written here comes out there."""
    began = time.perf_counter()
    if source is not None:
        assert source.stdin is not None
        source.stdin.write(line)
    assert sink.stdout is not None
    seen = b""
    while not seen.endswith(line):
        ready, _, _ = select.select([sink.stdout], [], [], 20)
        data = os.read(sink.stdout.fileno(), 4096) if ready else b""
        if not data:
            raise Failed(f"the line {line!r} did not come out (seen: {seen[-100:]!r})")
        seen += data
    return time.perf_counter() - began


class _InContainer(Case):
    group = "streams"
    rounds = (1, 4, 8)

    def __init__(self) -> None:
        self._containers: dict[str, str] = {}

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        self._containers[engine.name] = engine.start("--network none")

    def finish(self, engine: Engine, here: Surroundings) -> None:
        if container := self._containers.pop(engine.name, ""):
            engine.remove(container)


class Throughput(_InContainer):
    name = "throughput"
    title = "bytes through exec and attach, out of and into a container"
    metrics = tuple(Metric(way, "MB/s", "more") for way in ("exec out", "exec in", "attach out", "attach in"))

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        megabytes = here.scale.pick(1, 128, 512)
        container = self._containers[engine.name]
        source = f"head -c {megabytes << 20} /dev/zero"
        program = engine.program
        run = f"run --rm -i --network none --log-driver none --label {LABEL} {engine.image}"
        commands = {
            "exec out": f"{program} exec {container} {source}",
            "exec in": f"{source} | {program} exec -i {container} sh -c 'cat >/dev/null'",
            "attach out": f"{program} {run} {source}",
            "attach in": f"{source} | {program} {run} sh -c 'cat >/dev/null'",
        }
        return {way: megabytes / engine.shell.run(command, output=False).seconds for way, command in commands.items()}


class Copy(_InContainer):
    name = "cp"
    title = (
        "cp of one file of 1 GB (64 MB in the main run), out of and into a running container; "
        "by how much the daemon has grown afterwards"
    )
    metrics = (
        *(Metric(way, "MB/s", "more", (Target(0.7, "docker", "3"),)) for way in ("out", "in")),
        Metric("growth", "MB"),
    )

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        megabytes = here.scale.pick(1, 64, 1024)
        held = _held(engine)
        container, local = self._containers[engine.name], f"{engine.shell.directory}/cp"
        engine.shell.run(f"head -c {megabytes << 20} /dev/zero >{local}")
        into = engine.time(f"cp {local} {container}:/data/file")
        out = engine.time(f"cp {container}:/data/file {local}")
        grown = _held(engine) - held
        engine.shell.run(f"rm {local}")
        engine.run(f"exec {container} rm /data/file")
        return {"out": megabytes / out * 1000, "in": megabytes / into * 1000} | ({"growth": grown} if held else {})


CASES = (Logs(), Follow(), Throughput(), Copy())
