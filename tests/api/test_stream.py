"""Connections that are taken over, on real sockets, under both event loops."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import uvloop
from aiohttp import web

from gantry.api.app import Server, application
from gantry.api.routing import Route
from gantry.api.stream import MULTIPLEXED, Hijacked, JSONStream, frame, hijack
from gantry.errors import Conflict, NotFound

UPGRADE = b"POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
PLAIN = b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\n"


class Daemon:
    """An API server on a unix socket in a thread with its own event loop."""

    def __init__(self, path: Path, routes: list[Route], factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.path = path
        self._routes = routes
        self._factory = factory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = Server(application(self._routes))
        await server.start()
        listener = await self._loop.create_unix_server(server.protocol, str(self.path))
        self._ready.set()
        await self._stop.wait()
        listener.close()
        await server.close(1.0)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    @contextlib.contextmanager
    def connect(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.path))
            yield client


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    with contextlib.ExitStack() as stack:

        def start(*routes: Route) -> Daemon:
            return stack.enter_context(Daemon(tmp_path / "s", list(routes), request.param))

        yield start


def attach(body: Callable[[Hijacked], Awaitable[None]], path: str = "/containers/{id}/attach") -> Route:
    async def handler(request: web.Request) -> web.StreamResponse:
        hijacked = await hijack(request, MULTIPLEXED)
        try:
            await body(hijacked)
        finally:
            await hijacked.close()
        return hijacked.response

    return Route("POST", path, handler)


async def echo(hijacked: Hijacked) -> None:
    while data := await hijacked.read():
        await hijacked.write(data)
    await hijacked.write(b"bye")


def read_all(client: socket.socket) -> bytes:
    data = bytearray()
    while chunk := client.recv(65536):
        data += chunk
    return bytes(data)


def read_head(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(1)
    return data


def test_upgrade_answers_101_and_half_close_leaves_the_other_direction_open(serve: Callable[..., Daemon]) -> None:
    with serve(attach(echo)).connect() as client:
        client.sendall(UPGRADE + b"\r\n")
        assert read_head(client) == (
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"bye"


@pytest.mark.parametrize("head", [UPGRADE, UPGRADE.replace(b"tcp", b"h2c"), PLAIN], ids=["tcp", "h2c", "plain"])
@pytest.mark.parametrize("body", [b"", b'{"a":1}'], ids=["bodiless", "body"])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_bytes_right_behind_the_request_are_not_lost(
    serve: Callable[..., Daemon], head: bytes, body: bytes, step: int
) -> None:
    request = head + (b"Content-Length: %d\r\n" % len(body) if body else b"") + b"\r\n" + body
    stdin = b"GET / HTTP/1.1\r\n\r\n\x00\xff" * 50
    with serve(attach(echo)).connect() as client:
        for at in range(0, len(request), step):
            client.sendall(request[at : at + step])
        client.sendall(stdin)
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.partition(b"\r\n\r\n")[2] == stdin + b"bye"
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n" if head == PLAIN else b"HTTP/1.1 101 UPGRADED\r\n")


def test_one_packet_with_everything_and_the_end(serve: Callable[..., Daemon]) -> None:
    with serve(attach(echo)).connect() as client:
        client.sendall(PLAIN + b"Content-Length: 2\r\n\r\n{}stdin")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"\r\n\r\nstdinbye")


def test_refused_attach_keeps_the_connection_for_the_next_request(serve: Callable[..., Daemon]) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        raise NotFound("No such container: x")

    async def pong(_: web.Request) -> web.StreamResponse:
        return web.Response(text="pong")

    daemon = serve(Route("POST", "/containers/{id}/attach", refuse), Route("GET", "/p", pong))
    for head in (PLAIN, UPGRADE):
        with daemon.connect() as client:
            client.sendall(head + b"\r\nGET /p HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
            answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b'{"message":"No such container: x"}' in answer
        assert answer.endswith(b"pong")


def test_back_pressure_towards_a_client_that_does_not_read(serve: Callable[..., Daemon]) -> None:
    written = 0

    async def flood(hijacked: Hijacked) -> None:
        nonlocal written
        for _ in range(1000):
            await hijacked.write(bytes(65536))
            written += 65536

    with serve(attach(flood)).connect() as client:
        client.sendall(UPGRADE + b"\r\n")
        time.sleep(0.3)
        assert written < 4 << 20
        assert len(read_all(client).partition(b"\r\n\r\n")[2]) == 1000 * 65536


def test_back_pressure_from_a_handler_that_does_not_read(serve: Callable[..., Daemon]) -> None:
    go_on, total = threading.Event(), 0

    async def slow(hijacked: Hijacked) -> None:
        nonlocal total
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        while data := await hijacked.read():
            total += len(data)
        await hijacked.write(str(total).encode())

    with serve(attach(slow)).connect() as client:
        client.sendall(UPGRADE + b"\r\n")
        read_head(client)
        client.setblocking(False)
        sent, quiet = 0, 0
        while quiet < 20:
            try:
                sent += client.send(bytes(65536))
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.01)
        assert sent < 4 << 20
        client.settimeout(10)
        go_on.set()
        client.sendall(bytes(8 << 20))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == str(sent + (8 << 20)).encode()


def test_a_lost_client_cancels_the_stream(serve: Callable[..., Daemon]) -> None:
    ended = threading.Event()

    async def wait(_: Hijacked) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    daemon = serve(attach(wait))
    with daemon.connect() as client:
        client.sendall(UPGRADE + b"\r\n")
        read_head(client)
        client.shutdown(socket.SHUT_WR)
        assert not ended.wait(1)  # it may still read
    assert ended.wait(5)


def test_what_a_lost_client_sent_is_read_before_the_end(serve: Callable[..., Daemon]) -> None:
    got = bytearray()
    ended = threading.Event()

    async def read_late(hijacked: Hijacked) -> None:
        await asyncio.sleep(1)
        while data := await hijacked.read():
            got.extend(data)
        ended.set()

    with serve(attach(read_late)).connect() as client:
        client.sendall(UPGRADE + b"\r\n" + bytes(100_000))
        read_head(client)
    assert ended.wait(5)
    assert len(got) == 100_000


def test_write_after_the_client_left_raises(serve: Callable[..., Daemon]) -> None:
    failed = threading.Event()

    async def talk(hijacked: Hijacked) -> None:
        try:
            while True:
                await hijacked.write(b"x")
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            failed.set()
            raise

    with serve(attach(talk)).connect() as client:
        client.sendall(UPGRADE + b"\r\n")
        read_head(client)
    assert failed.wait(5)


def test_progress_comes_from_threads_in_order_and_bars_replace_each_other(serve: Callable[..., Daemon]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        stream = JSONStream(request)

        def work() -> None:
            for number in range(500):
                stream({"id": "a", "status": "Downloading", "progressDetail": {"current": number}})
            stream({"id": "a", "status": "Pull complete"})
            for number in range(200):
                stream({"stream": f"{number}\n"})

        await asyncio.to_thread(work)
        await stream.fail(Conflict("it broke"))
        return await stream.finish()

    with serve(Route("POST", "/images/create", handler)).connect() as client:
        client.sendall(b"POST /images/create HTTP/1.0\r\n\r\n")
        head, _, text = read_all(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"Content-Type: application/json" in head
    lines = text.split(b"\r\n")
    assert lines.pop() == b""
    assert lines[-1] == b'{"errorDetail":{"message":"it broke"},"error":"it broke"}'
    streams = [line for line in lines if line.startswith(b'{"stream"')]
    assert streams == [b'{"stream":"%d\\n"}' % number for number in range(200)]
    assert b'"current":499}' in lines[lines.index(b'{"id":"a","status":"Pull complete"}') - 1]


def test_progress_error_before_the_first_message_is_a_plain_answer(serve: Callable[..., Daemon]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        stream = JSONStream(request)
        await stream.fail(NotFound("pull access denied"))
        return await stream.finish()

    with serve(Route("POST", "/images/create", handler)).connect() as client:
        client.sendall(b"POST /images/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b'{"message":"pull access denied"}\n')


def test_an_unforeseen_error_in_a_stream_becomes_its_last_message(serve: Callable[..., Daemon]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        stream = JSONStream(request)
        stream({"status": "working"})
        await asyncio.sleep(0.05)
        raise ZeroDivisionError("by\nzero")

    with serve(Route("POST", "/build", handler)).connect() as client:
        client.sendall(b"POST /build HTTP/1.0\r\n\r\n")
        answer = read_all(client)
    assert b'"error":"ZeroDivisionError: by zero"' in answer


@pytest.mark.parametrize(("abandonable", "method"), [(True, "POST"), (False, "POST"), (True, "GET")])
def test_what_a_lost_client_ends(serve: Callable[..., Daemon], abandonable: bool, method: str) -> None:
    began, ended, cancelled = threading.Event(), threading.Event(), threading.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if abandonable and method == "POST":
            JSONStream(request)
        began.set()
        try:
            await asyncio.sleep(0.5)
            ended.set()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return web.Response()

    with serve(Route(method, "/x", handler)).connect() as client:
        client.sendall(f"{method} /x HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
        assert began.wait(5)
    assert (cancelled if abandonable else ended).wait(5)
    assert not (ended if abandonable else cancelled).is_set()


def test_frame_has_stream_zeros_and_big_endian_length() -> None:
    assert frame(2, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"
    assert frame(1, os.urandom(70000))[:8] == b"\x01\0\0\0\0\x01\x11\x70"
