"""Real daemons on the real kernel: one for the session, official clients beside ours, and a leak check at the end."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gantry.linux.mount import unmount
from gantry.linux.nft import list_json
from lib.daemon import BIN, Client, Daemon, official_clients
from lib.machine import Machine
from lib.site import Site, another_host, links_of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reason = ""
    if os.geteuid() != 0:
        reason = "needs root: mounts, namespaces and cgroups are made"
    elif missing := [tool for tool in ("conmon", "nft", "busybox") if not shutil.which(tool)]:
        reason = f"needs {', '.join(missing)}: run scripts/setup"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After the whole run the machine is as it was: no mount, interface, rule, cgroup, namespace or process more."""
    if os.geteuid() != 0:
        yield
        return
    before = Machine.look()
    yield
    added: dict[str, list[str]] = {}
    deadline = time.monotonic() + 10  # namespaces and cgroups go away a moment after their last process
    while time.monotonic() < deadline:
        added = Machine.look().added_since(before)
        if not added:
            return
        time.sleep(0.2)
    raise AssertionError(f"left on this machine: {added}")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short directory path (sockets have short names) that is removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """The daemon that most system tests share."""
    made = Daemon(Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp")))
    made.start()
    try:
        yield made
    finally:
        client = Client(str(BIN / "gantry"), made.host, made.directory)
        if ids := client.out("ps", "-aq", check=False).split():
            client.run("rm", "-f", *ids, check=False)
        made.clean()


@pytest.fixture(scope="session")
def gantry(daemon: Daemon) -> Client:
    """Our own command line on the shared daemon, which has a `busybox` image."""
    client = Client(str(BIN / "gantry"), daemon.host, daemon.directory / "config")
    client.run("image", "bootstrap", "busybox", "-t", "busybox:latest")
    return client


@pytest.fixture(params=["gantry", "docker"])
def client(request: pytest.FixtureRequest, daemon: Daemon, gantry: Client) -> Client:
    """Each test runs once with `gantry` and once with the official client, on the same daemon."""
    if request.param == "gantry":
        return gantry
    programs = official_clients()
    if not programs:
        pytest.skip("no official docker client on this machine: scripts/setup --dev fetches one")
    return Client(programs[0], daemon.host, daemon.directory / "docker-config")


@pytest.fixture(scope="session")
def debian(gantry: Client) -> str:
    """A `debian:bookworm` image made from Debian's packages; skips where no mirror answers."""
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian")
    probe = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted], capture_output=True, text=True, check=False
    )
    mirror = probe.stdout.split()[0] if probe.stdout.split() else "http://deb.debian.org/debian"
    made = gantry.run(
        "image", "bootstrap", "bookworm", "-t", "debian:bookworm", "--mirror", mirror, check=False, timeout=600
    )
    if made.returncode:
        pytest.skip(f"no Debian mirror can be reached from here: {made.stderr.strip()[-200:]}")
    return "debian:bookworm"


@pytest.fixture
def builder(daemon: Daemon) -> None:
    """Skips, loudly, on a daemon that has no `/build`."""
    import http.client
    import socket

    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(daemon.socket))
    connection.request("POST", "/build?remote=", headers={"Content-Length": "0"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status == 404 and b"page not found" in body:
        pytest.skip("this daemon has no builder: POST /build is not served")


@pytest.fixture
async def site(scratch: Path) -> AsyncIterator[Site]:
    made = Site(scratch)
    await made.networks.start([])
    try:
        yield made
    finally:
        for container in made.containers.values():
            await made.networks.close_sandbox(container.id)
        await made.networks.stop()
        made.state.close()
        for left in (scratch / "run" / "netns").glob("*"):
            unmount(left, lazy=True)
        assert links_of(made) == set()
        tables = [each["table"]["name"] for each in await list_json("tables")]
        assert made.instance.nft_table not in tables


@pytest.fixture
def lan() -> Iterator[list[str]]:
    """Another host: a namespace behind a cable to this one; the value is a command prefix that runs there."""
    with another_host() as prefix:
        yield prefix
