"""What can go wrong around the daemon: each time a clear error, and a daemon that goes on."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gantry.model.instance import Instance
from lib.daemon import Daemon
from lib.engine_api import UnixConnection, call, make_busybox
from lib.inventory import differences


def ask(daemon: Daemon, method: str, target: str, body: Any = None) -> tuple[int, str]:
    """Status and message of a call that may fail."""
    connection = UnixConnection(daemon.socket)
    try:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, target, raw, {} if raw is None else {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    return answer.status, text


def create(daemon: Daemon, name: str, *command: str, **host: Any) -> None:
    body = {"Image": "busybox", "Cmd": list(command) or ["sleep", "1000"], "HostConfig": host}
    call(daemon.socket, "POST", f"/containers/create?name={name}", body)


def run(daemon: Daemon, name: str, *command: str, **host: Any) -> None:
    create(daemon, name, *command, **host)
    call(daemon.socket, "POST", f"/containers/{name}/start")


def state(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = call(daemon.socket, "GET", f"/containers/{name}/json")["State"]
    return found


def agree(daemon: Daemon) -> list[str]:
    deadline = time.monotonic() + 5
    while (found := differences(daemon)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def finish(daemon: Daemon) -> None:
    """Remove every container and stop."""
    if daemon.alive:
        for container in call(daemon.socket, "GET", "/containers/json?all=1"):
            call(daemon.socket, "DELETE", f"/containers/{container['Id']}?force=1&v=1", expect=(204, 404))
        daemon.stop()


def sweep(daemon: Daemon) -> None:
    """Take away by hand what a daemon left whose records can be read by no other."""
    instance = Instance.of(daemon.data_root, daemon.exec_root)
    groups = list(Path("/sys/fs/cgroup").glob(f"**{instance.cgroup_parent}"))
    for pid in {pid for group in groups for file in group.rglob("cgroup.procs") for pid in file.read_text().split()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    time.sleep(0.3)
    for group in groups:
        for directory in (*sorted((d for d in group.rglob("*") if d.is_dir()), reverse=True), group):
            directory.rmdir()
    subprocess.run(["nft", "delete", "table", "inet", instance.nft_table], check=True)
    for link in Path("/sys/class/net").glob(f"{instance.tag}*"):
        subprocess.run(["ip", "link", "delete", link.name], check=False, capture_output=True)


@pytest.fixture
def made(scratch: Path) -> Iterator[Daemon]:
    daemon = Daemon(scratch)
    yield daemon
    finish(daemon)
    daemon.clean()


@pytest.fixture
def small_disk(made: Daemon, scratch: Path) -> Iterator[Path]:
    """The data root on a file system of 24 MB; skips where there are no loop devices."""
    image, place = scratch / "disk", made.data_root
    with image.open("wb") as file:
        file.truncate(24 << 20)
    place.mkdir()
    if subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True, check=False).returncode:
        pytest.skip("mkfs.ext4 is missing: apt-get install e2fsprogs")
    options = "loop,errors=remount-ro"
    mounted = subprocess.run(["mount", "-o", options, image, place], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no loop device can be had here: {mounted.stderr.strip()}")
    yield place
    try:
        finish(made)
    finally:
        subprocess.run(["umount", place], check=True)


def fill(place: Path) -> Path:
    """Leave no byte."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (64 << 10, 4 << 10, 1):
            try:
                while file.write(bytes(size)):
                    continue
            except OSError:
                os.fsync(file.fileno())
    return ballast


def test_disk_full(made: Daemon, small_disk: Path) -> None:
    made.start()
    make_busybox(made.socket)
    run(made, "before")
    ballast = fill(small_disk)
    for method, target, body in (
        ("POST", "/containers/create?name=more", {"Image": "busybox", "Cmd": ["true"]}),
        ("POST", "/commit?container=before&repo=more&pause=0", {}),
        ("POST", "/images/create?fromSrc=-&repo=more", bytes(8 << 20)),
    ):
        status, said = ask(made, method, target, body)
        if status < 400:
            status, said = 500, said  # progress streams carry their error inside
        assert "no space left on device" in said.lower() or "disk is full" in said.lower(), (target, status, said)
    assert ask(made, "GET", "/_ping") == (200, "OK")
    assert state(made, "before")["Running"]
    made.kill()
    ballast.unlink()
    made.start()
    assert state(made, "before")["Running"], "nothing that was committed is lost"
    assert agree(made) == []
    run(made, "after", "true")
    call(made.socket, "DELETE", "/containers/after?force=1")
    call(made.socket, "DELETE", "/containers/before?force=1")


