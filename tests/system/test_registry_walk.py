"""The private registry as Docker's users walk it."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lib.daemon import BIN, Client
from lib.registry_process import RegistryProcess


def own(*words: str | Path, data: bytes = b"") -> None:
    subprocess.run([BIN / "gantry", "registry", *words], input=data, check=True, stdout=subprocess.DEVNULL)


def test_walk(client: Client, scratch: Path) -> None:
    """Certificate, htpasswd, login, tag, push, pull, rmi, pull again over a restart: the same digest; logout."""
    own("cert", "--directory", scratch, "127.0.0.1")
    own("htpasswd", "--file", scratch / "htpasswd", "--password-stdin", "user", data=b"password\n")
    settings = (
        f"http: {{tls: {{certificate: {scratch}/registry.crt, key: {scratch}/registry.key}}}}\n"
        f"auth: {{htpasswd: {{realm: walk, path: {scratch}/htpasswd}}}}"
    )
    client = Client(client.program, client.host, scratch / "client")
    with RegistryProcess(scratch, more=settings) as registry:
        image = f"{registry.host}/walk/busybox"
        wrong = client.run("login", "-u", "user", "--password-stdin", registry.host, stdin="wrong\n", check=False)
        assert wrong.returncode == 1
        assert "401" in wrong.stderr or "unauthorized" in wrong.stderr
        assert "Login Succeeded" in client.out(
            "login", "-u", "user", "--password-stdin", registry.host, stdin="password\n"
        )
        client.run("tag", "busybox:latest", image)
        pushed = client.out("push", image)
        assert "Pushed" in pushed
        found = re.search(r"latest: digest: (sha256:[0-9a-f]{64}) size: [0-9]+", pushed)
        assert found, pushed
        assert "Layer already exists" in client.out("push", image)
        assert f"Status: Image is up to date for {image}:latest" in client.out("pull", image)
        client.run("rmi", image)
        assert registry.stop() == 0
        registry.start()
        assert f"Status: Downloaded newer image for {image}:latest" in client.out("pull", image)
        digests = json.loads(client.out("image", "inspect", "--format", "{{json .RepoDigests}}", image))
        assert f"{image}@{found[1]}" in digests
        assert client.out("run", "--rm", "--network", "none", image, "echo", "pulled") == "pulled"
        registry.stop(signal.SIGKILL)
        registry.start()
        client.run("rmi", image)
        client.run("pull", f"{image}@{found[1]}")
        client.run("rmi", f"{image}@{found[1]}")
        client.run("logout", registry.host)
        refused = client.run("pull", image, check=False)
        assert refused.returncode == 1
        said = refused.stdout + refused.stderr
        assert "no basic auth credentials" in said or "login prior to pull" in said.lower()


@pytest.mark.parametrize("client", ["docker"], indirect=True)
def test_registry_as_a_container(client: Client, gantry: Client, scratch: Path) -> None:
    """The image of the registry runs under the engine; what it stores is in a bind mount, over a restart."""
    if not os.environ.get("GANTRY_TEST_REGISTRY_IMAGE"):
        pytest.skip("takes minutes (a Debian root and wheels are fetched): set GANTRY_TEST_REGISTRY_IMAGE=1")
    gantry.run("registry", "image", "--quiet", "-t", "registry:test", timeout=600)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    image = f"127.0.0.1:{port}/walk/busybox"
    data = f"{scratch}:/var/lib/registry"
    client.run("run", "-d", "--name", "registry", "-p", f"127.0.0.1:{port}:5000", "-v", data, "registry:test")
    try:
        client.run("tag", "busybox:latest", image)
        for _ in range(100):
            pushed = client.run("push", image, check=False)
            if pushed.returncode == 0:
                break
            time.sleep(0.1)
        assert "latest: digest: sha256:" in pushed.stdout, pushed.stderr
        client.run("restart", "registry")
        client.run("rmi", image)
        for _ in range(100):
            if (pulled := client.run("pull", image, check=False)).returncode == 0:
                break
            time.sleep(0.1)
        assert "Downloaded newer image" in pulled.stdout, pulled.stderr
        assert (scratch / "oci-layout").exists()
    finally:
        client.run("rm", "-f", "registry")
        client.run("rmi", "-f", image, "registry:test", check=False)
