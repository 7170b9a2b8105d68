"""The life of a daemon: sockets, signals, configuration, and several of them side by side."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gantry.model.instance import Instance
from lib.certificates import Authority
from lib.daemon import BIN, Client, Daemon, official_clients
from lib.engine_api import UnixConnection, call, make_busybox
from lib.machine import Machine

Start = Callable[..., Daemon]

NOTHING = Machine(*(frozenset[str]() for _ in range(6)))


@pytest.fixture
def start(scratch: Path) -> Iterator[Start]:
    """Daemons of one test, each in a directory of its own."""
    with ExitStack() as stack:

        def make(*options: str, name: str = "one", config: dict[str, Any] | None = None) -> Daemon:
            directory = scratch / name
            directory.mkdir()
            (directory / "daemon.json").write_text(json.dumps(config or {}))
            daemon = Daemon(directory, *options)
            stack.callback(daemon.clean)
            stack.callback(remove_all, daemon)
            daemon.start()
            return daemon

        yield make


def left_of(*daemons: Daemon) -> dict[str, list[str]]:
    """What is on this machine and carries the name, the tag or the directory of one of these daemons."""
    instances = [Instance.of(each.data_root, each.exec_root) for each in daemons]
    marks = [mark for each in instances for mark in (each.name, each.tag, each.nft_table, str(each.data_root.parent))]
    added = Machine.look().added_since(NOTHING)
    found = {kind: [each for each in names if any(mark in each for mark in marks)] for kind, names in added.items()}
    return {kind: names for kind, names in found.items() if names}


def remove_all(daemon: Daemon) -> None:
    if daemon._process is None:
        return
    if daemon._process.poll() is not None:
        daemon.start()
    for container in call(daemon.socket, "GET", "/containers/json?all=1"):
        call(daemon.socket, "DELETE", f"/containers/{container['Id']}?force=1", expect=(204, 404, 409))


def run(daemon: Daemon, *command: str, **host: Any) -> str:
    """A running container's id."""
    body = {"Image": "busybox", "Cmd": list(command) or ["sleep", "1000"], "StopTimeout": 1, "HostConfig": host}
    if ports := host.get("PortBindings"):
        body["ExposedPorts"] = {port: {} for port in ports}
    made: str = call(daemon.socket, "POST", "/containers/create", body)["Id"]
    call(daemon.socket, "POST", f"/containers/{made}/start")
    return made


def inspect(daemon: Daemon, container: str) -> Any:
    return call(daemon.socket, "GET", f"/containers/{container}/json")


