"""The other clients that people have, against our registry: skopeo, podman and buildah."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import aiohttp
import pytest

from lib.registry_process import RegistryProcess
from lib.registry_server import OCI_CONFIG, Client

PEERS = shlex.split(os.environ.get("GANTRY_TEST_PEERS", ""))
"""What comes before skopeo, podman and buildah where they live in namespaces of their own."""
PEERS_ADDRESS = os.environ.get("GANTRY_TEST_PEERS_ADDRESS", "127.0.0.1")
"""This machine as they see it."""


def peer(program: str) -> list[str]:
    if not PEERS and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed here")
    return [*PEERS, program]


def call(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode and "Operation not permitted" in done.stderr and "namespace" in done.stderr:
        pytest.skip(f"{words[0]} cannot work on this machine: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


async def push_image(url: str, name: str) -> str:
    """Push an image of one small layer; the manifest's digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    layer = buffer.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()  # fmt: skip
    async with aiohttp.ClientSession() as session:
        client = Client(session, url)
        described = {**await client.push_blob(name, config), "mediaType": OCI_CONFIG}
        digest, _ = await client.push_image(name, "latest", gzip.compress(layer, mtime=0), config=described)
    return digest


def test_skopeo_podman_and_buildah(tmp_path: Path) -> None:
    """Copy, convert, list, delete, push with zstd, build on top; digests stay."""
    skopeo, podman, buildah = peer("skopeo"), peer("podman"), peer("buildah")
    tls = "--tls-verify=false"
    with RegistryProcess(tmp_path, PEERS_ADDRESS) as registry:
        host = registry.host
        digest = asyncio.run(push_image(f"http://{host}", "peers/hello"))
        inspected = json.loads(call(*skopeo, "inspect", tls, f"docker://{host}/peers/hello:latest"))
        assert inspected["Digest"] == digest
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
        source = f"docker://{host}/peers/hello:latest"
        call(*skopeo, "copy", "-q", *plain, "--preserve-digests", source, f"docker://{host}/peers/copy:1")
        call(*skopeo, "copy", "-q", *plain, "--format", "v2s2", source, f"docker://{host}/peers/copy:docker")
        assert json.loads(call(*skopeo, "list-tags", tls, f"docker://{host}/peers/copy"))["Tags"] == ["1", "docker"]
        copied = json.loads(call(*skopeo, "inspect", tls, f"docker://{host}/peers/copy:1"))
        assert copied["Digest"] == digest
        call(*skopeo, "delete", tls, f"docker://{host}/peers/copy:docker")
        assert json.loads(call(*skopeo, "list-tags", tls, f"docker://{host}/peers/copy"))["Tags"] == ["1"]

        call(*podman, "pull", "-q", tls, f"{host}/peers/hello:latest")
        call(*podman, "push", "-q", tls, f"{host}/peers/hello:latest", f"{host}/podman/hello:1")
        call(*podman, "push", "-q", tls, "--compression-format", "zstd", f"{host}/peers/hello:latest",
             f"{host}/podman/hello:zstd")  # fmt: skip
        call(*podman, "rmi", "-f", f"{host}/peers/hello:latest")
        layers = json.loads(call(*skopeo, "inspect", tls, "--raw", f"docker://{host}/podman/hello:zstd"))["layers"]
        assert all(layer["mediaType"].endswith("+zstd") for layer in layers)

        name = call(*buildah, "from", "-q", tls, f"{host}/podman/hello:1")
        try:
            call(*buildah, "config", "--label", "by=buildah", name)
            call(*buildah, "commit", "-q", tls, name, f"docker://{host}/buildah/hello:1")
        finally:
            call(*buildah, "rm", name)
            call(*buildah, "rmi", "-f", f"{host}/podman/hello:1")
        labels = json.loads(call(*skopeo, "inspect", tls, f"docker://{host}/buildah/hello:1"))["Labels"]
        assert labels["by"] == "buildah"
