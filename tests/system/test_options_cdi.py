"""Devices by name (CDI) and `--gpus`, on a daemon whose specifications are the test's own."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.types
import pytest

from lib.daemon import BIN, Client, Daemon, official_clients

_SPECIFICATION = {
    "cdiVersion": "0.6.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {
            "name": name,
            "containerEdits": {
                "env": [f"GPU={name}"],
                "deviceNodes": [{"path": f"/dev/gpu-{name}", "hostPath": "/dev/full"}],
            },
        }
        for name in ("0", "all")
    ],
}
_SHOW = "echo $GPU; cd /dev; ls gpu-*; dd if=/dev/zero of=$(ls gpu-*) count=1 2>&1 | grep -c 'No space'"


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    directory = Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp"))
    (directory / "cdi").mkdir()
    (directory / "cdi" / "gpu.json").write_text(json.dumps(_SPECIFICATION))
    daemon = Daemon(directory, "--cdi-spec-dir", str(directory / "cdi"))
    daemon.start()
    Client(str(BIN / "gantry"), daemon.host, directory / "config").run("image", "bootstrap", "busybox", "-t", "busybox")
    yield daemon
    daemon.clean()


def test_by_name(host: Daemon) -> None:
    gantry = Client(str(BIN / "gantry"), host.host, host.directory / "config")
    seen = gantry.out("run", "--rm", "--device", "nvidia.com/gpu=0", "busybox", "sh", "-c", _SHOW)
    assert seen.split() == ["0", "gpu-0", "1"]
    refused = gantry.run("run", "--rm", "--device", "nvidia.com/gpu=9", "busybox", "true", check=False)
    assert "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=9" in refused.stderr
    info = json.loads(gantry.out("info", "--format", "{{json .}}"))
    assert info["CDISpecDirs"] == [str(host.directory / "cdi")]
    assert info["DiscoveredDevices"] == [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in ("0", "all")]


def test_gpus_of_the_official_client(host: Daemon) -> None:
    programs = official_clients()
    if not programs:
        pytest.skip("no official docker client on this machine: scripts/setup --dev fetches one")
    client = Client(programs[0], host.host, host.directory / "docker-config")
    assert client.out("run", "--rm", "--gpus", "all", "busybox", "sh", "-c", _SHOW).split() == ["all", "gpu-all", "1"]
    assert client.out("run", "--rm", "--gpus", "1", "busybox", "sh", "-c", _SHOW).split() == ["0", "gpu-0", "1"]


def test_requests_of_the_sdk(host: Daemon) -> None:
    sdk = docker.DockerClient(base_url=host.host, version="auto")
    try:
        wanted = docker.types.DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=0"])
        shown = sdk.containers.run("busybox", ["sh", "-c", _SHOW], device_requests=[wanted], remove=True)
        assert shown.split() == [b"0", b"gpu-0", b"1"]
    finally:
        sdk.close()
