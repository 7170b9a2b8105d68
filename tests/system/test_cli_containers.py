"""The command line's container commands against a real daemon.

With GANTRY_TEST_HOST they run against the daemon there (Docker's too, which needs a `busybox` image).
"""

import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib.daemon import BIN, Client


@pytest.fixture(scope="module")
def cli(request: pytest.FixtureRequest) -> Iterator[Client]:
    host = os.environ.get("GANTRY_TEST_HOST", "")
    if not host:
        yield request.getfixturevalue("gantry")
        return
    with tempfile.TemporaryDirectory() as config:
        yield Client(str(BIN / "gantry"), host, Path(config))


@pytest.fixture
def name(cli: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    made = "cli-" + "".join(char if char.isalnum() else "-" for char in request.node.name)[:40]
    yield made
    cli.run("rm", "-f", "-v", made, check=False)


@pytest.fixture
def running(cli: Client, name: str) -> str:
    cli.run("run", "-d", "--name", name, "busybox", "sh", "-c", "echo out; echo err >&2; exec sleep 600")
    deadline = time.monotonic() + 10
    while cli.run("logs", name).stdout != "out\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    return name


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, cli: Client, *words: str) -> None:
        self._master, slave = pty.openpty()
        self.process = cli.start(*words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.seen = b""

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def expect(self, text: bytes, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"no {text!r} in {self.seen!r}")

    def end(self, seconds: float = 15) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.05)
        status = self.process.wait(1)
        while self._read(0.05):
            pass
        os.close(self._master)
        return status

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            block = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += block
        return bool(block)


