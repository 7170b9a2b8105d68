"""The private registry as Docker's users walk it."""

import json
import re
import signal
import subprocess
from pathlib import Path

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
