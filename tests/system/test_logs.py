"""Log drivers on real containers: rotation while they write, servers that get everything, Docker's words."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import BIN, Client, Daemon


class Lines(socketserver.ThreadingTCPServer):
    """A server that keeps the lines it is sent."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.lines: list[bytes] = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(handler) -> None:  # noqa: N805
                for line in handler.rfile:
                    self.lines.append(line.rstrip(b"\n"))

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait(self, count: int, seconds: float = 20) -> list[bytes]:
        deadline = time.monotonic() + seconds
        while len(self.lines) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.lines


@pytest.fixture
def server() -> Iterator[Lines]:
    made = Lines()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    made = "log-" + request.node.name.replace("[", "-").replace("]", "")[:40]
    yield made
    client.run("rm", "-f", made, check=False)


def directory(daemon: Daemon, client: Client, name: str) -> Path:
    return daemon.data_root / "containers" / client.out("inspect", "-f", "{{.Id}}", name)


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_rotation(daemon: Daemon, client: Client, name: str, driver: str) -> None:
    """Files are bounded, in order and complete while the container writes; following misses nothing."""
    script = "i=0; while [ $i -lt 12 ]; do seq $((i*500)) $((i*500+499)); i=$((i+1)); sleep 0.15; done"
    client.run(
        "run", "-d", "--name", name, "--log-driver", driver, "--log-opt", "max-size=30k", "--log-opt", "max-file=4",
        "busybox", "sh", "-c", script,
    )  # fmt: skip
    followed = client.out("logs", "-f", name).split()
    assert followed == [str(number) for number in range(6000)]
    kept = client.out("logs", name).split()
    assert kept == [str(number) for number in range(6000 - len(kept), 6000)]
    assert 500 <= len(kept) < 6000
    assert client.out("logs", "--tail", "700", name).split() == kept[-700:]
    files = sorted(path.name.partition(".log")[2] for path in directory(daemon, client, name).glob("*.log*"))
    assert 2 <= len(files) <= 4
    assert any(each.endswith(".gz") for each in files) == (driver == "local")


def test_details_and_times(client: Client, name: str) -> None:
    options = [word for option in ("labels=a", "env=E", "tag={{.Name}}") for word in ("--log-opt", option)]
    client.run("run", "--name", name, *options, "-l", "a=1=2,3", "-e", "E=x y", "busybox", "echo", "hi")
    assert client.out("logs", "--details", name) == f"E=x+y,a=1%3D2%2C3,tag={name} hi"
    assert client.out("logs", "--details", "-t", name).endswith(f"Z E=x+y,a=1%3D2%2C3,tag={name} hi")


def test_a_server_that_does_not_answer_fails_the_start(client: Client, name: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    options = ("--log-driver", "syslog", "--log-opt", f"syslog-address=tcp://127.0.0.1:{port}")
    failed = client.run("run", "--name", name, *options, "busybox", "true", check=False)
    assert failed.returncode == 125
    assert (
        "failed to create task for container: failed to initialize logging driver: "
        f"dial tcp 127.0.0.1:{port}: connect: connection refused" in failed.stderr
    )


def test_syslog_of_a_short_container_arrives(client: Client, name: str, server: Lines) -> None:
    options = ("--log-driver", "syslog", "--log-opt", f"syslog-address=tcp://127.0.0.1:{server.server_address[1]}")
    assert client.out("run", "--rm", *options, "--log-opt", "tag=short", "busybox", "echo", "hello") == "hello"
    (line,) = server.wait(1)
    assert line.startswith(b"<30>")
    assert b" short[" in line
    assert line.endswith(b": hello")
    client.run("run", "--name", name, *options, "busybox", "echo", "again")
    assert client.out("logs", name) == "again"
    client.run("rm", name)
    client.run("create", "--name", name, *options, "--log-opt", "cache-disabled=true", "busybox")
    refused = client.run("logs", name, check=False)
    assert "configured logging driver does not support reading" in refused.stderr


def test_a_killed_daemon_loses_no_output(scratch: Path, server: Lines) -> None:
    """What is written while no daemon runs is rotated and sent on by the next one."""
    daemon = Daemon(scratch)
    daemon.start()
    client = Client(str(BIN / "gantry"), daemon.host, scratch / "config")
    client.run("image", "bootstrap", "busybox", "-t", "busybox")
    try:
        script = "i=0; while [ $i -lt 40 ]; do seq $((i*100)) $((i*100+99)); i=$((i+1)); sleep 0.05; done"
        options = ("--log-driver", "syslog", "--log-opt", f"syslog-address=tcp://127.0.0.1:{server.server_address[1]}")
        rotation = ("--log-opt", "cache-max-size=20k", "--log-opt", "cache-max-file=50")
        client.run("run", "-d", "--name", "cc", *options, *rotation, "busybox", "sh", "-c", script)
        server.wait(300)
        daemon.kill()
        time.sleep(1)
        daemon.start()
        client.run("wait", "cc")
        deadline = time.monotonic() + 20
        while server.lines[-1].rpartition(b" ")[2] != b"3999" and time.monotonic() < deadline:
            time.sleep(0.05)
        numbers = [int(line.rpartition(b" ")[2]) for line in server.lines]
        assert sorted(set(numbers)) == list(range(4000))  # each at least once
        assert client.out("logs", "cc").split() == [str(number) for number in range(4000)]
    finally:
        client.run("rm", "-f", "cc", check=False)
        daemon.clean()
