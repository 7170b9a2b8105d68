"""Limits: what the kernel holds, what is seen from inside, what `update` changes, what `stats` prints.

These run in the virtual machine of `scripts/test-vm` too, where there is version 2 of the control groups alone.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.daemon import Client
from lib.limits import UNIFIED, limits, weight

MB = 1 << 20


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    made = "res-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    yield made
    client.run("rm", "-f", "-v", made, check=False)


def sleeping(client: Client, name: str, *options: str) -> str:
    """Start a container that waits; what was warned about."""
    return client.run("run", "-d", "--name", name, *options, "busybox", "sleep", "600").stderr


def state(client: Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.out("inspect", "-f", "{{json .State}}", name))
    return found


def refused(client: Client, *options: str) -> str:
    done = client.run("run", "--rm", *options, "busybox", "true", check=False)
    assert done.returncode in (125, 127), (options, done.stdout, done.stderr)  # 127: some file is not there
    return done.stderr


class TestMemory:
    def test_limit_reservation_and_swap(self, client: Client, name: str) -> None:
        sleeping(client, name, "-m", "64m", "--memory-reservation", "32m", "--memory-swap", "96m")
        memory, reservation = limits(client, name, "memory", "reservation")
        assert (memory, reservation) == (str(64 * MB), str(32 * MB))
        info = json.loads(client.out("info", "--format", "{{json .}}"))
        if info["SwapLimit"]:
            # Version 1 counts memory and swap together, version 2 swap alone.
            assert limits(client, name, "swap") == [str((32 if UNIFIED else 96) * MB)]

    @pytest.mark.skipif(UNIFIED, reason="version 2 of the control groups has no swappiness and keeps its OOM killer")
    def test_swappiness_and_no_killer(self, client: Client, name: str) -> None:
        sleeping(client, name, "-m", "64m", "--memory-swappiness", "7", "--oom-kill-disable")
        assert limits(client, name, "swappiness") == ["7"]
        control = client.out("exec", name, "cat", "/sys/fs/cgroup/memory/memory.oom_control")
        assert "oom_kill_disable 1" in control

    @pytest.mark.skipif(not UNIFIED, reason="version 1 of the control groups has both")
    def test_what_version_2_lacks_is_discarded(self, client: Client, name: str) -> None:
        warned = sleeping(client, name, "-m", "64m", "--memory-swappiness", "7", "--oom-kill-disable")
        assert "Your kernel does not support memory swappiness capabilities" in warned
        assert "Your kernel does not support OomKillDisable. OomKillDisable discarded." in warned

    def test_out_of_memory(self, client: Client, name: str) -> None:
        # The shell itself stays below the limit: the whole container ends because its first process is killed.
        command = ("busybox", "sh", "-c", "exec tail -c 100m /dev/zero")
        done = client.run("run", "--name", name, "-m", "16m", "--memory-swap", "16m", *command, check=False)
        assert done.returncode == 137
        ended = state(client, name)
        assert (ended["OOMKilled"], ended["ExitCode"], ended["Status"]) == (True, 137, "exited")
        before = client.out("inspect", "-f", "{{.Created}}", name)
        events = client.out(
            "events",
            "--since",
            before,
            "--until",
            str(time.time()),
            "--filter",
            f"container={name}",
            "--format",
            "{{.Action}}",
        ).split()
        assert "oom" in events
        assert events.index("oom") < events.index("die")

    def test_a_child_that_is_killed_is_told_by_an_event(self, client: Client, name: str) -> None:
        client.run(
            "run", "--name", name, "-m", "24m", "--memory-swap", "24m", "busybox", "sh", "-c",
            "tail -c 100m /dev/zero; echo $?; exit 0",
        )  # fmt: skip
        assert client.out("logs", name).splitlines()[0] == "137"
        assert state(client, name)["ExitCode"] == 0

    def test_oom_score_and_shm_size(self, client: Client) -> None:
        options = ("--oom-score-adj", "500", "--shm-size", "16m")
        seen = client.out(
            "run", "--rm", *options, "busybox", "sh", "-c", "cat /proc/self/oom_score_adj; df -k /dev/shm | tail -1"
        ).split()
        assert (seen[0], seen[2]) == ("500", str(16 * 1024))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("-m", "1m"), "Minimum memory limit allowed is 6MB"),
            (("-m", "64m", "--memory-swap", "32m"), "Minimum memoryswap limit should be larger than memory limit"),
            (("--memory-swap", "64m"), "You should always set the Memory limit when using Memoryswap limit"),
            (("-m", "64m", "--memory-reservation", "1g"), "Minimum memory limit can not be less than memory"),
            (("--memory-swappiness", "101"), "alid memory swappiness range is 0-100"),
            (("--oom-score-adj", "1001"), "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
            (("--cpus", "9999"), "range of CPUs is from 0.01 to"),
            (("--cpu-period", "10"), "CPU cfs period can not be less than 1ms"),
            (("--cpu-quota", "10"), "CPU cfs quota can not be less than 1ms"),
            (("--cpuset-cpus", "4095"), "Requested CPUs are not available - requested 4095, available: "),
            (("--cpuset-cpus", "x"), "Invalid value x for cpuset cpus"),
            (("--cpuset-mems", "63"), "Requested memory nodes are not available - requested 63, available: 0"),
            (("--device-read-bps", "/dev/not-here:1mb"), "/dev/not-here"),
            (("--device", "/dev/not-here"), "/dev/not-here"),
        ],
    )
    def test_refusals(self, client: Client, options: tuple[str, ...], message: str) -> None:
        assert message in refused(client, *options)


class TestProcessor:
    def test_shares_quota_and_sets(self, client: Client, name: str) -> None:
        sleeping(client, name, "--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--cpus", ".25")
        shares, cpus, mems, quota, period = limits(client, name, "shares", "cpus", "mems", "quota", "period")
        assert shares == str(weight(512) if UNIFIED else 512)
        assert (cpus, mems, quota, period) == ("0", "0", "25000", "100000")
        assert client.out("exec", name, "nproc") == "1"

    def test_period_and_quota(self, client: Client, name: str) -> None:
        sleeping(client, name, "--cpu-period", "50000", "--cpu-quota", "20000")
        assert limits(client, name, "quota", "period") == ["20000", "50000"]

    def test_a_quota_throttles(self, client: Client, name: str) -> None:
        client.run("run", "-d", "--name", name, "--cpus", ".2", "busybox", "sh", "-c", "while :; do :; done")
        percent = float(client.out("stats", "--no-stream", "--format", "{{.CPUPerc}}", name).removesuffix("%"))
        assert 2 < percent < 45


class TestProcesses:
    def test_number_of_processes(self, client: Client, name: str) -> None:
        sleeping(client, name, "--pids-limit", "8")
        assert limits(client, name, "pids") == ["8"]
        burst = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; wait"
        assert "resource temporarily unavailable" in client.run(
            "exec", name, "sh", "-c", burst, check=False
        ).stderr.lower().replace("can't fork: ", "")

    def test_ulimits(self, client: Client) -> None:
        seen = client.out(
            "run", "--rm", "--ulimit", "nofile=64:128", "--ulimit", "core=0", "busybox", "sh", "-c",
            "ulimit -Sn; ulimit -Hn; ulimit -c",
        ).split()  # fmt: skip
        assert seen == ["64", "128", "0"]

    def test_sysctls(self, client: Client) -> None:
        options = ("--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4321")
        files = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax")
        assert client.out("run", "--rm", *options, "busybox", "cat", *files).split() == ["1", "4321"]
        assert "kernel.pid_max" in refused(client, "--sysctl", "kernel.pid_max=1000")


class TestDevices:
    @pytest.fixture
    def disk(self) -> str:
        """A block device of this machine."""
        for device in sorted(Path("/sys/block").iterdir()):
            if (path := Path("/dev", device.name)).is_block_device() and (device / "queue").exists():
                return str(path)
        pytest.skip("this machine has no block device")

    def test_rates(self, client: Client, name: str, disk: str) -> None:
        sleeping(client, name, "--device-read-bps", f"{disk}:2mb", "--device-write-iops", f"{disk}:50")
        number = Path(disk).stat().st_rdev
        device = f"{os.major(number)}:{os.minor(number)}"
        read, write = limits(client, name, "read_bps", "write_iops")
        if UNIFIED:
            assert read == write
            assert {device, f"rbps={2 * MB}", "wiops=50"} <= set(read.split())
        else:
            assert (read, write) == (f"{device} {2 * MB}", f"{device} 50")

    def test_weight_or_its_warning(self, client: Client, name: str) -> None:
        warned = sleeping(client, name, "--blkio-weight", "300")
        if "Block I/O weight" in warned:
            assert "Weight discarded" in warned
            return
        files = "/sys/fs/cgroup/io.*weight" if UNIFIED else "/sys/fs/cgroup/blkio/blkio.*weight"
        assert re.search(r"\b300\b|\b\d{4}\b", client.out("exec", name, "sh", "-c", f"cat {files}"))

    def test_nodes_and_permissions(self, client: Client) -> None:
        # The kernel's log, for writing alone: the group's rule refuses what capabilities would allow.
        seen = client.out(
            "run", "--rm", "--cap-add", "SYSLOG", "--device", "/dev/kmsg:/dev/other:w", "busybox", "sh", "-c",
            "stat -c '%t:%T' /dev/other; (: >/dev/other) && echo written; (: </dev/other) 2>&1; :",
        ).splitlines()  # fmt: skip
        assert seen[:2] == ["1:b", "written"]
        assert "Operation not permitted" in seen[2]

    def test_rules(self, client: Client) -> None:
        make = "mknod /tmp/d c 10 200 && (: </tmp/d) 2>&1; echo status $?"
        without = client.out("run", "--rm", "busybox", "sh", "-c", make)
        assert "not permitted" in without
        given = client.out("run", "--rm", "--device-cgroup-rule", "c 10:* rwm", "busybox", "sh", "-c", make)
        assert "not permitted" not in given

    def test_gpus_that_are_not_there(self, client: Client) -> None:
        if Path("/dev/nvidiactl").exists():
            pytest.skip("this machine has them")
        assert 'could not select device driver "" with capabilities: [[gpu]]' in refused(client, "--gpus", "all")


class TestUpdate:
    def test_while_it_runs(self, client: Client, name: str) -> None:
        sleeping(client, name, "-m", "64m", "--cpus", "0.5", "--pids-limit", "50")
        client.run(
            "update", "--cpus", "1.5", "-m", "128m", "--memory-swap", "256m", "--pids-limit", "20", "--cpu-shares",
            "256", "--cpuset-cpus", "0", name,
        )  # fmt: skip
        quota, memory, pids, shares, cpus = limits(client, name, "quota", "memory", "pids", "shares", "cpus")
        assert (quota, memory, pids, cpus) == ("150000", str(128 * MB), "20", "0")
        assert shares == str(weight(256) if UNIFIED else 256)
        found = json.loads(client.out("inspect", "-f", "{{json .HostConfig}}", name))
        assert (found["NanoCpus"], found["Memory"], found["PidsLimit"]) == (1_500_000_000, 128 * MB, 20)
        client.run("update", "--pids-limit", "-1", name)
        assert limits(client, name, "pids") == ["max"]
        client.run("restart", "-t", "0", name)
        assert limits(client, name, "memory", "pids") == [str(128 * MB), "max"]

    def test_quota_is_lifted(self, client: Client, name: str) -> None:
        sleeping(client, name, "--cpu-quota", "50000")
        client.run("update", "--cpu-quota", "-1", name)
        assert limits(client, name, "quota") == ["-1"]

    def test_refusals(self, client: Client, name: str) -> None:
        sleeping(client, name, "-m", "64m", "--memory-swap", "64m", "--cpu-quota", "50000")
        for options, message in (
            (("-m", "128m"), "Memory limit should be smaller than already set memoryswap limit"),
            (("--cpus", "1"), "Nano CPUs cannot be updated as CPU Quota has already been set"),
            (("--cpuset-cpus", "4095"), "Requested CPUs are not available"),
            (("--restart", "bogus"), "invalid restart policy"),
        ):
            done = client.run("update", *options, name, check=False)
            assert done.returncode == 1, options
            assert message in done.stderr
        assert limits(client, name, "memory", "quota") == [str(64 * MB), "50000"]


class TestStats:
    def test_numbers(self, client: Client, name: str) -> None:
        # 20 MB in a tmpfs count as memory; 30 MB of a file that was read are cache, which the client leaves out.
        client.run(
            "run", "-d", "--name", name, "-m", "200m", "--tmpfs", "/held", "busybox", "sh", "-c",
            "head -c 20m /dev/zero >/held/f; head -c 30m /dev/zero >/f; cat /f >/dev/null; echo ready; "
            "while :; do :; done",
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while client.run("logs", name).stdout != "ready\n":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        form = "{{.CPUPerc}}|{{.MemUsage}}|{{.MemPerc}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}|{{.Name}}"
        cpu, memory, percent, network, block, pids, shown = client.out(
            "stats", "--no-stream", "--format", form, name
        ).split("|")
        assert 2 < float(cpu.removesuffix("%")) < 200  # one busy process; the machine may be busy itself
        used, whole = memory.split(" / ")
        assert whole == "200MiB"
        assert 19 < float(used.removesuffix("MiB")) < 45
        assert 9 < float(percent.removesuffix("%")) < 23
        assert re.fullmatch(r"[\d.]+[kM]?B / [\d.]+[kM]?B", network)
        assert re.fullmatch(r"[\d.]+[kMG]?B / [\d.]+[kMG]?B", block)
        assert (pids, shown) == ("1", name)

    def test_network_is_counted(self, client: Client, name: str) -> None:
        sleeping(client, name)
        gateway = client.out("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", name)
        client.run("exec", name, "ping", "-c", "3", "-i", "0.2", "-s", "2000", gateway, check=False)
        received, sent = client.out("stats", "--no-stream", "--format", "{{.NetIO}}", name).split(" / ")
        assert amount(received) > 5000
        assert amount(sent) > 5000

    def test_what_does_not_run(self, client: Client, name: str) -> None:
        client.run("create", "--name", name, "busybox", "true")
        shown = client.out("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.PIDs}}", name)
        assert shown in ("0.00% 0", "-- --")


def amount(text: str) -> float:
    """Bytes of `1.23kB`."""
    found = re.fullmatch(r"([\d.]+)([kMG]?)B", text)
    assert found, text
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]
