"""What a Docker user does, start to end, with `gantry` and with the official client on the same daemon."""

import json
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import PROJECT, Client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, *, host: str = "127.0.0.1", seconds: float = 15) -> str:
    """The page at a published port, as soon as it answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            with opener.open(f"http://{host}:{port}/", timeout=3) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def inspect(client: Client, name: str) -> dict[str, object]:
    found: list[dict[str, object]] = json.loads(client.out("inspect", name))
    return found[0]


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A container name of this test's own; what has it is removed afterwards."""
    made = "w-" + request.node.name.replace("[", "-").replace("]", "")[:40]
    yield made
    client.run("rm", "-f", "-v", made, check=False)


class TestBuildAndLook:
    """Walk 1."""

    @pytest.mark.usefixtures("builder")
    def test_classic_build(self, client: Client, tmp_path: Path) -> None:
        context = tmp_path / "app"
        (context / "conf.d").mkdir(parents=True)
        (context / "conf.d" / "one.conf").write_text("one\n")
        (context / "app.js").write_text("console.log('hi')\n")
        (context / "secret.txt").write_text("keep out\n")
        (context / ".dockerignore").write_text("*.txt\n")
        (context / "Dockerfile").write_text(
            "FROM busybox\n"
            'ARG email="anna@example.com"\n'
            'LABEL "maintainer"=$email\n'
            'LABEL "rating"="Five Stars" "class"="First Class"\n'
            "USER root\n"
            "ENV AP=/data/app SCPATH=/etc/supervisor/conf.d\n"
            "RUN mkdir -p /var/log/app && echo built > /var/log/app/when\n"
            "COPY ./conf.d/* $SCPATH/\n"
            "COPY *.js *.txt* $AP/\n"
            "WORKDIR $AP\n"
            'CMD ["cat", "app.js"]\n'
        )
        tag = f"walk/hello-{Path(client.program).name}:latest"
        build = (
            ("build", "-t", tag, ".") if Path(client.program).name == "gantry" else ("image", "build", "-t", tag, ".")
        )
        first = client.out(*build, cwd=context, DOCKER_BUILDKIT="0")
        assert f"Successfully tagged {tag}" in first
        labels = inspect(client, tag)["Config"]["Labels"]  # type: ignore[index]
        assert labels.items() >= {
            "maintainer": "anna@example.com", "rating": "Five Stars", "class": "First Class",
        }.items()  # fmt: skip
        assert client.out("run", "--rm", tag) == "console.log('hi')"
        assert client.out("run", "--rm", tag, "ls", "/data/app", "/etc/supervisor/conf.d").split() == [
            "/data/app:", "app.js", "/etc/supervisor/conf.d:", "one.conf",
        ]  # fmt: skip

        again = client.out(*build, cwd=context, DOCKER_BUILDKIT="0")
        assert again.count("Using cache") >= 8
        changed = client.out(*build, "--build-arg", "email=me@example.com", cwd=context, DOCKER_BUILDKIT="0")
        assert inspect(client, tag)["Config"]["Labels"]["maintainer"] == "me@example.com"  # type: ignore[index]
        assert "Successfully tagged" in changed

        assert tag.split(":")[0] in client.out("image", "ls")
        history = client.out("image", "history", "--no-trunc", tag)
        assert "mkdir -p /var/log/app" in history
        client.run("rmi", "-f", tag)

    @pytest.mark.usefixtures("builder")
    @pytest.mark.timeout(900)
    def test_example(self, client: Client, debian: str, name: str) -> None:
        """The example of the demonstration: Debian's packages, a package installer, a process manager, a page."""
        if Path(client.program).name != "gantry":
            pytest.skip("the official client cannot lend the host's certificate authorities to a build")
        client.run("build", "--host-ca", "-t", "walk/hello-web", str(PROJECT / "examples/hello-web"), timeout=600)
        port = free_port()
        client.run("run", "-d", "--name", name, "-p", f"{port}:8080", "walk/hello-web")
        assert fetch(port) == "Hello World. Wish you were here.\n"
        client.run("rm", "-f", name)
        client.run("run", "-d", "--name", name, "-p", f"{port}:8080", "-e", "WHO=Sean and Karl", "walk/hello-web")
        assert fetch(port) == "Hello Sean and Karl. Wish you were here.\n"
        environment = client.out("image", "inspect", "walk/hello-web", "--format", "{{json .Config.Env}}")
        assert "SSL_CERT_FILE" not in environment
        assert client.run("exec", name, "test", "-e", "/dev/gantry-host-ca.crt", check=False).returncode == 1


