"""Leases and garbage collection beside work: everything is pruned, again and again, while images come."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib.archives import member, tar
from lib.daemon import BIN, Client, Daemon
from lib.engine_api import busybox_tar, call
from lib.registry import FakeRegistry, serving

_SECONDS = 6
_IMAGES = 3


@pytest.fixture
def registry() -> Iterator[tuple[FakeRegistry, int]]:
    """Images that share their first layer; each has one of its own."""
    registry = FakeRegistry()
    base = busybox_tar()
    for number in range(_IMAGES):
        registry.add_image("app", f"v{number}", [base, tar(member("own", os.urandom(200_000)))])
    with serving(registry) as port:
        yield registry, port


def test_prune_beside_pulls_loads_and_builds(registry: tuple[FakeRegistry, int], scratch: Path) -> None:
    """Nothing that is being made loses a part; what remains runs; when all is removed, nothing is left on disk."""
    daemon = Daemon(scratch / "d")
    daemon.directory.mkdir()
    daemon.start()
    client = Client(str(BIN / "gantry"), daemon.host, scratch / "config")
    try:
        for name in ("busybox", "loaded"):  # two images with the same layer
            create = f"/images/create?fromSrc=-&repo={name}&tag=latest&changes=LABEL+name={name}"
            call(daemon.socket, "POST", create, busybox_tar())
        client.run("create", "--name", "keeper", "busybox", "true")  # what a container uses is not pruned
        client.run("save", "-o", str(scratch / "loaded.tar"), "loaded")
        _work(client, scratch, registry[1])
        remaining = call(daemon.socket, "GET", "/images/json")
        for image in remaining:
            assert client.out("run", "--rm", image["Id"], "echo", "works") == "works"
        _everything_goes(daemon, client)
        log = daemon.log.read_text()
        assert "Traceback" not in log, log
    finally:
        daemon.clean()


def _work(client: Client, scratch: Path, port: int) -> None:
    """Prune in a loop while others pull, load and build; each of their commands must succeed, and each happens."""
    end = time.monotonic() + _SECONDS
    over = threading.Event()
    done = dict.fromkeys(("prune", "pull", "load", "build"), 0)

    def repeat(name: str, step: Callable[[int], "subprocess.CompletedProcess[str]"]) -> None:
        while time.monotonic() < end and not over.is_set():
            try:
                step(done[name])
            except BaseException:
                over.set()
                raise
            done[name] += 1

    def build(number: int) -> "subprocess.CompletedProcess[str]":
        text = f"FROM busybox AS one\nRUN echo {number} > /number\nFROM busybox\nCOPY --from=one /number /\nRUN cat /number\n"
        return client.run("build", "-t", f"built:{number}", "-", stdin=text)

    steps: dict[str, Callable[[int], subprocess.CompletedProcess[str]]] = {
        "prune": lambda _: client.run("image", "prune", "-a", "-f"),
        "pull": lambda number: client.run("pull", "-q", f"127.0.0.1:{port}/app:v{number % _IMAGES}"),
        "load": lambda _: client.run("load", "-q", "-i", str(scratch / "loaded.tar")),
        "build": build,
    }
    with ThreadPoolExecutor(len(steps)) as pool:
        for running in [pool.submit(repeat, name, step) for name, step in steps.items()]:
            running.result()
    assert min(done.values()) >= 2, done
    client.run("pull", "-q", f"127.0.0.1:{port}/app:v0")


def _everything_goes(daemon: Daemon, client: Client) -> None:
    client.run("rm", "-f", "keeper")
    client.run("image", "prune", "-a", "-f")
    client.run("builder", "prune", "-a", "-f")
    assert call(daemon.socket, "GET", "/images/json") == []
    blobs = [path for path in daemon.data_root.rglob("*") if path.is_file() and re.fullmatch("[0-9a-f]{64}", path.name)]
    assert not blobs
    usage = call(daemon.socket, "GET", "/v1.51/system/df")
    assert (usage["LayersSize"], usage["Images"]) == (0, [])
    files = [path for path in daemon.data_root.rglob("busybox") if path.is_file()]
    assert not files, "a snapshot was left"
