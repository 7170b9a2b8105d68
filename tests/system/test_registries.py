"""Registries through real clients: walks 3 and 4 of the reference, and pulls that are interrupted again and again."""

import gzip
import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from lib.archives import member, tar
from lib.certificates import Authority
from lib.daemon import BIN, Client, Daemon, official_clients
from lib.debian_registry import DebianRegistry
from lib.engine_api import make_busybox
from lib.registry import FakeRegistry, serving

_USER, _PASSWORD = "somebody", "a password"


@pytest.fixture(scope="module")
def hub() -> Iterator[tuple[FakeRegistry, int]]:
    """A stand-in for Docker Hub with its token service."""
    registry = FakeRegistry()
    registry.users = {_USER: _PASSWORD}
    registry.public = True
    registry.results = [
        {"name": "node", "description": "Node.js", "star_count": 12, "is_official": True},
        {"name": "somebody/node", "description": "mine", "star_count": 1, "is_official": False},
    ]
    with serving(registry) as port:
        registry.token_service = f"http://127.0.0.1:{port}/token"
        yield registry, port


@pytest.fixture(scope="module")
def own(hub: tuple[FakeRegistry, int]) -> Iterator[Daemon]:
    """A daemon for which the stand-in is Docker Hub."""
    directory = Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp"))
    rules = {"docker.io": {"server": f"http://127.0.0.1:{hub[1]}"}}
    (directory / "daemon.json").write_text(json.dumps({"registries": rules}))
    made = Daemon(directory)
    made.start()
    try:
        make_busybox(made.socket)
        yield made
    finally:
        made.clean()


@pytest.fixture(params=["gantry", "docker"])
def user(request: pytest.FixtureRequest, own: Daemon, tmp_path: Path) -> Client:
    """One user with a configuration directory of their own."""
    if request.param == "gantry":
        return Client(str(BIN / "gantry"), own.host, tmp_path / "config")
    programs = official_clients()
    if not programs:
        pytest.skip("no official docker client on this machine: scripts/setup --dev fetches one")
    return Client(programs[0], own.host, tmp_path / "config")


def _bcrypt(password: str) -> str:
    bcrypt = pytest.importorskip("bcrypt", reason="htpasswd files have bcrypt hashes")
    return str(bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode())


def test_a_private_registry(user: Client, scratch: Path, tmp_path: Path) -> None:
    """Walk 3: TLS with a certificate of its own, htpasswd, login, push, pull, the same digest, a restart, logout."""
    pair = Authority(tmp_path / "ca").sign("127.0.0.1")
    accounts = tmp_path / "htpasswd"
    accounts.write_text(f"{_USER}:{_bcrypt(_PASSWORD)}\n")
    registry = DebianRegistry(
        scratch / "registry",
        http=f", tls: {{certificate: {pair.certificate}, key: {pair.key}}}",
        more=f"auth: {{htpasswd: {{realm: test, path: {accounts}}}}}",
    )
    registry.start()
    name = f"{registry.host}/team/app:v1"
    try:
        user.run("tag", "busybox:latest", name)
        assert "no basic auth credentials" in user.run("push", name, check=False).stderr
        wrong = user.run("login", "-u", _USER, "--password-stdin", registry.host, stdin="wrong", check=False)
        assert wrong.returncode == 1
        assert "unauthorized" in wrong.stderr.lower()
        right = user.run("login", "-u", _USER, "--password-stdin", registry.host, stdin=_PASSWORD)
        assert "Login Succeeded" in right.stdout
        assert "stored unencrypted" in right.stderr, "a warning where no credential helper keeps them"
        sent = user.out("push", name)
        found = re.search(r"v1: digest: (sha256:[0-9a-f]{64}) size: \d+", sent)
        assert found, sent
        assert ": Pushed" in sent
        assert ": Layer already exists" in user.out("push", name)
        assert f"Status: Image is up to date for {name}" in user.out("pull", name)
        user.run("rmi", name)
        registry.stop()
        registry.start()
        got = user.out("pull", name)
        assert f"Digest: {found[1]}" in got
        # `busybox:latest` is the same image: nothing of it had to come again.
        assert f"Status: Downloaded newer image for {name}" in got
        assert user.out("run", "--rm", name, "echo", "it runs") == "it runs"
        digests = json.loads(user.out("image", "inspect", name))[0]["RepoDigests"]
        assert f"{registry.host}/team/app@{found[1]}" in digests
        user.run("logout", registry.host)
        assert "no basic auth credentials" in user.run("pull", name, check=False).stderr
    finally:
        user.run("rmi", name, check=False)
        registry.stop()