def test_disk_full_at_the_start(made: Daemon, small_disk: Path) -> None:
    made.start()
    make_busybox(made.socket)
    create(made, "one")
    made.kill()
    ballast = fill(small_disk)
    with pytest.raises(AssertionError, match="no space left on device") as refused:
        made.start()
    assert "Traceback" not in str(refused.value)
    ballast.unlink()
    made.start()
    assert state(made, "one")["Status"] == "created"
    call(made.socket, "POST", "/containers/one/start")
    call(made.socket, "DELETE", "/containers/one?force=1")


def test_a_data_root_that_becomes_read_only(made: Daemon, small_disk: Path) -> None:
    made.start()
    make_busybox(made.socket)
    run(made, "one")
    device = Path(
        next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if str(small_disk) in line)
    )
    try:  # what ext4 does when it finds an error on the disk
        Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("by a test")
    except OSError as error:
        pytest.skip(f"ext4 cannot be told to fail here: {error}")
    status, said = ask(made, "POST", "/containers/create?name=two", {"Image": "busybox"})
    assert status == 500
    assert "read-only" in said.lower() or "readonly" in said.lower(), said
    assert ask(made, "GET", "/_ping") == (200, "OK")
    assert state(made, "one")["Running"]
    made.kill()
    os.kill(_monitor(made, ""), signal.SIGKILL)
    sweep(made)


def test_a_data_root_that_is_read_only_from_the_start(scratch: Path, made: Daemon, small_disk: Path) -> None:
    made.start()
    made.stop()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(AssertionError) as refused:
        made.start()
    assert "Read-only file system" in str(refused.value)
    assert "Traceback" not in str(refused.value)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    made.start()


def test_a_runtime_that_crashes(made: Daemon, scratch: Path) -> None:
    odd, crashes = scratch / "odd", scratch / "crashes"
    odd.write_text(
        f'#!/bin/sh\n[ -e {crashes} ] && case "$*" in *create*) kill -SEGV $$;; esac\n'
        'exec "$(command -v crun || command -v runc)" "$@"\n'
    )
    odd.chmod(0o755)
    (scratch / "daemon.json").write_text(json.dumps({"runtimes": {"odd": {"path": str(odd)}}}))
    made.start()
    make_busybox(made.socket)
    crashes.touch()
    create(made, "one", Runtime="odd")
    status, said = ask(made, "POST", "/containers/one/start")
    assert status == 500, said
    assert "odd" in said
    assert state(made, "one")["Status"] == "created"
    assert agree(made) == []
    run(made, "other")
    crashes.unlink()
    call(made.socket, "POST", "/containers/one/start")
    assert state(made, "one")["Running"]


def test_a_monitor_that_is_killed(made: Daemon) -> None:
    made.start()
    make_busybox(made.socket)
    run(made, "one", RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 1})
    run(made, "other")
    before = state(made, "one")
    os.kill(_monitor(made, "one"), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (now := state(made, "one"))["StartedAt"] == before["StartedAt"] or not now["Running"]:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    assert state(made, "other")["Running"]
    assert agree(made) == []
    made.kill()
    os.kill(_monitor(made, "other"), signal.SIGKILL)
    made.start()
    assert (state(made, "other")["Status"], state(made, "other")["ExitCode"]) == ("exited", 137)
    assert agree(made) == []


def _monitor(daemon: Daemon, name: str) -> int:
    """The conmon of a container, "" for the only one."""
    for path in Path("/proc").iterdir():
        try:
            arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        ours = arguments[0].endswith("conmon") and any(each.startswith(f"{daemon.exec_root}/") for each in arguments)
        if ours and name in ("", arguments[arguments.index("-n") + 1]):
            return int(path.name)
    raise AssertionError(f"{name} has no conmon")
