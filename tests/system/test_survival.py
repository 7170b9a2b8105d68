"""The daemon may die: containers, their logs and their exit codes live on."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import BIN, Client, Daemon


@pytest.fixture
def own(scratch: Path) -> Iterator[tuple[Daemon, Client]]:
    daemon = Daemon(scratch)
    daemon.start()
    client = Client(str(BIN / "gantry"), daemon.host, scratch / "config")
    client.run("image", "bootstrap", "busybox", "-t", "busybox")
    try:
        yield daemon, client
    finally:
        if ids := client.out("ps", "-aq", check=False).split():
            client.run("rm", "-f", *ids, check=False)
        daemon.clean()


def test_ten_containers_outlive_a_killed_daemon(own: tuple[Daemon, Client]) -> None:
    daemon, client = own
    for number in range(10):
        script = f"echo before {number}; sleep 2; echo after {number}; exit {number}" if number < 5 else "sleep 300"
        client.run("run", "-d", "--name", f"c{number}", "busybox", "sh", "-c", script)
    daemon.kill()
    time.sleep(2.5)  # five of them end while nobody watches
    daemon.start()
    assert sorted(client.out("ps", "-a", "--format", "{{.Names}}").split()) == [f"c{n}" for n in range(10)]
    for number in range(5):
        state = json.loads(client.out("inspect", f"c{number}"))[0]["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", number)
        assert client.out("logs", f"c{number}").splitlines() == [f"before {number}", f"after {number}"]
    for number in range(5, 10):
        assert json.loads(client.out("inspect", f"c{number}"))[0]["State"]["Running"] is True
        assert client.out("exec", f"c{number}", "echo", "in") == "in"
    client.run("stop", "-t", "0", "c9")
    assert json.loads(client.out("inspect", "c9"))[0]["State"]["ExitCode"] == 137


def test_published_port_outlives_a_killed_daemon(own: tuple[Daemon, Client]) -> None:
    from system.test_walks import fetch, free_port

    daemon, client = own
    port = free_port()
    client.run(
        "run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", "echo hi > /index.html; httpd -f -h /"
    )
    assert fetch(port) == "hi\n"
    daemon.kill()
    assert fetch(port) == "hi\n"
    daemon.start()
    assert fetch(port) == "hi\n"
    client.run("rm", "-f", "web")
    with pytest.raises(OSError):
        fetch(port, seconds=0)