class TestRun:
    @pytest.mark.parametrize(
        ("command", "status"),
        [(["true"], 0), (["sh", "-c", "exit 42"], 42), (["no-such-command"], 127), (["/etc"], 126)],
    )
    def test_exit_status(self, cli: Client, name: str, command: list[str], status: int) -> None:
        done = cli.run("run", "--rm", "--name", name, "busybox", *command, check=False)
        assert done.returncode == status, done.stderr
        assert cli.out("ps", "-aq", "-f", f"name={name}") == ""

    def test_killed(self, cli: Client, name: str) -> None:
        process = cli.start("run", "--name", name, "busybox", "sleep", "600")
        _until(lambda: cli.out("ps", "-q", "-f", f"name={name}") != "")
        cli.run("kill", name)
        assert process.wait(10) == 137

    def test_streams_are_apart(self, cli: Client) -> None:
        done = cli.run("run", "--rm", "busybox", "sh", "-c", "echo o; echo e >&2")
        assert (done.stdout, done.stderr) == ("o\n", "e\n")

    def test_standard_input_to_its_end(self, cli: Client) -> None:
        data = "".join(f"line {number}\n" for number in range(50_000))
        assert cli.run("run", "--rm", "-i", "busybox", "cat", stdin=data).stdout == data

    def test_input_that_nobody_reads(self, cli: Client) -> None:
        done = cli.run(
            "run", "--rm", "-i", "busybox", "sh", "-c", "exec 0<&-; sleep 0.5; echo ok", stdin="x" * 1_000_000
        )
        assert done.stdout == "ok\n"

    def test_signals_are_forwarded(self, cli: Client, name: str) -> None:
        script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
        process = cli.start("run", "--name", name, "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=15)
        assert (out, process.returncode) == (b"got\n", 9)

    def test_detached(self, cli: Client, name: str) -> None:
        identity = cli.out("run", "-d", "--name", name, "busybox", "sleep", "600")
        assert len(identity) == 64
        assert cli.out("inspect", "-f", "{{.Id}} {{.State.Running}}", name) == f"{identity} true"

    def test_environment_directory_user(self, cli: Client) -> None:
        done = cli.run(
            "run", "--rm", "-e", "A=x y", "-w", "/tmp", "-u", "7:8", "busybox", "sh", "-c", "echo $A; pwd; id -u; id -g"
        )
        assert done.stdout == "x y\n/tmp\n7\n8\n"

    def test_missing_image(self, cli: Client) -> None:
        done = cli.run("run", "--pull", "never", "no-such-image", check=False)
        assert (done.returncode, done.stdout) == (125, "")
        assert "No such image: no-such-image:latest" in done.stderr


class TestTerminal:
    def test_a_shell(self, cli: Client, name: str) -> None:
        terminal = Terminal(cli, "run", "--rm", "--name", name, "-it", "busybox", "sh")
        terminal.expect(b"# ")
        terminal.type(b"tty; echo $((40+2))\n")
        terminal.expect(b"\r\n42\r\n")
        terminal.type(b"exit 5\n")
        assert terminal.end() == 5

    def test_interrupt_goes_to_the_container(self, cli: Client, name: str) -> None:
        script = "trap 'echo got; exit 3' INT; echo ready; while :; do sleep 0.1; done"
        terminal = Terminal(cli, "run", "--rm", "--name", name, "-it", "busybox", "sh", "-c", script)
        terminal.expect(b"ready")
        terminal.type(b"\x03")
        assert terminal.end() == 3
        assert b"got" in terminal.seen

    def test_detach_and_attach(self, cli: Client, name: str) -> None:
        terminal = Terminal(cli, "run", "--name", name, "-it", "busybox", "sh")
        terminal.expect(b"# ")
        terminal.type(b"\x10\x11")
        assert terminal.end() == 0
        assert cli.out("inspect", "-f", "{{.State.Running}}", name) == "true"
        terminal = Terminal(cli, "attach", "--detach-keys", "ctrl-a,d", name)
        time.sleep(0.5)
        terminal.type(b"echo $((20+3))\n")
        terminal.expect(b"23")
        terminal.type(b"\x01d")
        assert terminal.end() == 1
        assert b"read escape sequence" in terminal.seen
        terminal = Terminal(cli, "attach", name)
        time.sleep(0.5)
        terminal.type(b"exit 6\n")
        assert terminal.end() == 6

    def test_exec(self, cli: Client, running: str) -> None:
        terminal = Terminal(cli, "exec", "-it", running, "sh")
        terminal.expect(b"# ")
        terminal.type(b"exit 4\n")
        assert terminal.end() == 4


class TestExec:
    def test_streams_and_status(self, cli: Client, running: str) -> None:
        done = cli.run("exec", running, "sh", "-c", "echo o; echo e >&2; exit 3", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, "o\n", "e\n")

    def test_standard_input(self, cli: Client, running: str) -> None:
        assert cli.run("exec", "-i", running, "cat", stdin="abc").stdout == "abc"

    def test_options(self, cli: Client, running: str) -> None:
        assert cli.out("exec", "-e", "A=1", "-w", "/tmp", "-u", "5", running, "sh", "-c", "echo $A; pwd; id -u") == (
            "1\n/tmp\n5"
        )
        refused = cli.run("exec", "-u", "nobody-here", running, "true", check=False)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "unable to find user nobody-here: no matching entries in passwd file" in refused.stderr
        cli.run("exec", "-d", running, "touch", "/made")
        _until(lambda: cli.run("exec", running, "test", "-e", "/made", check=False).returncode == 0)

    def test_no_such_command(self, cli: Client, running: str) -> None:
        assert cli.run("exec", running, "no-such-command", check=False).returncode == 127


class TestLife:
    def test_stop_start_restart_wait_rm(self, cli: Client, running: str) -> None:
        assert cli.out("stop", "-t", "0", running) == running
        assert cli.out("wait", running) == "137"
        assert cli.out("start", running) == running
        assert cli.out("restart", "-t", "0", running) == running
        refused = cli.run("rm", running, check=False)
        assert (refused.returncode, "container is running" in refused.stderr) == (1, True)
        assert cli.out("kill", running) == running
        assert cli.out("rm", running) == running

    def test_start_attached(self, cli: Client, name: str) -> None:
        cli.run("create", "--name", name, "-i", "busybox", "sh", "-c", "read x; echo got $x; exit 8")
        done = cli.run("start", "-ai", name, stdin="abc\n", check=False)
        assert (done.returncode, done.stdout) == (8, "got abc\n")

    def test_several_at_once(self, cli: Client, running: str) -> None:
        done = cli.run("stop", "-t", "0", "no-such-one", running, check=False)
        assert (done.returncode, done.stdout) == (1, running + "\n")
        assert "No such container: no-such-one" in done.stderr

    def test_rename_pause_unpause(self, cli: Client, running: str) -> None:
        cli.run("rename", running, running + "-new")
        cli.run("rename", running + "-new", running)
        assert cli.out("pause", running) == running
        assert "(Paused)" in cli.out("ps", "-f", f"name={running}")
        assert cli.run("exec", running, "true", check=False).returncode == 1
        assert cli.out("unpause", running) == running


class TestLook:
    def test_ps(self, cli: Client, running: str) -> None:
        head, row = cli.out("ps", "-f", f"name={running}").splitlines()
        assert head.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
        assert row.endswith(running)
        assert cli.out("ps", "-f", f"name={running}", "--format", "{{.Names}} {{.State}}") == f"{running} running"
        assert json.loads(cli.out("ps", "-f", f"name={running}", "--format", "json"))["Names"] == running

    def test_logs(self, cli: Client, running: str) -> None:
        done = cli.run("logs", running)
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
        assert cli.run("logs", "--tail", "0", running).stdout == ""
        stamp, _, text = cli.run("logs", "-t", running).stdout.partition(" ")
        assert (stamp[4], stamp[10], stamp[-1], text) == ("-", "T", "Z", "out\n")
        assert cli.run("logs", "--since", "1h", running).stdout == "out\n"
        assert cli.run("logs", "--until", "1h", running).stdout == ""

    def test_follow_ends_with_the_container(self, cli: Client, running: str) -> None:
        process = cli.start("logs", "-f", running, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        assert process.stdout.readline() == b"out\n"
        cli.run("kill", running)
        assert process.wait(15) == 0
        process.stdout.close()

    def test_top_and_inspect(self, cli: Client, running: str) -> None:
        assert "sleep 600" in cli.out("top", running)
        found = json.loads(cli.out("container", "inspect", running))
        assert found[0]["Name"] == "/" + running
        assert cli.run("container", "inspect", "no-such-one", check=False).returncode == 1

    def test_events(self, cli: Client, name: str) -> None:
        cli.run("run", "--rm", "--name", name, "busybox", "true")
        time.sleep(0.2)
        seen = cli.out("events", "--since", "1m", "--until", "0s", "-f", f"container={name}", "--format", "{{.Action}}")
        actions = seen.split()
        assert actions[0] == "create"
        assert {"start", "die", "destroy"} <= set(actions)


class TestCopy:
    def test_both_ways(self, cli: Client, running: str, tmp_path: Path) -> None:
        source = tmp_path / "source"
        (source / "sub").mkdir(parents=True)
        (source / "a").write_text("alpha")
        (source / "sub" / "b").write_text("beta")
        (source / "link").symlink_to("a")
        cli.run("cp", str(source), f"{running}:/copied")
        cli.run("cp", f"{source}/.", f"{running}:/copied/again", check=False)
        assert cli.out("exec", running, "cat", "/copied/a", "/copied/sub/b", "/copied/link") == "alphabetaalpha"
        cli.run("cp", f"{running}:/copied", str(tmp_path / "back"))
        assert (tmp_path / "back" / "sub" / "b").read_text() == "beta"
        assert (tmp_path / "back" / "link").readlink() == Path("a")
        cli.run("cp", f"{running}:/copied/a", str(tmp_path / "renamed"))
        assert (tmp_path / "renamed").read_text() == "alpha"

    def test_through_pipes(self, cli: Client, running: str, tmp_path: Path) -> None:
        process = cli.start("cp", f"{running}:/etc/passwd", "-", stdout=subprocess.PIPE)
        archive, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        cli.run("cp", "-", f"{running}:/tmp", stdin=archive)
        assert cli.run("exec", running, "cmp", "/etc/passwd", "/tmp/passwd").returncode == 0

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["{c}:/no/such", "."], "Could not find the file /no/such in container"),
            (["{c}:/etc", "{file}"], "cannot copy directory"),
            (["{c}:/etc/passwd", "/no/such/x"], 'invalid output path: directory "/no/such" does not exist'),
            (["{file}", "{c}:/no/such/"], "no such directory"),
            (["/no/such", "{c}:/"], "no such file or directory"),
            (["{c}:/a", "{c}:/b"], "copying between containers is not supported"),
        ],
    )
    def test_refusals(self, cli: Client, running: str, tmp_path: Path, words: list[str], message: str) -> None:
        file = tmp_path / "file"
        file.write_text("x")
        done = cli.run("cp", *(word.format(c=running, file=file) for word in words), check=False, cwd=tmp_path)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
        assert sorted(tmp_path.iterdir()) == [file]


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen")
        time.sleep(0.05)
