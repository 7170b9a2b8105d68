"""AppArmor, where the kernel confines by profiles (as in the virtual machine of `scripts/test-vm`)."""

from pathlib import Path

import pytest

from gantry.runtime import apparmor
from lib.daemon import Client

pytestmark = pytest.mark.skipif(not apparmor.enabled(), reason="this kernel does not confine by AppArmor profiles")
_CURRENT = "cat /proc/self/attr/current"


@pytest.fixture(autouse=True)
def parser() -> None:
    if not any(Path(directory, "apparmor_parser").exists() for directory in ("/sbin", "/usr/sbin")):
        pytest.skip("needs apparmor_parser: apt-get install apparmor")


def test_default_and_unconfined(client: Client) -> None:
    seen = client.out("run", "--rm", "busybox", "sh", "-c", _CURRENT)
    assert seen == f"{apparmor.DEFAULT} (enforce)"
    for options in (("--security-opt", "apparmor=unconfined"), ("--privileged",)):
        assert client.out("run", "--rm", *options, "busybox", "sh", "-c", _CURRENT) == "unconfined"
    for options, profile in (
        ((), apparmor.DEFAULT), (("--security-opt", "apparmor=unconfined"), "unconfined"), (("--privileged",), "unconfined"),
    ):  # fmt: skip
        made = client.out("create", *options, "busybox", "true")
        assert client.out("inspect", "-f", "{{.AppArmorProfile}}", made) == profile
        client.run("rm", made)
    assert "name=apparmor" in client.out("info", "--format", "{{.SecurityOptions}}")


def test_what_the_profile_closes(client: Client) -> None:
    # The capability and the system call are allowed: only the profile stands in the way.
    options = ("--cap-add", "SYS_ADMIN", "--security-opt", "systempaths=unconfined")
    mount = "mkdir /m; mount -t tmpfs x /m && echo mounted; echo 5 >/proc/sys/vm/swappiness && echo written"
    confined = client.run("run", "--rm", *options, "busybox", "sh", "-c", mount, check=False)
    assert confined.stdout == ""
    assert confined.stderr.lower().count("permission denied") == 2
    opened = client.out("run", "--rm", *options, "--security-opt", "apparmor=unconfined", "busybox", "sh", "-c", mount)
    assert opened.split()[0] == "mounted"


def test_an_unknown_profile(client: Client) -> None:
    refused = client.run("run", "--rm", "--security-opt", "apparmor=not-loaded", "busybox", "true", check=False)
    assert refused.returncode in (125, 127)
    assert "/attr/" in refused.stderr  # the file of /proc that takes a profile
