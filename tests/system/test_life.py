"""Walks 10 and 11: a container's life over restarts of the daemon, and a daemon that is far away."""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.certificates import Authority
from lib.daemon import BIN, Client, Daemon, official_clients
from lib.engine_api import make_busybox

PROGRAMS = ["gantry", "docker"]


def client_of(program: str, host: str, config: Path) -> Client:
    """`gantry` or the official client; without `host`, its contexts decide where it goes."""
    if program == "docker" and not official_clients():
        pytest.skip("no official docker client on this machine: scripts/setup --dev fetches one")
    made = Client(str(BIN / "gantry") if program == "gantry" else official_clients()[0], host, config)
    if not host:
        del made._environment["DOCKER_HOST"]
    return made


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state(client: Client, name: str) -> Any:
    return json.loads(client.out("inspect", name))[0]["State"]


def restarts(client: Client, name: str) -> int:
    return int(json.loads(client.out("inspect", name))[0]["RestartCount"])


@pytest.fixture
def own(scratch: Path) -> Iterator[Daemon]:
    daemon = Daemon(scratch)
    daemon.start()
    make_busybox(daemon.socket)
    yield daemon
    client = client_of("gantry", daemon.host, scratch / "config")
    if ids := client.out("ps", "-aq", check=False).split():
        client.run("rm", "-f", "-v", *ids, check=False)
    daemon.clean()


@pytest.mark.parametrize("program", PROGRAMS)
def test_walk_10_life(own: Daemon, scratch: Path, program: str) -> None:
    client = client_of(program, own.host, scratch / program)

    # Restart policies, with Docker's growing pauses: 0.1 + 0.2 + 0.4 seconds.
    began = time.monotonic()
    client.run("run", "-d", "--name", "fails", "--restart", "on-failure:3", "busybox", "sh", "-c", "exit 7")
    until(lambda: state(client, "fails")["Status"] == "exited" and restarts(client, "fails") == 3)
    assert state(client, "fails")["ExitCode"] == 7
    assert time.monotonic() - began >= 0.7
    for name in ("always", "unless-stopped"):
        client.run("run", "-d", "--name", name, "--restart", name, "busybox", "sleep", "1000")
        client.run("run", "-d", "--name", f"{name}-2", "--restart", name, "busybox", "sleep", "1000")
        client.run("stop", "-t", "0", f"{name}-2")
    client.run("run", "-d", "--name", "none", "busybox", "sh", "-c", "echo said; exec sleep 1000")
    own.stop()  # politely: it stops the containers
    own.start()
    until(lambda: state(client, "always")["Running"] and state(client, "unless-stopped")["Running"])
    until(lambda: state(client, "always-2")["Running"])
    assert not state(client, "unless-stopped-2")["Running"]
    assert state(client, "none")["Status"] == "exited"
    assert restarts(client, "always") == 0
    own.kill()  # impolitely: they go on
    own.start()
    assert state(client, "always")["Running"]
    assert client.out("logs", "none") == "said"

    # Signals.
    script = "trap 'echo got' USR1; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    client.run("run", "-d", "--name", "signals", "busybox", "sh", "-c", script)
    until(lambda: "ready" in client.out("logs", "signals"))
    follower = client.start("logs", "-f", "signals", stdout=subprocess.PIPE)
    client.run("kill", "--signal=USR1", "signals")
    until(lambda: "got" in client.out("logs", "signals"))
    client.run("pause", "signals")
    assert state(client, "signals")["Paused"]
    refused = client.run("exec", "signals", "true", check=False)
    assert "is paused" in refused.stderr
    client.run("unpause", "signals")
    client.run("stop", "signals")
    assert state(client, "signals")["ExitCode"] == 5
    assert follower.communicate(timeout=10)[0] == b"ready\ngot\n"

    # What is going on inside.
    assert client.run("exec", "-i", "always", "sh", "-c", "cat; exit 4", stdin="in", check=False).returncode == 4
    assert "sleep 1000" in client.out("top", "always")
    assert "always" in client.out("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}")
    client.run("exec", "always", "sh", "-c", "echo new > /tmp/new; rm /bin/vi")
    assert {"A /tmp/new", "D /bin/vi"} <= set(client.out("diff", "always").splitlines())
    client.run("cp", "always:/tmp/new", str(scratch / f"new-{program}"))
    assert (scratch / f"new-{program}").read_text() == "new\n"
    client.run("cp", str(scratch / f"new-{program}"), "always:/tmp/back")
    assert client.out("exec", "always", "cat", "/tmp/back") == "new"

    # The end.
    client.run("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000")
    own.kill()
    own.start()
    client.run("stop", "-t", "0", "brief")
    until(lambda: "brief" not in client.out("ps", "-a", "--format", "{{.Names}}").split())
    assert "cannot remove" in client.run("rm", "always", check=False).stderr
    client.run("rm", "-f", "always", "always-2", "unless-stopped")
    client.run("container", "prune", "-f")
    assert client.out("ps", "-aq") == ""


