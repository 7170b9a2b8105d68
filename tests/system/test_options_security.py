"""What a container may do: capabilities, system calls, paths, privileges; seen from inside."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.daemon import Client

_DEFAULT = 0xA80425FB  # Docker's fourteen capabilities
_NET_ADMIN, _CHOWN, _SYS_TIME = 1 << 12, 1 << 0, 1 << 25


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    made = "sec-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    yield made
    client.run("rm", "-f", "-v", made, check=False)


def status(client: Client, *options: str, key: str = "CapEff") -> str:
    """A line of /proc/self/status in a container with these options."""
    return client.out("run", "--rm", *options, "busybox", "grep", f"^{key}:", "/proc/self/status").split()[1]


def sh(client: Client, *options: str, command: str) -> str:
    return client.out("run", "--rm", *options, "busybox", "sh", "-c", command)


@pytest.fixture(scope="module")
def everything(gantry: Client) -> int:
    """What this daemon itself may give away."""
    return int(status(gantry, "--privileged", key="CapBnd"), 16)


class TestCapabilities:
    @pytest.mark.parametrize(
        ("options", "added", "dropped"),
        [
            ((), 0, 0),
            (("--cap-add", "NET_ADMIN"), _NET_ADMIN, 0),
            (("--cap-add", "cap_net_admin", "--cap-drop", "CHOWN"), _NET_ADMIN, _CHOWN),
            (("--cap-drop", "ALL"), 0, _DEFAULT),
            (("--cap-drop", "ALL", "--cap-add", "CHOWN"), 0, _DEFAULT & ~_CHOWN),
        ],
    )
    def test_added_and_dropped(self, client: Client, options: tuple[str, ...], added: int, dropped: int) -> None:
        wanted = (_DEFAULT | added) & ~dropped
        for key in ("CapEff", "CapPrm", "CapBnd"):
            assert int(status(client, *options, key=key), 16) == wanted
        assert int(status(client, *options, key="CapAmb"), 16) == 0

    def test_all(self, client: Client, everything: int) -> None:
        assert int(status(client, "--cap-add", "ALL"), 16) == everything
        assert int(status(client, "--cap-add", "ALL", "--cap-drop", "CHOWN"), 16) == everything & ~_CHOWN

    def test_what_is_dropped_is_refused(self, client: Client) -> None:
        denied = client.run("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "1", "/tmp", check=False)
        assert denied.returncode == 1
        assert "Operation not permitted" in denied.stderr
        assert "Operation not permitted" in sh(client, command="ip link add x type dummy 2>&1; :")
        sh(client, "--cap-add", "NET_ADMIN", command="ip link set lo down")

    def test_another_user_has_none(self, client: Client) -> None:
        assert int(status(client, "--user", "1000"), 16) == 0

    def test_unknown(self, client: Client) -> None:
        refused = client.run("create", "--cap-add", "BOGUS", "busybox", "true", check=False)
        assert 'invalid CapAdd: unknown capability: "CAP_BOGUS"' in refused.stderr

    def test_exec(self, client: Client, name: str, everything: int) -> None:
        client.run("run", "-d", "--name", name, "--cap-drop", "CHOWN", "busybox", "sleep", "60")
        own = client.out("exec", name, "grep", "CapEff", "/proc/self/status").split()[1]
        assert int(own, 16) == _DEFAULT & ~_CHOWN
        privileged = client.out("exec", "--privileged", name, "grep", "CapEff", "/proc/self/status").split()[1]
        assert int(privileged, 16) == everything


class TestPrivileged:
    def test_everything_is_open(self, client: Client) -> None:
        seen = sh(
            client, "--privileged",
            command="grep Seccomp: /proc/self/status | tr -d '\\t'; ls /dev | wc -l; grep -c ' /proc/[a-z]' /proc/mounts;"
            " awk '$2 == \"/sys\" { print substr($4, 1, 2) }' /proc/mounts; mount -t tmpfs x /mnt 2>/dev/null"
            " || { mkdir /mnt; mount -t tmpfs x /mnt; }; grep -c ' /mnt ' /proc/mounts",
        ).splitlines()  # fmt: skip
        assert seen[0] == "Seccomp:0"
        assert int(seen[1]) > 15  # the host's devices
        assert seen[2:] == ["0", "rw", "1"]


class TestPaths:
    def test_masked_and_read_only(self, client: Client) -> None:
        seen = sh(
            client,
            command="wc -c </proc/timer_list; ls /sys/firmware | wc -l; echo 1 2>&1 >/proc/sys/kernel/domainname; :",
        )  # fmt: skip
        assert seen.split()[:2] == ["0", "0"]
        denied = client.run("run", "--rm", "busybox", "sh", "-c", "echo x >/proc/sys/kernel/domainname", check=False)
        assert "Read-only file system" in denied.stderr

    def test_system_paths_unconfined(self, client: Client, name: str) -> None:
        client.run("create", "--name", name, "--security-opt", "systempaths=unconfined", "busybox", "true")
        found: dict[str, Any] = json.loads(client.out("inspect", "-f", "{{json .HostConfig}}", name))
        assert (found["MaskedPaths"], found["ReadonlyPaths"]) == ([], [])
        assert sh(
            client, "--security-opt", "systempaths=unconfined", command="grep -c ' /proc/[a-z]' /proc/mounts; :"
        ) == "0"  # fmt: skip


class TestNoNewPrivileges:
    @pytest.mark.parametrize(
        ("option", "value"),
        [("no-new-privileges", "1"), ("no-new-privileges:true", "1"), ("no-new-privileges=false", "0")],
    )
    def test_forms(self, client: Client, option: str, value: str) -> None:
        assert status(client, "--security-opt", option, key="NoNewPrivs") == value

    def test_default_and_bad_value(self, client: Client) -> None:
        assert status(client, key="NoNewPrivs") == "0"
        refused = client.run("run", "--rm", "--security-opt", "no-new-privileges:x", "busybox", "true", check=False)
        assert refused.returncode == 125
        assert 'invalid --security-opt 2: "no-new-privileges:x"' in refused.stderr


class TestSeccomp:
    def test_default_and_unconfined(self, client: Client) -> None:
        assert status(client, key="Seccomp") == "2"
        assert status(client, "--security-opt", "seccomp=unconfined", key="Seccomp") == "0"
        # A new user namespace is what the default filter refuses to those without CAP_SYS_ADMIN.
        command = "unshare -U true 2>&1 && echo made; :"
        assert "Operation not permitted" in sh(client, command=command)
        assert "Operation not permitted" not in sh(client, "--security-opt", "seccomp=unconfined", command=command)

    @pytest.fixture
    def profile(self, tmp_path: Path) -> Path:
        """Docker's form: everything is allowed, mkdir only with CAP_SYS_TIME and not with CAP_NET_ADMIN."""
        calls = [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_TIME"]}},
            {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "includes": {"caps": ["CAP_NET_ADMIN"]}},
            {"names": ["unlink", "unlinkat"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["s390x"]}},
            {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"},
        ]
        path = tmp_path / "profile.json"
        path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}))
        return path

    def test_a_file_with_conditions(self, client: Client, profile: Path) -> None:
        option = ("--security-opt", f"seccomp={profile}")
        assert "not permitted" in sh(client, *option, command="mkdir /x 2>&1; :")
        # The condition looks at what the container was given, so the call is allowed here.
        assert sh(client, *option, "--cap-add", "SYS_TIME", command="mkdir /x && rmdir /x && echo done") == "done"
        refused = sh(
            client, *option, "--cap-add", "SYS_TIME", "--cap-add", "NET_ADMIN", command="mkdir /x; rmdir /x 2>&1; :"
        )
        assert "I/O error" in refused or "Input/output error" in refused
        assert sh(client, *option, command="touch /f && rm /f && echo removed") == "removed"

    def test_privileged_keeps_a_profile_that_was_named(self, client: Client, profile: Path) -> None:
        option = ("--privileged", "--security-opt", f"seccomp={profile}")
        assert status(client, *option, key="Seccomp") == "2"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "unexpected end of JSON input"),
            ("nothing", "invalid character 'o' in literal null (expecting 'u')"),
            ('{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]}', "archMap"),
        ],
    )
    def test_bad_profiles(self, client: Client, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "bad.json").write_text(text)
        refused = client.run(
            "run", "--rm", "--security-opt", f"seccomp={tmp_path / 'bad.json'}", "busybox", "true", check=False
        )
        assert refused.returncode == 125
        assert message in refused.stderr
        absent = client.run("run", "--rm", "--security-opt", "seccomp=/not/here", "busybox", "true", check=False)
        assert absent.returncode == 125
        assert "opening seccomp profile (/not/here) failed" in absent.stderr


class TestLabels:
    @pytest.mark.parametrize("option", ["apparmor=unconfined", "label=disable", "label=type:x", "apparmor:unconfined"])
    def test_accepted(self, client: Client, option: str) -> None:
        assert sh(client, "--security-opt", option, command="echo ran") == "ran"

    def test_unknown(self, client: Client) -> None:
        for option in ("bogus", "bogus=1"):
            refused = client.run("create", "--security-opt", option, "busybox", "true", check=False)
            assert refused.returncode
            assert "nvalid --security-opt" in refused.stderr
            assert option in refused.stderr
