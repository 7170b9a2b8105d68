"""The network between a client and a container, between containers, and many ports."""

import socket
import time

from bench.engines import LABEL, Engine
from bench.model import Case, Failed, Metric, Scale, Skip, Surroundings

_PORT = 18090
_SERVER = "sh -c 'truncate -s {size} /data/file; exec httpd -f -p 80 -h /data'"


class Published(Case):
    name = "published"
    group = "network"
    title = "a published port: one large answer, and connections one after the other"
    metrics = (Metric("throughput", "MB/s", "more"), Metric("connections", "req/s", "more"))
    rounds = (1, 4, 8)

    def __init__(self) -> None:
        self._containers: dict[str, str] = {}

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        size = here.scale.pick(1, 256, 1024) << 20
        self._containers[engine.name] = engine.start(f"-p {_PORT}:80", _SERVER.format(size=size))
        for _ in range(500):
            try:
                _fetch(engine.address, "/missing")
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise Failed(f"nothing answers at {engine.address}:{_PORT}")

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        began = time.perf_counter()
        received = _fetch(engine.address, "/file")
        throughput = received / (1 << 20) / (time.perf_counter() - began)
        count = here.scale.pick(10, 300, 1000)
        began = time.perf_counter()
        for _ in range(count):
            _fetch(engine.address, "/missing")
        return {"throughput": throughput, "connections": count / (time.perf_counter() - began)}

    def finish(self, engine: Engine, here: Surroundings) -> None:
        if container := self._containers.pop(engine.name, ""):
            engine.remove(container)


def _fetch(address: str, path: str) -> int:
    """Bytes of one HTTP answer over a connection of its own."""
    with socket.create_connection((address, _PORT), 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        received = 0
        while data := connection.recv(1 << 18):
            received += len(data)
    if not received:
        raise ConnectionResetError("the connection was closed without an answer")
    return received


class BetweenContainers(Case):
    name = "containers"
    group = "network"
    title = "two containers on a network of their own: one large answer, and names looked up one after the other"
    metrics = (Metric("throughput", "MB/s", "more"), Metric("names", "req/s", "more"))
    rounds = (1, 4, 8)

    def __init__(self) -> None:
        self._containers: dict[str, tuple[str, str]] = {}

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        engine.run(f"network create --label {LABEL} gantry-bench")
        size = here.scale.pick(1, 256, 1024) << 20
        server = engine.start("--network gantry-bench --name gantry-bench-server", _SERVER.format(size=size))
        client = engine.start("--network gantry-bench")
        self._containers[engine.name] = server, client
        found = engine.run(f"exec {client} nslookup gantry-bench-server", check=False)
        if found.status:
            raise Skip(f"names are not served: {(found.output + found.errors).strip()[-200:]}")

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        _, client = self._containers[engine.name]
        megabytes, names = here.scale.pick(1, 256, 1024), here.scale.pick(3, 100, 500)
        fetching = engine.time(f"exec {client} wget -q -O /dev/null http://gantry-bench-server/file")
        loop = f"i=0; while [ $i -lt {names} ]; do nslookup gantry-bench-server >/dev/null; i=$((i+1)); done"
        asking = engine.time(f"exec {client} sh -c '{loop}'")
        return {"throughput": megabytes / fetching * 1000, "names": names / asking * 1000}

    def finish(self, engine: Engine, here: Surroundings) -> None:
        engine.remove(*self._containers.pop(engine.name, ()))
        engine.run("network rm gantry-bench", check=False)


class Ports(Case):
    name = "ports-200"
    group = "network"
    title = "200 published ports: run -d, then rm -f"
    metrics = (Metric("run"), Metric("rm"))
    rounds = (1, 3, 5)
    scales = frozenset(Scale)

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        last = 20000 + here.scale.pick(20, 200, 200) - 1
        made = engine.run(f"run -d --label {LABEL} -p 20000-{last}:20000-{last} {engine.image} sleep 3600")
        return {"run": made.seconds * 1000, "rm": engine.time(f"rm -f {made.output.strip()}")}


CASES = (Published(), BetweenContainers(), Ports())