def test_containers_in_all_states_outlive_a_killed_daemon(own: Daemon, scratch: Path) -> None:
    client = client_of("gantry", own.host, scratch / "config")
    client.run("create", "--name", "created", "busybox", "true")
    for number in range(3):
        client.run("run", "-d", "--name", f"running{number}", "busybox", "sh", "-c", "echo up; exec sleep 1000")
        client.run("run", "-d", "--name", f"paused{number}", "busybox", "sleep", "1000")
        client.run("pause", f"paused{number}")
        client.run("run", "--name", f"exited{number}", "busybox", "sh", "-c", f"echo down; exit {number}", check=False)
        client.run("run", "-d", "--name", f"ends{number}", "-i", "busybox", "sh", "-c", f"sleep 1; exit {20 + number}")
    client.run("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "sleep 0.1; exit 1")
    until(lambda: restarts(client, "again") >= 3)  # pauses of most of a second by now
    monitors = [_pid(client, f"ends{number}") for number in range(3)]
    own.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in monitors))  # they end while nobody watches
    own.start()
    assert state(client, "created")["Status"] == "created"
    for number in range(3):
        assert state(client, f"running{number}")["Status"] == "running"
        assert client.out("logs", f"running{number}") == "up"
        assert state(client, f"paused{number}")["Status"] == "paused"
        client.run("unpause", f"paused{number}")
        assert client.out("exec", f"paused{number}", "echo", "thawed") == "thawed"
        assert (state(client, f"exited{number}")["ExitCode"], client.out("logs", f"exited{number}")) == (number, "down")
        assert (state(client, f"ends{number}")["Status"], state(client, f"ends{number}")["ExitCode"]) == (
            "exited", 20 + number,
        )  # fmt: skip
    count = restarts(client, "again")
    until(lambda: restarts(client, "again") > count)


def _pid(client: Client, name: str) -> int:
    return int(state(client, name)["Pid"])


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, int, Path]]:
    """A daemon on a TCP port with client certificates; the directory of the client's."""
    directory = Path("/var/tmp") / f"gt-far{os.getpid()}"
    directory.mkdir()
    authority = Authority(tmp_path_factory.mktemp("tls"))
    server, user = authority.sign("server"), authority.sign("client", client=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    daemon = Daemon(
        directory, "--host", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", str(authority.path),
        "--tlscert", str(server.certificate), "--tlskey", str(server.key),
    )  # fmt: skip
    daemon.start()
    make_busybox(daemon.socket)
    yield daemon, port, user.certificate.parent
    daemon.clean()


def use(client: Client, **environment: str) -> None:
    """Something in every direction."""
    assert client.out("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo over", stdin="in\n", **environment) == (
        "in\nover"
    )
    assert client.run("run", "--rm", "busybox", "sh", "-c", "exit 9", check=False, **environment).returncode == 9
    assert "busybox" in client.out("image", "ls", **environment)


@pytest.mark.parametrize("program", PROGRAMS)
def test_walk_11_tcp_with_client_certificates(far: tuple[Daemon, int, Path], scratch: Path, program: str) -> None:
    _, port, certificates = far
    secure = client_of(program, f"tcp://127.0.0.1:{port}", scratch / "config")
    environment = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
    use(secure, **environment)
    files = ("--tlsverify", "--tlscacert", f"{certificates}/ca.pem", "--tlscert", f"{certificates}/cert.pem")
    flags = [*files, "--tlskey", f"{certificates}/key.pem", "--host", f"tcp://127.0.0.1:{port}"]
    assert client_of(program, "", scratch / "config").out(*flags, "version", "--format", "{{.Server.Os}}") == "linux"
    stranger = secure.run("ps", check=False)
    assert stranger.returncode == 1
    assert "Traceback" not in stranger.stderr

    # A context, and who wins: --host, DOCKER_HOST, --context, `context use`.
    local = client_of(program, "", scratch / "contexts")
    endpoint = (
        f"host=tcp://127.0.0.1:{port},ca={certificates}/ca.pem,cert={certificates}/cert.pem,key={certificates}/key.pem"
    )
    local.run("context", "create", "far", "--docker", endpoint)
    assert local.out("--context", "far", "version", "--format", "{{.Server.Os}}") == "linux"
    local.run("context", "use", "far")
    current = local.out("context", "ls", "--format", "{{if .Current}}{{.Name}}{{end}}")
    assert current.split() == ["far"]
    use(local)
    nowhere = local.run("ps", check=False, DOCKER_HOST="unix:///nowhere.sock")
    assert "/nowhere.sock" in nowhere.stderr
    local.run("context", "use", "default")
    local.run("context", "rm", "far")


@pytest.fixture(scope="module")
def ssh_port(far: tuple[Daemon, int, Path]) -> Iterator[tuple[int, Path]]:
    """An sshd of the test's own, whose only command joins the daemon's socket; the port, and a directory with `ssh`."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    if not sshd or not shutil.which("ssh"):
        pytest.skip("needs sshd and ssh: apt-get install openssh-server openssh-client")
    daemon, _, _ = far
    place = daemon.directory / "ssh"
    place.mkdir(mode=0o700)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key], check=True)
    shutil.copy(place / "user.pub", place / "authorized")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    (place / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        f"ForceCommand exec {BIN}/gantry --host {daemon.host} system dial-stdio\n"
    )
    (place / "bin").mkdir()
    wrapper = place / "bin" / "ssh"
    wrapper.write_text(
        f"#!/bin/sh\nexec {shutil.which('ssh')} -F none -i {place}/user -o StrictHostKeyChecking=no "
        '-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"\n'
    )
    wrapper.chmod(0o755)
    server = subprocess.Popen([sshd, "-D", "-e", "-f", place / "config"], stderr=subprocess.DEVNULL)
    try:
        yield port, place / "bin"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


@pytest.mark.parametrize("program", PROGRAMS)
def test_walk_11_ssh(ssh_port: tuple[int, Path], scratch: Path, program: str) -> None:
    port, directory = ssh_port
    path = f"{directory}:{os.environ['PATH']}"
    until(lambda: _listens(port))
    host = f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
    client = client_of(program, host, scratch / "config")
    use(client, PATH=path)
    local = client_of(program, "", scratch / "contexts")
    local.run("context", "create", "far", "--docker", f"host={host}")
    use(local, PATH=path, DOCKER_CONTEXT="far")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
