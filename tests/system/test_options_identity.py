"""Who a container is and how its process runs: each option's effect, seen from inside the container."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.daemon import Client


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    made = "id-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    yield made
    client.run("rm", "-f", "-v", made, check=False)


def inspect(client: Client, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(client.out("inspect", name))
    return found[0]


def sh(client: Client, *options: str, command: str) -> str:
    """The output of a shell command in a container with these options."""
    return client.out("run", "--rm", *options, "busybox", "sh", "-c", command)


class TestNamesAndLabels:
    def test_a_name_of_two_words(self, client: Client) -> None:
        made = client.out("create", "busybox", "true")
        try:
            assert re.fullmatch(r"/[a-z]+_[a-z]+\d*", inspect(client, made)["Name"])
        finally:
            client.run("rm", made)

    def test_bad_and_taken_names(self, client: Client, name: str) -> None:
        made = client.out("create", "--name", name, "busybox", "true")
        taken = client.run("create", "--name", name, "busybox", "true", check=False)
        assert f'Conflict. The container name "/{name}" is already in use by container "{made}"' in taken.stderr
        bad = client.run("create", "--name", "-x", "busybox", "true", check=False)
        assert "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in bad.stderr

    def test_labels_are_inherited(self, client: Client, name: str, tmp_path: Path) -> None:
        image = f"identity/labels:{Path(client.program).name}"
        client.run("create", "--name", name, "busybox", "true")
        client.run("commit", "-c", "LABEL own=image both=image", name, image)
        client.run("rm", name)
        (tmp_path / "labels").write_text("# comment\nfile=1\nboth=file\n")
        client.run(
            "create", "--name", name, "--label-file", str(tmp_path / "labels"), "-l", "both=flag", "-l", "bare", image
        )
        labels = inspect(client, name)["Config"]["Labels"]
        assert labels.items() >= {"own": "image", "both": "flag", "file": "1", "bare": ""}.items()
        client.run("rm", name)
        client.run("rmi", image)

    def test_hostname_and_domainname(self, client: Client) -> None:
        seen = sh(
            client, "--hostname", "box", "--domainname", "example.org",
            command="hostname; cat /etc/hostname /proc/sys/kernel/domainname; grep box /etc/hosts",
        ).split("\n")  # fmt: skip
        assert seen[:3] == ["box", "box", "example.org"]
        assert seen[3].split()[1:] == ["box.example.org", "box"]

    def test_cidfile(self, client: Client, name: str, tmp_path: Path) -> None:
        path = tmp_path / "cid"
        made = client.out("create", "--name", name, "--cidfile", str(path), "busybox", "true")
        assert path.read_text() == made
        again = client.run("run", "--rm", "--cidfile", str(path), "busybox", "true", check=False)
        assert again.returncode == 125
        assert "container ID file found" in again.stderr


class TestUser:
    @pytest.mark.parametrize(
        ("user", "seen"),
        [
            ("1000", "1000 0 0"),
            ("1000:50", "1000 50 50"),
            ("daemon", "1 1 1"),
            ("daemon:bin", "1 2 2"),
            (":bin", "0 2 2"),
        ],
    )
    def test_names_and_numbers(self, client: Client, user: str, seen: str) -> None:
        # The image's own files decide: these are put in before the user is looked up.
        files = "printf 'root:x:0:0::/root:/bin/sh\\ndaemon:x:1:1::/d:/bin/sh\\n' >/etc/passwd;"
        files += "printf 'root:x:0:\\ndaemon:x:1:\\nbin:x:2:\\nextra:x:77:daemon\\n' >/etc/group"
        made = client.out("run", "-d", "busybox", "sh", "-c", f"{files}; sleep 60")
        try:
            deadline = time.monotonic() + 10
            while client.run("exec", made, "grep", "-q", "extra", "/etc/group", check=False).returncode:
                assert time.monotonic() < deadline
            client.run("commit", made, "identity/users")
        finally:
            client.run("rm", "-f", made)
        options = ("--rm", "--user", user, "identity/users", "sh", "-c")
        assert client.out("run", *options, 'echo $(id -u) $(id -g) $(id -G | cut -d" " -f1)') == seen
        groups = client.out("run", "--group-add", "extra", "--group-add", "99", *options, "id -G").split()
        assert {"77", "99"} <= set(groups)
        client.run("rmi", "identity/users")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("-u", "nobody-here"), "unable to find user nobody-here: no matching entries in passwd file"),
            (("-u", "0:nogroup-here"), "unable to find group nogroup-here: no matching entries in group file"),
            (("-u", "99999999999"), "uids and gids must be in range 0-2147483647"),
            (("--group-add", "nope"), "unable to find group nope: no matching entries in group file"),
        ],
    )
    def test_refusals(self, client: Client, options: tuple[str, ...], message: str) -> None:
        refused = client.run("run", "--rm", *options, "busybox", "true", check=False)
        assert refused.returncode == 125
        assert message in refused.stderr


class TestProcess:
    def test_environment(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "env").write_text("# comment\nFROM_FILE=a b\nFROM_HERE\nBOTH=file\n")
        seen = client.run(
            "run", "--rm", "--env-file", str(tmp_path / "env"), "-e", "BOTH=flag", "-e", "EMPTY=", "-e", "NOT_HERE",
            "busybox", "env", FROM_HERE="yes",
        ).stdout.splitlines()  # fmt: skip
        assert {"FROM_FILE=a b", "FROM_HERE=yes", "BOTH=flag", "EMPTY=", "HOME=/root"} <= set(seen)
        assert not any(line.startswith("NOT_HERE") for line in seen)

    def test_workdir_is_made(self, client: Client) -> None:
        assert sh(client, "-w", "/made/for/it", command="pwd") == "/made/for/it"
        refused = client.run("run", "--rm", "-w", "relative", "busybox", "true", check=False)
        assert "the working directory 'relative' is invalid, it needs to be an absolute path" in refused.stderr

    def test_entrypoint_and_its_reset(self, client: Client, name: str) -> None:
        image = f"identity/entry:{Path(client.program).name}"
        client.run("create", "--name", name, "busybox", "true")
        client.run("commit", "-c", 'ENTRYPOINT ["echo", "entry"]', "-c", 'CMD ["cmd"]', name, image)
        assert client.out("run", "--rm", image) == "entry cmd"
        assert client.out("run", "--rm", image, "given") == "entry given"
        assert client.out("run", "--rm", "--entrypoint", "basename", image, "/a/b") == "b"
        assert client.out("run", "--rm", "--entrypoint", "", image, "echo", "plain") == "plain"
        none = client.run("run", "--rm", "--entrypoint", "", image, check=False)
        assert "no command specified" in none.stderr
        client.run("rmi", image)

    def test_init_reaps_and_forwards(self, client: Client, name: str) -> None:
        client.run(
            "run", "-d", "--init", "--name", name, "busybox", "sh", "-c",
            "trap 'exit 7' USR1; (sleep 0.1 &) ; while :; do sleep 0.1; done",
        )  # fmt: skip
        assert client.out("exec", name, "cat", "/proc/1/comm") in ("docker-init", "tini", "tini-static", "catatonit")
        assert inspect(client, name)["HostConfig"]["Init"] is True
        deadline = time.monotonic() + 10
        while " Z" in client.out("exec", name, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | cut -d')' -f2"):
            assert time.monotonic() < deadline, "an orphan is not reaped"
        client.run("kill", "-s", "USR1", name)
        assert client.out("wait", name) == "7"

    def test_stop_signal_and_timeout(self, client: Client, name: str) -> None:
        script = "trap 'exit 9' USR2; trap '' TERM; echo ready; while :; do sleep 0.05; done"
        client.run(
            "run", "-d", "--stop-signal", "USR2", "--stop-timeout", "30", "--name", name, "busybox", "sh", "-c", script
        )
        while client.run("logs", name).stdout != "ready\n":
            time.sleep(0.02)
        client.run("stop", name)
        assert inspect(client, name)["State"]["ExitCode"] == 9
        client.run("rm", name)
        client.run("run", "-d", "--stop-timeout", "1", "--name", name, "busybox", "sh", "-c", script)
        while client.run("logs", name).stdout != "ready\n":
            time.sleep(0.02)
        began = time.monotonic()
        client.run("stop", name)
        assert inspect(client, name)["State"]["ExitCode"] == 128 + signal.SIGKILL
        assert 0.9 < time.monotonic() - began < 8
        refused = client.run("create", "--stop-signal", "BOGUS", "busybox", "true", check=False)
        assert "invalid signal: BOGUS" in refused.stderr

    def test_read_only(self, client: Client) -> None:
        seen = sh(
            client, "--read-only", "--tmpfs", "/run",
            command="touch /f; touch /run/f /dev/shm/f && grep ' / ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1",
        )  # fmt: skip
        assert seen == "ro"

    def test_terminal_and_input(self, client: Client) -> None:
        assert client.out("run", "--rm", "-i", "busybox", "cat", stdin="typed\n") == "typed"
        assert sh(client, "-t", command="tty") == "/dev/pts/0"
        assert sh(client, command="tty || true") == "not a tty"

    def test_pull_policies(self, client: Client) -> None:
        assert sh(client, "--pull", "never", command="echo ran") == "ran"
        assert sh(client, "--pull", "missing", command="echo ran") == "ran"
        absent = client.run("run", "--rm", "--pull", "never", "not-here:1", "true", check=False)
        assert absent.returncode == 125
        assert "No such image: not-here:1" in absent.stderr

    def test_platform(self, client: Client) -> None:
        assert sh(client, "--platform", "linux/amd64", command="echo ran") == "ran"
        refused = client.run("create", "--platform", "linux/s390x", "--pull", "never", "busybox", check=False)
        assert refused.returncode
        assert "does not match the specified platform" in refused.stderr
        bad = client.run("create", "--platform", "bogus/bogus/bogus/bogus", "busybox", check=False)
        assert bad.returncode


class TestNamespaces:
    """Which of the host's namespaces a container shares."""

    @staticmethod
    def of_container(client: Client, kind: str, *options: str) -> str:
        return sh(client, *options, command=f"readlink /proc/self/ns/{kind}")

    @staticmethod
    def of_host(kind: str) -> str:
        return str(Path(f"/proc/self/ns/{kind}").readlink())

    @pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
    def test_own_or_the_host_s(self, client: Client, kind: str) -> None:
        assert self.of_container(client, kind) != self.of_host(kind)
        assert self.of_container(client, kind, f"--{kind}", "host") == self.of_host(kind)

    def test_another_container_s(self, client: Client, name: str) -> None:
        client.run("run", "-d", "--name", name, "--ipc", "shareable", "busybox", "sleep", "60")
        for kind in ("pid", "ipc"):
            theirs = client.out("exec", name, "readlink", f"/proc/self/ns/{kind}")
            assert self.of_container(client, kind, f"--{kind}", f"container:{name}") == theirs
        assert "sleep 60" in sh(client, "--pid", f"container:{name}", command="cat /proc/1/cmdline | tr '\\0' ' '")
        client.run("exec", name, "touch", "/dev/shm/shared")
        assert sh(client, "--ipc", f"container:{name}", command="ls /dev/shm") == "shared"

    def test_private_and_no_ipc(self, client: Client, name: str) -> None:
        client.run("run", "-d", "--name", name, "--ipc", "private", "busybox", "sleep", "60")
        refused = client.run("run", "--rm", "--ipc", f"container:{name}", "busybox", "true", check=False)
        assert refused.returncode == 125
        assert "non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in refused.stderr
        assert sh(client, "--ipc", "none", command="grep -c shm /proc/mounts || true") == "0"

    def test_cgroup_namespace(self, client: Client) -> None:
        private = sh(client, "--cgroupns", "private", command="cut -d: -f3 /proc/1/cgroup | sort -u")
        assert private == "/"
        assert self.of_container(client, "cgroup", "--cgroupns", "host") == self.of_host("cgroup")

    def test_user_namespace_of_the_host(self, client: Client) -> None:
        assert self.of_container(client, "user", "--userns", "host") == self.of_host("user")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--pid", "bogus"), "invalid PID mode"),
            (("--ipc", "bogus"), "invalid IPC mode"),
            (("--uts", "bogus"), "invalid UTS mode"),
            (("--cgroupns", "bogus"), "invalid cgroup"),
            (("--uts", "host", "--hostname", "x"), "conflicting options: hostname and the UTS mode"),
            (("--pid", "container:nobody-here"), "No such container: nobody-here"),
        ],
    )
    def test_refusals(self, client: Client, options: tuple[str, ...], message: str) -> None:
        refused = client.run("run", "--rm", *options, "busybox", "true", check=False)
        assert refused.returncode == 125
        assert message.lower() in refused.stderr.lower()