def refused(*options: str) -> str:
    """What a gantryd that cannot start says on its way out."""
    done = subprocess.run([BIN / "gantryd", *options], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_two_daemons_side_by_side(start: Start) -> None:
    one, two = start(name="one"), start(name="two")
    for daemon in (one, two):
        make_busybox(daemon.socket)
    page = "mkdir /w && echo $0 > /w/index.html && exec httpd -f -p 80 -h /w"
    free = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    made = {each: run(each, "sh", "-c", page, each.directory.name, PortBindings=free) for each in (one, two)}

    def fetch(daemon: Daemon) -> str:
        port = inspect(daemon, made[daemon])["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
        deadline = time.monotonic() + 5
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    return answer.read().decode().strip()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    assert (fetch(one), fetch(two)) == ("one", "two")
    for daemon, other in ((one, two), (two, one)):
        [listed] = call(daemon.socket, "GET", "/containers/json?all=1")
        assert listed["Id"] == made[daemon] != made[other]
    subnets = [call(each.socket, "GET", "/networks/bridge")["IPAM"]["Config"][0]["Subnet"] for each in (one, two)]
    assert len(set(subnets)) == 2

    assert two.stop() == 0
    assert left_of(two) == {}
    assert fetch(one) == "one", "a daemon that ends takes nothing of the other one with it"
    assert one.stop() == 0
    assert left_of(one) == {}


def test_sigterm_stops_containers_and_cleans_up(start: Start) -> None:
    daemon = start()
    make_busybox(daemon.socket)
    polite = run(daemon, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    always = run(
        daemon, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done", RestartPolicy={"Name": "always"}
    )
    assert daemon.stop() == 0
    assert not daemon.socket.exists()
    assert not (daemon.directory / "gantryd.pid").exists()
    assert left_of(daemon) == {}
    daemon.start()
    assert inspect(daemon, polite)["State"]["ExitCode"] == 7
    deadline = time.monotonic() + 10
    while not inspect(daemon, always)["State"]["Running"]:
        assert time.monotonic() < deadline, "restart policy `always` starts it with the daemon"
        time.sleep(0.05)


def test_live_restore_leaves_containers_running(start: Start) -> None:
    daemon = start("--live-restore")
    make_busybox(daemon.socket)
    container = run(daemon)
    pid = inspect(daemon, container)["State"]["Pid"]
    assert daemon.stop() == 0
    os.kill(pid, 0)
    daemon.start()
    state = inspect(daemon, container)["State"]
    assert (state["Running"], state["Pid"]) == (True, pid)
    assert call(daemon.socket, "GET", "/info")["LiveRestoreEnabled"] is True


def test_sigkill_leaves_stale_files_that_do_not_matter(start: Start) -> None:
    daemon = start()
    make_busybox(daemon.socket)
    container = run(daemon)
    identity = call(daemon.socket, "GET", "/info")["ID"]
    daemon.kill()
    assert daemon.socket.exists()
    assert (daemon.directory / "gantryd.pid").exists()
    daemon.start()
    assert inspect(daemon, container)["State"]["Running"]
    assert call(daemon.socket, "GET", "/info")["ID"] == identity


def test_sighup_reloads(start: Start) -> None:
    daemon = start(config={"labels": ["a=1"], "shutdown-timeout": 20})
    events = UnixConnection(daemon.socket, timeout=10)
    events.request("GET", '/events?filters={"type":["daemon"]}')
    stream = events.getresponse()

    def reload(document: str) -> None:
        (daemon.directory / "daemon.json").write_text(document)
        os.kill(daemon.pid, signal.SIGHUP)

    reload(json.dumps({"labels": ["a=2"], "debug": True, "bip": "10.9.8.1/24"}))
    event = json.loads(stream.readline())
    assert (event["Type"], event["Action"]) == ("daemon", "reload")
    assert event["Actor"]["Attributes"]["labels"] == '["a=2"]'
    assert event["Actor"]["Attributes"]["debug"] == "true"
    info = call(daemon.socket, "GET", "/info")
    assert (info["Labels"], info["Debug"]) == (["a=2"], True)
    assert call(daemon.socket, "GET", "/networks/bridge")["IPAM"]["Config"][0]["Subnet"] != "10.9.8.0/24"

    reload('{"nonsense": 1}')
    deadline = time.monotonic() + 5
    while "could not reload the configuration" not in daemon.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert call(daemon.socket, "GET", "/info")["Labels"] == ["a=2"]
    reload(json.dumps({"labels": ["a=3"]}))
    assert json.loads(stream.readline())["Actor"]["Attributes"]["labels"] == '["a=3"]'
    events.close()


def test_tls_with_client_certificates(start: Start, scratch: Path) -> None:
    authority = Authority(scratch / "tls")
    server, client = authority.sign("server"), authority.sign("client", client=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    daemon = start(
        "--host", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", str(authority.path),
        "--tlscert", str(server.certificate), "--tlskey", str(server.key),
    )  # fmt: skip
    make_busybox(daemon.socket)
    for program in (str(BIN / "gantry"), *official_clients()[:1]):
        user = Client(program, f"tcp://127.0.0.1:{port}", scratch / "config")
        environment = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(client.certificate.parent)}
        assert user.out("version", "--format", "{{.Server.Os}}", **environment) == "linux"
        echoed = user.run("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo over", stdin="hello\n", **environment)
        assert echoed.stdout == "hello\nover\n", "the end of standard input gets through, and the answer comes back"
        stranger = user.run("version", check=False, DOCKER_CERT_PATH=str(scratch / "nothing"), DOCKER_TLS_VERIFY="1")
        assert stranger.returncode != 0


def test_sockets_from_systemd(scratch: Path) -> None:
    path = scratch / "activated.sock"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        listening.bind(str(path))
        listening.listen()
        manager.bind(str(scratch / "notify"))
        manager.settimeout(20)
        process = subprocess.Popen(
            [
                "bash", "-c", f'exec 3<&{listening.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh",
                BIN / "gantryd", "-H", "fd://", "--data-root", scratch / "data", "--exec-root", scratch / "run",
            ],
            pass_fds=[listening.fileno()],
            env={**os.environ, "NOTIFY_SOCKET": str(scratch / "notify")},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            assert b"READY=1" in manager.recv(4096)
            assert call(path, "GET", "/_ping") == b"OK"
            process.send_signal(signal.SIGTERM)
            assert b"STOPPING=1" in manager.recv(4096)
            assert process.wait(20) == 0
            assert path.exists(), "the socket belongs to systemd"
        finally:
            process.kill()
            process.communicate()


def test_one_daemon_per_data_root_and_pid_file(start: Start, scratch: Path) -> None:
    daemon = start()
    other = ("--exec-root", str(scratch / "other"), "--host", f"unix://{scratch}/other.sock")
    same_root = refused("--data-root", str(daemon.data_root), *other)
    assert same_root == f"failed to start daemon: another gantryd is using the data root {daemon.data_root}"
    pid_file = daemon.directory / "gantryd.pid"
    same_file = refused("--data-root", str(scratch / "data"), "--pidfile", str(pid_file), *other)
    assert same_file == (
        f"failed to start daemon, ensure gantryd is not running or delete {pid_file}: process with PID {daemon.pid} "
        "is still running"
    )
    same_socket = refused(
        "--data-root", str(scratch / "data"), "--exec-root", str(scratch / "other"), "--host", daemon.host
    )
    assert same_socket == f"can't create unix socket {daemon.socket}: another process is listening there"
    assert call(daemon.socket, "GET", "/_ping") == b"OK"


@pytest.mark.parametrize(
    ("options", "config", "message"),
    [
        (["--nope"], {}, "unknown flag: --nope"),
        ([], {"nope": 1}, "the following directives don't match any configuration option: nope"),
        (["--debug"], {"debug": True}, "specified both as a flag and in the configuration file: debug"),
        (["-H", "tcp://0.0.0.0:0"], {}, "refusing to listen on tcp://0.0.0.0:0 without TLS"),
        (["--bip", "10.0.0.0.1/8"], {}, "bip"),
        (["--log-driver", "awslogs"], {}, "logger: no log driver named 'awslogs' is registered"),
    ],
)
def test_bad_configuration(scratch: Path, options: list[str], config: dict[str, Any], message: str) -> None:
    (scratch / "daemon.json").write_text(json.dumps(config))
    said = refused(
        "--config-file", str(scratch / "daemon.json"), "--data-root", str(scratch / "data"),
        "--exec-root", str(scratch / "run"), "--pidfile", str(scratch / "pid"),
        *([] if "-H" in options else ["-H", f"unix://{scratch}/s"]), *options,
    )  # fmt: skip
    assert message in said
    assert not (scratch / "s").exists()


def test_validate_checks_without_starting(scratch: Path) -> None:
    path = scratch / "daemon.json"
    path.write_text('{"debug": true}')
    done = subprocess.run(
        [BIN / "gantryd", "--validate", "--config-file", path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "configuration OK\n")
    path.write_text('{"debug": 1}')
    assert refused("--validate", "--config-file", str(path)).endswith(
        "invalid JSON: json: cannot unmarshal number into Go struct field Config.debug of type bool"
    )


def test_root_is_needed(scratch: Path) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", BIN / "gantryd", "--data-root", scratch / "data"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "gantry" not in done.stderr or "Traceback" in done.stderr:
        pytest.skip("this checkout cannot be read by other users")
    assert done.returncode == 1
    assert done.stderr.startswith("gantryd needs to be started with root privileges")


def test_a_daemon_at_rest_is_small(start: Start) -> None:
    daemon = start()
    for _ in range(50):
        call(daemon.socket, "GET", "/info")
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident <= 90 << 10, f"{resident} kB"
