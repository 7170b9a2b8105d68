"""`userns-remap`: a daemon whose containers run in a user namespace, through both clients."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gantry.runtime.facts import kernel_version
from lib.daemon import BIN, Client, Daemon, official_clients

_LOWEST = 100_000  # where ranges begin that the daemon takes for `dockremap`


@pytest.fixture(scope="module")
def remapped() -> Iterator[Daemon]:
    """A daemon with `default`: it makes user `dockremap` in a copy of /etc that is its own."""
    if kernel_version() < (5, 19):
        pytest.skip("needs Linux 5.19: overlayfs on layers with shifted ids")
    directory = Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp"))
    directory.chmod(0o711)
    for name in ("upper", "work"):
        (directory / "etc" / name).mkdir(parents=True)
    made = Daemon(directory, "--userns-remap", "default")
    upper, work = directory / "etc" / "upper", directory / "etc" / "work"
    overlay = f'mount -t overlay -o lowerdir=/etc,upperdir={upper},workdir={work} overlay /etc && exec "$@"'
    made.prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", overlay, "sh")
    made.start()
    client = Client(str(BIN / "gantry"), made.host, directory / "config")
    try:
        client.run("image", "bootstrap", "busybox", "-t", "busybox:latest")
        yield made
    finally:
        if ids := client.out("ps", "-aq", check=False).split():
            client.run("rm", "-f", *ids, check=False)
        made.clean()


@pytest.fixture(params=["gantry", "docker"])
def client(request: pytest.FixtureRequest, remapped: Daemon) -> Client:
    if request.param == "gantry":
        return Client(str(BIN / "gantry"), remapped.host, remapped.directory / "config")
    programs = official_clients()
    if not programs:
        pytest.skip("no official docker client on this machine: scripts/setup --dev fetches one")
    return Client(programs[0], remapped.host, remapped.directory / "docker-config")


@pytest.fixture
def running(client: Client) -> Iterator[str]:
    container = client.out("run", "-d", "busybox", "sh", "-c", "touch /made && chown 7:8 /made && sleep 1000")
    yield container
    client.run("rm", "-f", container)


def test_root_inside_is_somebody_else_outside(client: Client, running: str) -> None:
    assert "uid=0(root) gid=0(root)" in client.out("exec", running, "id")
    first = int(client.out("exec", running, "cat", "/proc/self/uid_map").split()[1])
    assert first >= _LOWEST
    status = Path(f"/proc/{client.out('inspect', '-f', '{{.State.Pid}}', running)}/status").read_text()
    assert status.split("Uid:")[1].split()[:4] == [str(first)] * 4
    assert "name=userns" in client.out("info", "-f", "{{.SecurityOptions}}")


def test_the_hosts_files_are_out_of_reach(client: Client, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    done = client.run("run", "--rm", "-v", f"{secret}:/secret", "busybox", "cat", "/secret", check=False)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    shown = client.out("run", "--rm", "-v", f"{secret}:/secret", "busybox", "stat", "-c", "%u:%g", "/secret")
    assert shown == "65534:65534"
    assert client.out("run", "--rm", "--userns=host", "-v", f"{secret}:/secret", "busybox", "cat", "/secret") == "s"


def test_the_root_file_system_and_volumes_belong_to_the_containers_root(client: Client, remapped: Daemon) -> None:
    script = "stat -c %u:%g / /etc /etc/hosts /vol && touch /vol/x /x && echo 1.2.3.4 more >> /etc/hosts && rm /bin/vi"
    options = ("--rm", "-v", "owned:/vol", "--init", "--tmpfs", "/t", "-m", "64m", "--sysctl", "net.ipv4.ip_forward=1")
    assert client.out("run", *options, "busybox", "sh", "-c", script).split() == ["0:0"] * 4
    data = remapped.data_root / "volumes" / "owned" / "_data"
    assert data.stat().st_uid >= _LOWEST
    assert (data / "x").stat().st_uid == data.stat().st_uid
    client.run("volume", "rm", "owned")


def test_copy_up_gives_volumes_the_containers_ids(client: Client) -> None:
    assert client.out("run", "--rm", "-v", "/bin", "busybox", "stat", "-c", "%u:%g", "/bin", "/bin/sh").split() == [
        "0:0",
        "0:0",
    ]


@pytest.mark.parametrize("stopped", [False, True])
def test_copying_in_and_out(client: Client, running: str, tmp_path: Path, stopped: bool) -> None:
    source = tmp_path / "in"
    source.write_text("data")
    os.chown(source, 12, 13)
    if stopped:
        client.run("stop", "-t", "0", running)
    client.run("cp", str(source), f"{running}:/plain")
    client.run("cp", "-a", str(source), f"{running}:/kept")
    client.run("cp", f"{running}:/plain", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "data"
    for archive in (("cp", f"{running}:/made", "-"), ("export", running)):
        assert b"0000007\x000000010" in client.run(*archive).stdout.encode()  # the owner of `made` in octal
    if stopped:
        client.run("start", running)
    owners = client.out("exec", running, "stat", "-c", "%u:%g", "/plain", "/kept")
    assert owners.split() == ["0:0", "12:13"]


def test_a_commit_is_the_same_image_without_remapping(client: Client, running: str, gantry: Client) -> None:
    assert client.out("diff", running).split("\n") == ["A /made"]
    client.run("commit", running, "committed")
    show = ("stat", "-c", "%u:%g", "/bin/sh", "/made")
    assert client.out("run", "--rm", "committed", *show).split() == ["0:0", "7:8"]
    assert client.out("run", "--rm", "--userns=host", "committed", *show).split() == ["0:0", "7:8"]
    with tempfile.NamedTemporaryFile() as file:
        client.run("save", "-o", file.name, "committed")
        gantry.run("load", "-i", file.name)
    assert gantry.out("run", "--rm", "committed", *show).split() == ["0:0", "7:8"]
    assert gantry.out("image", "inspect", "-f", "{{.RootFS.Layers}}", "committed") == client.out(
        "image", "inspect", "-f", "{{.RootFS.Layers}}", "committed"
    )
    gantry.run("rmi", "committed")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--privileged",), "privileged mode is incompatible with user namespaces.  You must run the container in the"),
        (("--network", "host"), "cannot share the host's network namespace when user namespaces are enabled"),
        (("--pid", "host"), "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_needs_the_hosts_user_namespace(client: Client, options: tuple[str, ...], words: str) -> None:
    refused = client.run("run", "--rm", *options, "busybox", "true", check=False)
    assert refused.returncode == 125
    assert words in refused.stderr
    mapped = client.out("run", "--rm", "--userns=host", *options, "busybox", "cat", "/proc/self/uid_map")
    assert mapped.split() == ["0", "0", "4294967295"]


def test_namespaces_are_shared_between_containers(client: Client, running: str) -> None:
    share = f"container:{running}"
    shown = client.out("run", "--rm", "--network", share, "--pid", share, "busybox", "ps")
    assert "sleep 1000" in shown
    assert "uid=0" in client.out("run", "--rm", "--ipc", "host", "--network", "none", "--read-only", "busybox", "id")
    assert "uid=0" in client.out("run", "--rm", "--runtime", "runc", "busybox", "id")
    assert "uid=1000" in client.out("exec", "-u", "1000:1000", running, "id")


def test_builds(remapped: Daemon, tmp_path: Path) -> None:
    client = Client(str(BIN / "gantry"), remapped.host, remapped.directory / "config")
    (tmp_path / "f").write_text("data")
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox AS base\n"
        "COPY f /f\n"
        "RUN touch /g && chown 3:4 /g && test $(stat -c %u /f) = 0\n"
        "FROM base\n"
        "RUN --mount=type=cache,target=/cache touch /cache/x && test $(stat -c %u /cache) = 0\n"
        "RUN --mount=type=secret,id=a test $(cat /run/secrets/a) = hidden\n"
        "RUN --mount=type=bind,from=base,target=/b test $(stat -c %u:%g /b/g) = 3:4\n"
        "RUN --mount=type=bind,from=base,source=/g,target=/h test $(stat -c %u:%g /h) = 3:4\n"
        "RUN --mount=type=bind,target=/c,rw test $(stat -c %u /c/f) = 0 && touch /c/new\n"
        "WORKDIR /w\n"
        "COPY --chown=9:9 f /w/f\n"
    )
    client.run("build", "--secret", f"id=a,src={tmp_path / 'secret'}", "-t", "built", str(tmp_path))
    assert client.out("run", "--rm", "built", "stat", "-c", "%u:%g", "/f", "/g", "/w", "/w/f").split() == [
        "0:0", "3:4", "0:0", "9:9",
    ]  # fmt: skip
    refused = client.run("build", "--network", "host", "--no-cache", str(tmp_path), check=False)
    assert "cannot share the host's network namespace when user namespaces are enabled" in refused.stderr


def test_on_the_disk_all_ids_are_the_images(remapped: Daemon, running: str) -> None:
    found = [
        path
        for path in (remapped.data_root / "snapshots").rglob("*")
        if path.lstat().st_uid >= _LOWEST or path.lstat().st_gid >= _LOWEST
    ]
    assert not found, running


def test_containers_go_on_under_the_next_daemon(remapped: Daemon, client: Client, running: str) -> None:
    remapped.kill()
    remapped.start()
    assert "uid=0" in client.out("exec", running, "id")
    client.run("restart", "-t", "0", running)
    assert client.out("exec", running, "stat", "-c", "%u:%g", "/made") == "7:8"
    assert "uid=0" in client.out("run", "--rm", "busybox", "id")
