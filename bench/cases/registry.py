"""The registry server beside Debian's docker-registry (Distribution), both on loopback, each a process of its own."""

import contextlib
import hashlib
import http.client
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from bench.engines import BIN, Engine
from bench.model import Case, Failed, Metric, Scale, Skip, Surroundings, Target

_CONNECTIONS = 16
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_PEERS = Path(os.environ.get("PEERS_DIR", "/var/tmp/gantry-peers"))
_CONFIGURATION = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def _docker_registry() -> str:
    """Debian's server: installed, or in the root of the peers."""
    if found := shutil.which("docker-registry"):
        return found
    for path in sorted(_PEERS.glob("*/usr/bin/docker-registry")):
        return str(path)
    raise Skip("no docker-registry (Debian's package) on this machine")


class Server:
    """One registry server with an empty storage."""

    def __init__(self, engine: Engine, scratch: Path) -> None:
        own = engine.kind == "gantry"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.root = scratch / f"registry-{engine.kind}-{self.port}"
        self.root.mkdir()
        configuration = self.root / "config.yml"
        configuration.write_text(_CONFIGURATION.format(root=self.root / "data", port=self.port))
        command = [str(BIN / "gantry"), "registry", "serve", "--config"] if own else [_docker_registry(), "serve"]
        self._process = subprocess.Popen(
            [*command, str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(1000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        self.close()
        raise Failed(f"the registry of {engine.kind} does not answer")

    def memory(self) -> float:
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        shutil.rmtree(self.root, ignore_errors=True)

    def request(self, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})  # type: ignore[arg-type]
        response = connection.getresponse()
        if response.status >= 300:
            raise Failed(f"{method} {path}: {response.status} {response.read(300)!r}")
        return response

    def push_blob(self, blocks: Callable[[], Iterator[bytes]]) -> dict[str, object]:
        digest, size = hashlib.sha256(), 0
        for block in blocks():
            digest.update(block)
            size += len(block)
        location = self.location(
            self.request("POST", "/v2/bench/blobs/uploads/", Content_Length="0").headers["Location"]
        )
        name = f"sha256:{digest.hexdigest()}"
        query = "&" if "?" in location else "?"
        self.request("PUT", f"{location}{query}digest={name}", blocks(), Content_Length=str(size)).read()
        return {"mediaType": _LAYER, "digest": name, "size": size}

    def push_manifest(self) -> None:
        layer = self.push_blob(lambda: iter([b"{}"]))
        document = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": layer, "layers": [layer] * 5}
        self.request("PUT", "/v2/bench/manifests/latest", json.dumps(document).encode(), Content_Type=_MANIFEST).read()

    @staticmethod
    def location(url: str) -> str:
        return "/" + url.split("/", 3)[3] if "://" in url else url


class _Connection:
    """One connection of the load generator: sends requests that it is given and reads answers to their end."""

    def __init__(self, port: int, steps: Callable[[], Iterator[bytes]]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._steps = steps
        self._script = _Script(steps())
        self._head = b""
        self._left = -1
        self.socket.sendall(self._script.first())

    def advance(self) -> int:
        """Read what came; how many whole scripts ended by it (0 or 1)."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise Failed("the server closed a connection")
        if self._left < 0:
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                return 0
            if head[9:10] != b"2":
                raise Failed(f"unexpected answer: {head[:200]!r}")
            _, _, value = head.lower().partition(b"content-length:")
            self._left = int(value.split(b"\r\n", 1)[0] or 0) - len(rest)
            self._script.answered = head
            self._head = b""
        else:
            self._left -= len(data)
        if self._left > 0:
            return 0
        self._left = -1
        following = self._script.following()
        ended = 0
        if following is None:
            ended = 1
            self._script = _Script(self._steps())
            following = self._script.first()
        self.socket.setblocking(True)
        self.socket.sendall(following)
        return ended


class _Script:
    """Requests one after another; a generator that is sent the head of each answer."""

    def __init__(self, steps: Iterator[bytes]) -> None:
        self._steps = steps
        self.answered = b""

    def first(self) -> bytes:
        return next(self._steps)

    def following(self) -> bytes | None:
        try:
            return self._steps.send(self.answered)  # type: ignore[attr-defined, no-any-return]
        except StopIteration:
            return None


def rate(port: int, steps: Callable[[], Iterator[bytes]], seconds: float) -> float:
    """Scripts per second on 16 connections."""
    connections = [_Connection(port, steps) for _ in range(_CONNECTIONS)]
    count = 0
    try:
        with selectors.DefaultSelector() as selector:
            for connection in connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            began = time.perf_counter()
            while (now := time.perf_counter()) - began < seconds:
                for key, _ in selector.select(5):
                    count += key.data.advance()
            return count / (now - began)
    finally:
        for connection in connections:
            connection.socket.close()


def _get(path: str) -> Callable[[], Iterator[bytes]]:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {_MANIFEST}\r\n\r\n".encode()

    def steps() -> Iterator[bytes]:
        yield request

    return steps


class _RegistryCase(Case):
    group = "registry"
    kinds = frozenset(("gantry", "docker"))
    scales = frozenset((Scale.MAIN, Scale.FULL))
    rounds: ClassVar[tuple[int, int, int]] = (1, 3, 5)

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        self._servers[engine.kind] = server = Server(engine, here.scratch)
        self.fill(server, here)

    def fill(self, server: Server, here: Surroundings) -> None:
        """What the samples ask for."""

    def finish(self, engine: Engine, here: Surroundings) -> None:
        if (server := self._servers.pop(engine.kind, None)) is not None:
            server.close()


class ManifestRate(_RegistryCase):
    name = "registry-manifests"
    title = "registry server: manifests pulled per second, 16 connections (docker: docker-registry)"
    metrics = (Metric("", "req/s", "more", (Target(1.0, "docker", "5"),)),)

    def fill(self, server: Server, here: Surroundings) -> None:
        server.push_manifest()

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        port = self._servers[engine.kind].port
        return {"": rate(port, _get("/v2/bench/manifests/latest"), here.scale.pick(0.5, 3, 5))}


class BlobPullRate(_RegistryCase):
    name = "registry-blob-pulls"
    title = "registry server: blobs of 1 MB pulled per second, 16 connections (docker: docker-registry)"
    metrics = (Metric("", "req/s", "more", (Target(1.0, "docker", "5"),)),)

    def fill(self, server: Server, here: Surroundings) -> None:
        block = os.urandom(1 << 20)
        self._digest = server.push_blob(lambda: iter([block]))["digest"]
        self._paths = getattr(self, "_paths", {})
        self._paths[server.port] = f"/v2/bench/blobs/{self._digest}"

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        port = self._servers[engine.kind].port
        return {"": rate(port, _get(self._paths[port]), here.scale.pick(0.5, 3, 5))}


class BlobPushRate(_RegistryCase):
    name = "registry-blob-pushes"
    title = "registry server: new blobs of 1 MB pushed per second, 16 connections (docker: docker-registry)"
    metrics = (Metric("", "req/s", "more", (Target(1.0, "docker", "5"),)),)

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        server = self._servers[engine.kind]
        tail = os.urandom((1 << 20) - 16)

        def steps() -> Iterator[bytes]:
            data = os.urandom(16) + tail
            digest = hashlib.sha256(data).hexdigest()
            head = yield b"POST /v2/bench/blobs/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
            line = next(each for each in head.split(b"\r\n") if each.lower().startswith(b"location:"))  # type: ignore[attr-defined]
            location = server.location(line.partition(b":")[2].strip().decode())
            query = "&" if "?" in location else "?"
            yield (
                f"PUT {location}{query}digest=sha256:{digest} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n"
            ).encode() + data

        return {"": rate(server.port, steps, here.scale.pick(0.5, 3, 5))}


class LargeBlob(_RegistryCase):
    name = "registry-large-blob"
    title = "registry server: a large blob (1 GB) pulled, and its memory (docker: docker-registry)"
    metrics = (
        Metric("pull", "MB/s", "more", (Target(0.9, "docker", "5"),)),
        Metric("push", "MB/s", "more"),
        Metric("memory", "MB"),
    )

    def fill(self, server: Server, here: Surroundings) -> None:
        count = here.scale.pick(16, 1000, 1000)
        block = os.urandom(1 << 20)
        self._paths = getattr(self, "_paths", {})
        began = time.perf_counter()
        descriptor = server.push_blob(lambda: (block for _ in range(count)))
        self._pushed = getattr(self, "_pushed", {})
        self._pushed[server.port] = count / (time.perf_counter() - began)
        self._paths[server.port] = f"/v2/bench/blobs/{descriptor['digest']}"

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        server = self._servers[engine.kind]
        buffer = memoryview(bytearray(1 << 20))
        began = time.perf_counter()
        response = server.request("GET", self._paths[server.port])
        size = 0
        while got := response.readinto(buffer):
            size += got
        seconds = time.perf_counter() - began
        return {"pull": size / 1e6 / seconds, "push": self._pushed[server.port], "memory": server.memory()}


CASES = (ManifestRate(), BlobPullRate(), BlobPushRate(), LargeBlob())
