"""A scripted Engine API on a unix socket, for tests of the client and the command line."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Request:
    """One request as it arrived: `path` without its version, `connection` for a handler that takes it over."""

    def __init__(
        self, method: str, target: str, headers: dict[str, str], body: bytes, connection: socket.socket
    ) -> None:
        parts = urlsplit(target)
        version, _, rest = parts.path.lstrip("/").partition("/")
        self.version = version.removeprefix("v") if version[:1] == "v" and version[1:2].isdigit() else ""
        self.path = "/" + rest if self.version else parts.path
        self.method = method
        self.query = dict(parse_qsl(parts.query))
        self.headers = headers
        self.body = body
        self.connection = connection

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Taken(Exception):
    """A handler answered on the connection itself."""


Handler = Callable[[Request], Any]


class FakeAPI:
    """`on("GET /info", {...})` answers with JSON; a callable gets the Request and returns JSON or (status, JSON)."""

    def __init__(self, directory: Path, *, version: str = "1.51") -> None:
        self.socket = directory / "api.sock"
        self.version = version
        self.requests: list[Request] = []
        self.connections = 0
        self._answers: dict[str, Any] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def on(self, route: str, answer: Any) -> None:
        self._answers[route] = answer

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests if request.path != "/_ping"]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            stream = connection.makefile("rb")
            try:
                while request := _read(stream, connection):
                    self.requests.append(request)
                    self._answer(request)
            except (Taken, OSError):
                pass
            stream.close()

    def _answer(self, request: Request) -> None:
        if request.path == "/_ping":
            respond(request.connection, 200, b"OK", request, {"Api-Version": self.version, "Ostype": "linux"})
            return
        answer = self._answers.get(f"{request.method} {request.path}", (404, {"message": "page not found"}))
        if callable(answer):
            answer = answer(request)
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        respond(request.connection, status, json.dumps(value).encode() if value is not None else b"", request)


def respond(
    connection: socket.socket, status: int, body: bytes, request: Request, headers: dict[str, str] | None = None
) -> None:
    fields = {"Content-Length": str(len(body)), "Content-Type": "application/json", **(headers or {})}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {text}\r\n" for name, text in fields.items()) + "\r\n"
    connection.sendall(head.encode() + (b"" if request.method == "HEAD" or status == 204 else body))


def upgrade(request: Request) -> socket.socket:
    """Answer 101 and give the raw connection to the handler, which ends with `raise Taken`."""
    request.connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    return request.connection


def frame(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


def _read(stream: Any, connection: socket.socket) -> Request | None:
    line = stream.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ")
    headers = {}
    while (line := stream.readline().strip()) != b"":
        name, _, text = line.decode().partition(":")
        headers[name.lower()] = text.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body, connection)