def test_a_public_registry(user: Client, hub: tuple[FakeRegistry, int]) -> None:
    """Walk 4: login at Docker Hub with a token by standard input, tag, push, pull, search."""
    registry, _ = hub
    name = f"{_USER}/app-{Path(user.program).name}:1"
    wrong = user.run("login", "-u", _USER, "--password-stdin", stdin="wrong", check=False)
    assert wrong.returncode == 1
    assert "incorrect username or password" in wrong.stderr
    assert "Login Succeeded" in user.run("login", "-u", _USER, "--password-stdin", stdin=_PASSWORD).stdout
    kept = json.loads((Path(user._environment["DOCKER_CONFIG"]) / "config.json").read_text())
    assert kept["auths"]["https://index.docker.io/v1/"]["identitytoken"] in registry.refresh
    user.run("tag", "busybox:latest", f"docker.io/{name}")
    sent = user.out("push", f"docker.io/{name}")
    assert f"The push refers to repository [docker.io/{name.partition(':')[0]}]" in sent
    digest = re.search(r"digest: (sha256:[0-9a-f]{64})", sent)
    assert digest
    user.run("rmi", name)
    assert f"Digest: {digest[1]}" in user.out("pull", name)
    user.run("rmi", name)
    user.run("logout")
    user.run("tag", "busybox:latest", name)
    assert "authentication required" in user.run("push", name, check=False).stderr
    user.run("rmi", name)
    assert f"Status: Downloaded newer image for {name}" in user.out("pull", name), "without an account"
    user.run("rmi", name)
    lines = user.out("search", "node").splitlines()
    assert lines[0].split()[:4] == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert [line.split()[0] for line in lines[1:]] == ["node", "somebody/node"]
    assert user.out("search", "--filter", "is-official=true", "--format", "{{.Name}}", "node") == "node"


def test_the_sdk(own: Daemon, hub: tuple[FakeRegistry, int]) -> None:
    import docker

    client = docker.DockerClient(base_url=own.host)
    try:
        auth = {"username": _USER, "password": _PASSWORD}
        assert client.login(**auth)["Status"] == "Login Succeeded"
        client.images.get("busybox").tag(f"{_USER}/sdk", "1")
        lines = list(client.images.push(f"{_USER}/sdk", "1", auth_config=auth, stream=True, decode=True))
        aux = [line["aux"] for line in lines if "aux" in line]
        client.images.remove(f"{_USER}/sdk:1")
        image = client.images.pull(f"{_USER}/sdk", "1")
        assert image.id == aux[0]["Digest"]
        data = client.images.get_registry_data(f"{_USER}/sdk:1")
        assert (data.id, data.has_platform("linux/amd64") or data.has_platform("linux/arm64")) == (image.id, True)
        assert client.images.search("node")[0]["name"] == "node"
        client.images.remove(f"{_USER}/sdk:1")
    finally:
        client.close()


def test_five_interruptions(scratch: Path) -> None:
    """Cut connections and a daemon that is killed: each byte is fetched about once, and the image runs."""
    registry = FakeRegistry()
    layers = [tar(member("bin/x", os.urandom(6 << 20))), tar(member("y", os.urandom(2 << 20)))]
    registry.add_image("big", "latest", layers, blobs=[gzip.compress(layer, 1) for layer in layers])
    digests = registry.layers("big", "latest")
    total = sum(len(registry.blobs[digest]) for digest in digests)
    registry.chunk = 128 << 10
    sent, hold = threading.Event(), [0]

    async def fault(request: web.Request) -> web.StreamResponse | None:
        digest = request.path.rpartition("/")[2]
        if digest != digests[0]:
            return None
        hold[0] += 1
        if hold[0] > 5:
            return None
        if hold[0] % 2:  # the connection breaks off, and the daemon itself goes on
            return await registry.send(request, digest, registry.blobs[digest], cut=1 << 20)
        answer = await registry.send(request, digest, registry.blobs[digest], cut=1 << 20)
        sent.set()
        return answer

    registry.faults.append(fault)
    with serving(registry) as port:
        daemon = Daemon(scratch / "d")
        daemon.directory.mkdir()
        client = Client(str(BIN / "gantry"), daemon.host, scratch / "config")
        name = f"127.0.0.1:{port}/big:latest"
        try:
            for _ in range(2):
                daemon.start()
                pulling = client.start("pull", "-q", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                assert sent.wait(30)
                daemon.kill()
                sent.clear()
                pulling.wait(30)
            daemon.start()
            assert client.out("pull", "-q", name) == name
            assert client.out("images", "-q")
        finally:
            daemon.clean()
    served = sum(registry.served[digest] for digest in digests)
    assert hold[0] >= 5
    assert served <= 1.4 * total, f"{served} bytes of {total} were sent"
