"""A power cut, played by copying the data root at a random moment and starting on the copy; and a reboot."""

import contextlib
import http.client
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gantry.model.instance import Instance
from lib.daemon import Daemon
from lib.engine_api import call, make_busybox
from lib.inventory import differences

_CUTS = 3
_SETTLED = 5.0


class Host:
    """A machine that can be switched off: a daemon with directories of its own, and a boot id that changes."""

    def __init__(self, directory: Path) -> None:
        self._boot = directory / "boot_id"
        self.daemon = Daemon(directory)
        self.daemon.prefix = (
            "unshare", "--mount", "sh", "-c",
            f'mount --bind {self._boot} /proc/sys/kernel/random/boot_id && exec "$@"', "sh",
        )  # fmt: skip
        self._boots = 0

    def boot(self) -> None:
        self._boots += 1
        self._boot.write_text(f"00000000-0000-4000-8000-{self._boots:012}\n")
        self.daemon.start()

    def switch_off(self) -> None:
        """Every process ends at once; what lives in memory (exec root, interfaces, rules, cgroups) is gone."""
        self.daemon.kill()
        instance = Instance.of(self.daemon.data_root, self.daemon.exec_root)
        deadline = time.monotonic() + 10
        while pids := self._pids(instance):
            assert time.monotonic() < deadline
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        shutil.rmtree(self.daemon.exec_root)
        subprocess.run(["nft", "delete", "table", "inet", instance.nft_table], capture_output=True, check=False)
        for link in Path("/sys/class/net").iterdir():
            if link.name.startswith(instance.tag):
                subprocess.run(["ip", "link", "delete", link.name], capture_output=True, check=False)
        for group in sorted(Path("/sys/fs/cgroup").glob(f"*/{instance.name}/**/"), reverse=True):
            group.rmdir()

    def _pids(self, instance: Instance) -> set[int]:
        found = set()
        for file in Path("/sys/fs/cgroup").glob(f"**/{instance.name}/**/cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in file.read_text().split())
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if path.name.isdecimal() and f"{self.daemon.exec_root}/".encode() in (path / "cmdline").read_bytes():
                    found.add(int(path.name))
        return found

    def __call__(self, method: str, target: str, body: Any = None) -> Any:
        return call(self.daemon.socket, method, target, body)

    def run(self, name: str, *command: str, **host: Any) -> None:
        body = {"Image": "busybox", "Cmd": list(command) or ["sleep", "1000"], "HostConfig": host}
        self("POST", f"/containers/create?name={name}", body)
        self("POST", f"/containers/{name}/start")

    def states(self) -> dict[str, dict[str, Any]]:
        names = [each["Names"][0][1:] for each in self("GET", "/containers/json?all=1")]
        return {name: self("GET", f"/containers/{name}/json")["State"] for name in names}

    def agree(self) -> list[str]:
        """What machine and database do not agree on after some seconds."""
        deadline = time.monotonic() + _SETTLED
        while (found := differences(self.daemon)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


@pytest.fixture
def host(scratch: Path) -> Iterator[Host]:
    made = Host(scratch)
    made.boot()
    make_busybox(made.daemon.socket)
    yield made
    for container in made("GET", "/containers/json?all=1"):
        made("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    made.daemon.clean()


def test_power_cut_at_random_moments(host: Host, scratch: Path) -> None:
    for name in ("kept", "other"):
        host.run(name, "sh", "-c", "echo said; sleep 1000", Binds=[f"{name}:/v"])
    host("POST", "/containers/create?name=idle", {"Image": "busybox", "Cmd": ["true"]})
    stop = threading.Event()
    rounds = 0

    def work() -> None:
        nonlocal rounds
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):  # until the power is cut
            while not stop.is_set():
                host.run("busy", "sh", "-c", "echo > /made; sleep 1000")
                host("POST", "/commit?container=busy&repo=busy")
                host("POST", "/build?t=built", _context(rounds))
                host("DELETE", "/containers/busy?force=1&v=1")
                rounds += 1

    worker = threading.Thread(target=work)
    worker.start()
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    copies = []
    for number in range(_CUTS):
        time.sleep(chance.uniform(0.1, 0.8))
        os.kill(host.daemon.pid, signal.SIGSTOP)  # a disk does not change while it is read
        copy = scratch / f"copy{number}"
        subprocess.run(["cp", "-a", "--reflink=auto", host.daemon.data_root, copy], check=True)
        os.kill(host.daemon.pid, signal.SIGCONT)
        copies.append(copy)
    stop.set()
    host.switch_off()
    worker.join()
    assert copies
    for copy in copies:
        shutil.rmtree(host.daemon.data_root)
        copy.rename(host.daemon.data_root)
        host.boot()
        assert host.agree() == [], f"seed {seed}"
        states = host.states()
        assert {"kept", "other", "idle"} <= set(states), f"seed {seed}"
        for name in ("kept", "other"):
            assert (states[name]["Status"], states[name]["ExitCode"]) == ("exited", 255)
            logged = call(host.daemon.socket, "GET", f"/containers/{name}/logs?stdout=1")
            assert b"said" in logged
            host("POST", f"/containers/{name}/start")
        assert states["idle"]["Status"] == "created"
        for number, image in enumerate(host("GET", "/images/json?all=1")):
            host("POST", f"/containers/create?name=of{number}", {"Image": image["Id"], "Cmd": ["true"]})
            host("POST", f"/containers/of{number}/start")
            assert host("POST", f"/containers/of{number}/wait")["StatusCode"] == 0, f"seed {seed}"
        host.switch_off()
    host.boot()


def _context(number: int) -> bytes:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        data = f"FROM busybox\nRUN echo {number} > /number\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def test_restart_policies_over_a_reboot(host: Host) -> None:
    for policy in ("no", "always", "unless-stopped", "on-failure"):
        host.run(policy, RestartPolicy={"Name": policy})
    host.run("unless-stopped-and-stopped", RestartPolicy={"Name": "unless-stopped"})
    host.run("always-and-stopped", RestartPolicy={"Name": "always"})
    host.run("on-failure-and-stopped", RestartPolicy={"Name": "on-failure"})
    host.run("removed", AutoRemove=True)
    for name in ("unless-stopped", "always", "on-failure"):
        host("POST", f"/containers/{name}-and-stopped/stop?t=0")
    host("POST", "/containers/create?name=never-started", {"Image": "busybox", "HostConfig": {
        "RestartPolicy": {"Name": "always"}}})  # fmt: skip
    host.switch_off()
    host.boot()
    # As with Docker, only `unless-stopped` remembers over a restart of the daemon that it was stopped by hand.
    started = {"always", "unless-stopped", "on-failure", "always-and-stopped", "on-failure-and-stopped"}
    deadline = time.monotonic() + 10
    while (found := {n for n, state in host.states().items() if state["Running"]}) != started:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    states = host.states()
    assert (states["no"]["Status"], states["no"]["ExitCode"]) == ("exited", 255)
    assert states["unless-stopped-and-stopped"]["Status"] == "exited"
    assert states["never-started"]["Status"] == "created"
    assert "removed" not in states, "--rm is kept, though no daemon saw the end"
    assert host.agree() == []


def test_boot_id_changes_though_the_exec_root_stays(host: Host) -> None:
    """An exec root that is not in memory: process numbers of the last boot mean nothing."""
    host.run("one", RestartPolicy={"Name": "always"})
    host.run("two")
    run_root = host.daemon.exec_root
    kept = run_root.with_name("kept")
    subprocess.run(["cp", "-a", run_root, kept], check=True)
    host.switch_off()
    kept.rename(run_root)
    host.boot()
    deadline = time.monotonic() + 10
    while not host.states()["one"]["Running"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert host.states()["two"]["ExitCode"] == 255
    assert host.agree() == []