class TestRunAndConfigure:
    """Walk 2."""

    SERVER = 'mkdir -p /www && echo "Hello ${WHO:-World}." > /www/index.html && exec httpd -f -p 8080 -h /www'

    @pytest.mark.parametrize("form", ["short", "long"])
    def test_published_page(self, client: Client, name: str, form: str) -> None:
        port = free_port()
        publish = ("-p", f"{port}:8080")
        if form == "long":
            publish = ("--publish", f"mode=ingress,published={port},target=8080")
        made = client.out(
            "container", "run", "--rm", "-d", "--name", name, *publish, "--env", "WHO=Sean and Karl",
            "busybox", "sh", "-c", self.SERVER,
        )  # fmt: skip
        assert len(made) == 64
        assert fetch(port) == "Hello Sean and Karl.\n"
        listed = client.out("container", "ls", "--format", "{{.Names}} {{.Ports}}")
        assert f"{name} 0.0.0.0:{port}->8080/tcp" in listed
        client.run("container", "stop", "-t", "1", made[:12])
        deadline = time.monotonic() + 5
        while name in client.out("ps", "-a", "--format", "{{.Names}}"):
            assert time.monotonic() < deadline, "--rm did not remove it"
            time.sleep(0.05)
        with pytest.raises(OSError):
            fetch(port, seconds=0)

    def test_context_list(self, client: Client) -> None:
        assert client.host in client.out("context", "list") or "default" in client.out("context", "ls")


class TestSmallImages:
    """Walk 5."""

    @pytest.mark.usefixtures("builder")
    def test_scratch_and_sizes(self, client: Client, tmp_path: Path) -> None:
        busybox = Path(shutil.which("busybox") or "/bin/busybox")
        shutil.copy(busybox, tmp_path / "busybox")
        (tmp_path / "Dockerfile").write_text(
            "FROM busybox AS builder\n"
            "RUN mkdir /out && cp /bin/busybox /out/hello\n"
            "FROM scratch\n"
            "COPY --from=builder /out/hello /bin/echo\n"
            "EXPOSE 8080\n"
            'CMD ["/bin/echo", "tiny"]\n'
        )
        built = client.out("build", "-q", ".", cwd=tmp_path, DOCKER_BUILDKIT="0").splitlines()[-1]
        assert client.out("run", "--rm", built) == "tiny"
        assert "8080/tcp" in inspect(client, built)["Config"]["ExposedPorts"]  # type: ignore[index]

        def size(*lines: str) -> int:
            (tmp_path / "Dockerfile").write_text("FROM busybox\n" + "".join(f"{line}\n" for line in lines))
            made = client.out("build", "-q", "--no-cache", ".", cwd=tmp_path, DOCKER_BUILDKIT="0").splitlines()[-1]
            return int(inspect(client, made)["Size"])  # type: ignore[call-overload]

        fill = "dd if=/dev/urandom of=/big bs=1M count=8 2>/dev/null"
        assert size(f"RUN {fill}", "RUN rm /big") > 8 << 20
        assert size(f"RUN {fill} && rm /big") < 8 << 20


