"""Walks of a Docker user that are about limits and runtimes, with `gantry` and the official client."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import Client
from lib.limits import UNIFIED, limits, weight

_WORK = "while :; do :; done"  # what `stress --cpu 1` does


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    made = "wl-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    yield made
    client.run("rm", "-f", "-v", made, check=False)


class TestQuotas:
    """Walk 9."""

    def test_processor(self, client: Client, name: str) -> None:
        client.run(
            "container", "run", "-d", "--name", name, "--cpu-shares", "512", "--cpuset-cpus=0", "busybox", "sh", "-c",
            f"({_WORK}) & ({_WORK}) & wait",
        )  # fmt: skip
        assert limits(client, name, "shares", "cpus") == [str(weight(512) if UNIFIED else 512), "0"]
        shown = client.out("stats", "--no-stream", "--format", "{{.CPUPerc}}", name)
        assert float(shown.removesuffix("%")) < 125  # two busy processes on one processor
        client.run("container", "update", "--cpuset-cpus=0", "--cpus=1.5", name)
        assert limits(client, name, "quota", "period") == ["150000", "100000"]
        assert client.out("inspect", "-f", "{{.HostConfig.NanoCpus}}", name) == "1500000000"

    def test_a_quarter_of_one(self, client: Client, name: str) -> None:
        client.run("container", "run", "-d", "--name", name, "--cpus=.25", "busybox", "sh", "-c", _WORK)
        assert limits(client, name, "quota", "period") == ["25000", "100000"]
        shown = client.out("stats", "--no-stream", "--format", "{{.CPUPerc}}", name)
        assert 0 < float(shown.removesuffix("%")) < 50

    def test_a_processor_that_is_not_there(self, client: Client) -> None:
        refused = client.run("container", "run", "--rm", "--cpuset-cpus=0,1000", "busybox", "true", check=False)
        assert refused.returncode == 125
        assert "Requested CPUs are not available - requested 0,1000, available: 0" in refused.stderr

    def test_memory(self, client: Client, name: str) -> None:
        client.run("container", "run", "-d", "--name", name, "-m", "512m", "busybox", "sleep", "600")
        assert limits(client, name, "memory") == [str(512 << 20)]
        assert client.out("stats", "--no-stream", "--format", "{{.MemUsage}}", name).endswith(" / 512MiB")
        found = json.loads(client.out("inspect", "-f", "{{json .HostConfig}}", name))
        assert found["MemorySwap"] in (1024 << 20, -1)  # twice the memory, where the kernel counts swap
        small = client.run(
            "run", "--rm", "-m", "20m", "--memory-swap=20m", "busybox", "tail", "-c", "200m", "/dev/zero", check=False
        )
        assert small.returncode == 137

    def test_blocks_and_user_limits(self, client: Client) -> None:
        seen = client.run(
            "container", "run", "--rm", "--blkio-weight", "100", "--ulimit", "nofile=50:150", "busybox", "sh", "-c",
            "ulimit -Sn; ulimit -Hn",
        )  # fmt: skip
        assert seen.stdout.split() == ["50", "150"]
        # A kernel without a weighing scheduler says so, and the container runs all the same.
        assert not seen.stderr or "Block I/O weight" in seen.stderr


class TestRuntimes:
    """Walk 12."""

    @pytest.mark.parametrize("runtime", ["crun", "runc", "runsc"])
    def test_each_runs_a_container(self, client: Client, name: str, runtime: str) -> None:
        known = json.loads(client.out("info", "--format", "{{json .Runtimes}}"))
        if runtime not in known:
            refused = client.run("run", "--rm", "--runtime", runtime, "busybox", "true", check=False)
            assert refused.returncode == 125
            assert f"unknown or invalid runtime name: {runtime}" in refused.stderr
            pytest.skip(f"{runtime} is not installed here")
        assert Path(known[runtime]["path"]).name == runtime
        done = client.out("run", "--name", name, "--runtime", runtime, "busybox", "echo", "ran")
        assert done == "ran"
        assert client.out("inspect", "-f", "{{.HostConfig.Runtime}}", name) == runtime

    def test_info_names_them(self, client: Client) -> None:
        shown = client.out("info")
        default = client.out("info", "--format", "{{.DefaultRuntime}}")
        line = next(line for line in shown.splitlines() if line.strip().startswith("Runtimes:"))
        assert default in line
        assert f"Default Runtime: {default}" in shown
        refused = client.run("run", "--rm", "--runtime", "nothing", "busybox", "true", check=False)
        assert refused.returncode == 125
        assert "unknown or invalid runtime name: nothing" in refused.stderr
