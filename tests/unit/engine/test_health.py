"""Verdicts on probes, and where HTTP and TCP probes connect to."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.engine.health import Verdict
from gantry.engine.probes import Target, _ask, parse_http, parse_tcp, probe_command, probe_target
from gantry.errors import InvalidArgument
from gantry.model.container import ContainerConfig, HealthConfig


def config(*test: str, **fields: object) -> ContainerConfig:
    return ContainerConfig(healthcheck=HealthConfig(test=list(test)), **fields)  # type: ignore[arg-type]


def test_failures_in_the_start_period_do_not_count_before_the_first_success() -> None:
    verdict = Verdict()
    verdict.add(1, in_start_period=True, retries=1)
    assert (verdict.status, verdict.streak) == ("starting", 0)
    verdict.add(0, in_start_period=True, retries=1)
    assert verdict.status == "healthy"
    verdict.add(1, in_start_period=True, retries=2)
    assert (verdict.status, verdict.streak) == ("healthy", 1)
    verdict.add(1, in_start_period=True, retries=2)
    assert (verdict.status, verdict.streak) == ("unhealthy", 2)
    verdict.add(0, in_start_period=False, retries=2)
    assert (verdict.status, verdict.streak) == ("healthy", 0)


def test_kinds_of_checks() -> None:
    assert probe_command(config("CMD", "a", "b")) == ["a", "b"]
    assert probe_command(config("CMD-SHELL", "a b")) == ["/bin/sh", "-c", "a b"]
    assert probe_command(config("CMD-SHELL", "a", shell=["/bin/bash", "-ec"])) == ["/bin/bash", "-ec", "a"]
    for none in (config(), config("NONE"), ContainerConfig(), config("HTTP", "http://:80")):
        assert probe_command(none) == []
    assert probe_target(config("CMD", "a")) is None
    assert probe_target(config("TCP", ":5432")) == Target("127.0.0.1", 5432)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http://:8080/path", Target("127.0.0.1", 8080, "/path")),
        ("http://localhost:8080", Target("127.0.0.1", 8080, "/")),
        ("http://10.0.0.1/a?b=c", Target("10.0.0.1", 80, "/a?b=c")),
        ("https://[::1]:8443/", Target("::1", 8443, "/", tls=True)),
        ("https://:/", Target("127.0.0.1", 443, "/", tls=True)),
    ],
)
def test_http_targets(text: str, target: Target) -> None:
    assert parse_http(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "ftp://:1", ":80", "http://name:80/", "http://:99999", "http://u@:80", "http://:80/ä", "http://:80/\r\n"],
)
def test_bad_http_targets(text: str) -> None:
    with pytest.raises(InvalidArgument, match="health check"):
        parse_http(text)


@pytest.mark.parametrize("text", ["", "80", ":0", ":65536", "name:80", ":x", "[::1:80x"])
def test_bad_tcp_targets(text: str) -> None:
    with pytest.raises(InvalidArgument, match="health check"):
        parse_tcp(text)


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_http, parse_tcp):
        try:
            made = parse(text)
        except InvalidArgument:
            continue
        assert 0 < made.port < 65536 or parse is parse_http
        assert made.path.isascii()


class Server:
    """Gives one answer, whatever it is asked."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answer = b""
        self.asked = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            self.asked = connection.recv(65536)
            connection.sendall(self.answer)

    def close(self) -> None:
        self._thread.join(5)
        self.listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nfine", 0, b"HTTP/1.1 200 OK\nfine"),
        (b"HTTP/1.1 302 Found\r\n\r\n", 0, b"HTTP/1.1 302 Found\n"),
        (b"HTTP/1.0 503 No\r\n\r\nill", 1, b"HTTP/1.0 503 No\nill"),
        (b"SSH-2.0-x\r\n\r\n", 1, b"not an answer in HTTP: SSH-2.0-x"),
        (b"HTTP/1.1 xyz\r\n\r\n", 1, b"not an answer in HTTP: HTTP/1.1 xyz"),
    ],
)
async def test_http_answers(server: Server, answer: bytes, code: int, said: bytes) -> None:
    server.answer = answer
    port = server.listener.getsockname()[1]
    connection = socket.socket()
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    output = bytearray()
    assert await _ask(connection, Target("127.0.0.1", port, "/a?b"), output) == code
    assert bytes(output) == said
    assert server.asked.startswith(b"GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