class TestContainersInDetail:
    """Walk 8."""

    def test_create_then_start(self, client: Client, name: str) -> None:
        client.run(
            "container",
            "create",
            "--name",
            name,
            "-l",
            "deployer=Ahmed",
            "-l",
            "tester=Asako",
            "busybox",
            "sleep",
            "120",
        )
        assert (
            client.out("container", "ls", "-a", "-f", "label=deployer=Ahmed", "--format", "{{.Names}} {{.State}}")
            == f"{name} created"
        )
        assert client.out("start", name) == name
        state = inspect(client, name)
        assert state["State"]["Running"] is True  # type: ignore[index]
        assert state["Config"]["Labels"].items() >= {"deployer": "Ahmed", "tester": "Asako"}.items()  # type: ignore[index]

    def test_identity_files(self, client: Client, name: str) -> None:
        shown = client.out(
            "run", "--rm", "--name", name, "--hostname", "mycontainer.example.com",
            "--dns", "9.9.9.9", "--dns", "1.1.1.1", "--dns-search", "example1.com", "--dns-search", "example2.com",
            "busybox", "sh", "-c", "hostname -f; cat /etc/resolv.conf; cat /etc/hostname; mount",
        )  # fmt: skip
        assert shown.startswith("mycontainer.example.com\n")
        assert "nameserver 9.9.9.9\nnameserver 1.1.1.1\n" in shown
        assert "search example1.com example2.com" in shown
        for path in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
            assert f" on {path} type " in shown

    def test_mac_address(self, client: Client, name: str) -> None:
        shown = client.out(
            "run", "--rm", "--name", name, "--mac-address", "a2:11:aa:22:bb:33", "busybox", "ip", "link", "show", "eth0"
        )
        assert "a2:11:aa:22:bb:33" in shown

    def test_data_outlives_containers(self, client: Client, name: str, tmp_path: Path) -> None:
        mount = f"type=bind,target=/mnt/session_data,source={tmp_path}"
        client.run(
            "run", "--rm", "--name", name, "--mount", mount, "busybox", "sh", "-c", "echo kept > /mnt/session_data/f"
        )
        assert client.out("run", "--rm", "-v", f"{tmp_path}:/d", "busybox", "cat", "/d/f") == "kept"

    def test_a_missing_source_is_made_or_refused(self, client: Client, name: str, tmp_path: Path) -> None:
        mount = f"type=bind,target=/m,source={tmp_path}/none"
        refused = client.run("run", "--rm", "--name", name, "--mount", mount, "busybox", "true", check=False)
        assert refused.returncode == 125
        assert f"bind source path does not exist: {tmp_path}/none" in refused.stderr
        client.run("run", "--rm", "--name", name, "-v", f"{tmp_path}/made:/m", "busybox", "touch", "/m/f")
        assert (tmp_path / "made" / "f").exists()

    def test_read_only_root(self, client: Client, name: str, tmp_path: Path) -> None:
        done = client.run(
            "run", "--rm", "--name", name, "--read-only=true", "-v", f"{tmp_path}:/data", "busybox",
            "sh", "-c", "touch /data/ok && touch /bad", check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr
        assert (tmp_path / "ok").exists()


class TestLife:
    """Walk 10."""

    def test_signals_and_exit_codes(self, client: Client, name: str) -> None:
        client.run(
            "run",
            "-d",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            "trap 'echo usr1' USR1; trap 'exit 7' TERM; while :; do sleep 0.1; done",
        )
        client.run("kill", "--signal=USR1", name)
        deadline = time.monotonic() + 5
        while "usr1" not in client.out("logs", name):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.run("stop", "-t", "5", name)
        assert inspect(client, name)["State"]["ExitCode"] == 7  # type: ignore[index]
        assert client.out("wait", name) == "7"

    def test_pause(self, client: Client, name: str) -> None:
        client.run("run", "-d", "--name", name, "busybox", "sleep", "60")
        client.run("pause", name)
        assert "(Paused)" in client.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}")
        client.run("unpause", name)
        assert inspect(client, name)["State"]["Status"] == "running"  # type: ignore[index]

    def test_exec_top_diff_cp(self, client: Client, name: str, tmp_path: Path) -> None:
        client.run("run", "-d", "--name", name, "busybox", "sleep", "60")
        done = client.run("exec", "-e", "A=b", "-w", "/tmp", name, "sh", "-c", "echo $A $PWD; exit 3", check=False)
        assert (done.stdout, done.returncode) == ("b /tmp\n", 3)
        assert "sleep 60" in client.out("top", name)
        (tmp_path / "in").write_text("carried\n")
        client.run("cp", str(tmp_path / "in"), f"{name}:/tmp/in")
        assert client.out("exec", name, "cat", "/tmp/in") == "carried"
        client.run("cp", f"{name}:/tmp/in", str(tmp_path / "out"))
        assert (tmp_path / "out").read_text() == "carried\n"
        assert client.out("diff", name).splitlines() == ["C /tmp", "A /tmp/in"]

    def test_logs_follow(self, client: Client, name: str) -> None:
        client.run(
            "run", "-d", "--name", name, "busybox", "sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.2; done"
        )
        assert client.out("logs", "-f", name).splitlines() == ["line 1", "line 2", "line 3"]
        assert client.out("logs", "--tail", "1", name) == "line 3"

    def test_restart_on_failure(self, client: Client, name: str) -> None:
        client.run("run", "-d", "--name", name, "--restart=on-failure:3", "busybox", "false")
        deadline = time.monotonic() + 20
        while inspect(client, name)["State"]["Status"] != "exited":  # type: ignore[index]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert inspect(client, name)["RestartCount"] == 3

    def test_exit_codes_of_run(self, client: Client) -> None:
        for command, code in (
            (("sh", "-c", "exit 9"), 9),
            (("nope",), 127),
            (("/etc",), 126),
            (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
        ):
            assert client.run("run", "--rm", "busybox", *command, check=False).returncode == code
        assert client.run("run", "--rm", "--no-such-flag", "busybox", check=False).returncode == 125
        assert client.run("run", "--rm", "walk/absent:none", "--pull", "never", check=False).returncode == 125

    def test_events(self, client: Client, name: str) -> None:
        since = str(time.time_ns() / 1e9)
        client.run("run", "--name", name, "busybox", "true")
        client.run("rm", name)
        shown = client.out(
            "events", "--since", since, "--until", str(time.time_ns() / 1e9), "--filter", f"container={name}",
            "--format", "{{.Action}}",
        )  # fmt: skip
        assert shown.splitlines() == ["create", "attach", "start", "die", "destroy"]
