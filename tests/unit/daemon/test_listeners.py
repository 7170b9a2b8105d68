import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import uvloop
from aiohttp import web

from gantry.api.app import Server, application
from gantry.api.routing import Route
from gantry.api.stream import RAW, hijack
from gantry.daemon import hosts
from gantry.daemon.config import Config
from gantry.daemon.hosts import Host, is_loopback, parse_host
from gantry.daemon.listeners import Listener, open_listeners
from gantry.errors import GantryError, InvalidArgument, Unavailable
from lib.certificates import Authority


@pytest.mark.parametrize(
    ("text", "tls", "host"),
    [
        ("", False, Host("unix", "/var/run/docker.sock")),
        ("unix://", False, Host("unix", "/var/run/docker.sock")),
        ("unix:///x/y.sock", False, Host("unix", "/x/y.sock")),
        ("fd://", False, Host("fd", "")),
        ("fd://web", False, Host("fd", "web")),
        ("tcp://", False, Host("tcp", address="127.0.0.1", port=2375)),
        ("tcp://", True, Host("tcp", address="127.0.0.1", port=2376)),
        ("tcp://0.0.0.0", True, Host("tcp", address="0.0.0.0", port=2376)),
        ("tcp://1.2.3.4:99", False, Host("tcp", address="1.2.3.4", port=99)),
        ("1.2.3.4:99", False, Host("tcp", address="1.2.3.4", port=99)),
        (":99", False, Host("tcp", address="127.0.0.1", port=99)),
        ("tcp://[::1]:99", False, Host("tcp", address="::1", port=99)),
        ("tcp://[::1]", False, Host("tcp", address="::1", port=2375)),
    ],
)
def test_addresses(text: str, tls: bool, host: Host) -> None:
    assert parse_host(text, tls=tls) == host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo://", "invalid bind address (foo://): unsupported proto 'foo'"),
        ("unix://x", "invalid bind address (unix://x): unix socket path must be absolute"),
        ("tcp://a:b", "invalid bind address (tcp://a:b): invalid port 'b'"),
        ("tcp://a:99999", "invalid bind address (tcp://a:99999): invalid port '99999'"),
        ("tcp://::1", "invalid bind address (tcp://::1): too many colons in address"),
        ("tcp://a/b", "invalid bind address (tcp://a/b): should not contain a path element"),
    ],
)
def test_bad_addresses(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_host(text, tls=False)
    assert caught.value.message == message


def test_loopback() -> None:
    assert all(is_loopback(each) for each in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(each) for each in ("0.0.0.0", "::", "192.168.0.1", "example.com"))


def test_the_default_is_docker_s_socket_unless_another_engine_answers_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(hosts, "DOCKER_SOCKET", path)
    assert hosts.default_hosts() == (f"unix://{path}",)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        assert hosts.default_hosts() == (f"unix://{path}",), "a stale socket is nobody's"
        engine.listen()
        assert hosts.default_hosts() == ("unix:///run/gantry/gantry.sock",)


def close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.close()


def test_plain_tcp_for_others_must_be_asked_for_by_name() -> None:
    with pytest.raises(InvalidArgument, match=r"refusing to listen on tcp://0\.0\.0\.0:0 without TLS"):
        open_listeners(Config(hosts=("tcp://0.0.0.0:0",)))
    listeners = open_listeners(Config(hosts=("tcp://0.0.0.0:0",), allow_insecure_tcp=True))
    assert [listener.socket.getsockname()[0] for listener in listeners] == ["0.0.0.0"]
    close(listeners)


def unix(path: Path) -> Config:
    return Config(hosts=(f"unix://{path}",), group=str(os.getgid()))


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="sockets are given to root")


@root_only
def test_unix_sockets_have_mode_and_go_away(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "s"
    listeners = open_listeners(unix(path))
    assert path.stat().st_mode & 0o777 == 0o660
    close(listeners)
    assert not path.exists()


@root_only
def test_stale_sockets_are_replaced_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    first = open_listeners(unix(path))
    with pytest.raises(Unavailable, match="another process is listening there"):
        open_listeners(unix(path))
    # a socket that someone else has put there meanwhile is not ours to remove
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        close(first)
        assert path.exists()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(Unavailable, match="a file that is no socket is in the way"):
        open_listeners(unix(path))
    assert path.read_text() == "precious"


@root_only
def test_a_failure_leaves_no_socket_behind(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(GantryError):
        open_listeners(Config(hosts=(f"unix://{path}", "tcp://0.0.0.0:0"), group="0"))
    assert not path.exists()


def test_a_group_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="group no-such-group not found"):
        open_listeners(Config(hosts=(f"unix://{tmp_path}/s",), group="no-such-group"))


def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"listen tcp://127.0.0.1:{port}: bind: address already in use"):
            open_listeners(Config(hosts=(f"tcp://127.0.0.1:{port}",)))


def test_without_systemd_there_are_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(Unavailable, match="no sockets found via socket activation"):
        open_listeners(Config(hosts=("fd://",)))


def test_missing_certificates_are_named() -> None:
    config = Config(hosts=("tcp://127.0.0.1:0",), tls=True, tlscert="/no/cert", tlskey="/no/key")
    with pytest.raises(InvalidArgument, match=r'Could not load X509 key pair \(cert: "/no/cert", key: "/no/key"\)'):
        open_listeners(config)


class Served:
    """Listeners of one configuration, served in a thread."""

    def __init__(self, config: Config, factory: Callable[[], asyncio.AbstractEventLoop], *routes: Route) -> None:
        self.listeners = open_listeners(config)
        self.port: int = self.listeners[0].socket.getsockname()[1]
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
        for listener in self.listeners:
            await listener.serve(server.protocol)
        self._ready.set()
        await self._stop.wait()
        close(self.listeners)
        await server.close(1.0)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


async def echo(request: web.Request) -> web.StreamResponse:
    hijacked = await hijack(request, RAW)
    while data := await hijacked.read():
        await hijacked.write(data)
    await hijacked.write(b"bye")
    await hijacked.close()
    return hijacked.response


async def large(_: web.Request) -> web.StreamResponse:
    return web.Response(body=bytes(3 << 20))


ROUTES = (Route("POST", "/containers/{id}/attach", echo), Route("GET", "/large", large))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Served, Authority]]:
    authority = Authority(tmp_path / "tls")
    server = authority.sign("server")
    config = Config(
        hosts=("tcp://127.0.0.1:0",),
        tlsverify=True,
        tlscacert=str(authority.path),
        tlscert=str(server.certificate),
        tlskey=str(server.key),
    )
    with Served(config, request.param, *ROUTES) as running:
        yield running, authority


def connect(port: int, authority: Authority, client: Authority | None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.path))
    if client is not None:
        pair = client.sign(f"client-{os.urandom(2).hex()}", client=True)
        context.load_cert_chain(pair.certificate, pair.key)
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost", suppress_ragged_eofs=False
    )


def read_all(connection: ssl.SSLSocket) -> bytes:
    data = bytearray()
    while chunk := connection.recv(65536):
        data += chunk
    return bytes(data)


def test_tls_carries_large_answers(served: tuple[Served, Authority]) -> None:
    running, authority = served
    with connect(running.port, authority, authority) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        assert len(read_all(client).partition(b"\r\n\r\n")[2]) == 3 << 20


def test_tls_clients_without_a_certificate_are_refused(served: tuple[Served, Authority], tmp_path: Path) -> None:
    running, authority = served
    for stranger in (None, Authority(tmp_path / "other", "another authority")):
        with pytest.raises(ssl.SSLError), connect(running.port, authority, stranger) as client:  # noqa: PT012
            client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            client.recv(1)


def test_tls_directions_end_one_by_one(served: tuple[Served, Authority], tmp_path: Path) -> None:
    """What `echo data | docker --tlsverify run -i` does; Python's own socket cannot, so it is done on buffers."""
    running, authority = served
    pair = authority.sign("half", client=True)
    context = ssl.create_default_context(cafile=str(authority.path))
    context.load_cert_chain(pair.certificate, pair.key)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", running.port), 10) as plain:

        def exchange(step: Callable[[], object]) -> None:
            while True:
                try:
                    step()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
                else:
                    plain.sendall(outgoing.read())
                    return

        def head() -> None:
            while b"\r\n\r\n" not in answer:
                answer.extend(tls.read(65536))

        exchange(tls.do_handshake)
        exchange(
            lambda: tls.write(
                b"POST /containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
        )
        exchange(head)
        tls.write(b"x" * 100_000)
        plain.sendall(outgoing.read())
        with pytest.raises((ssl.SSLWantReadError, ssl.SSLError)):
            tls.unwrap()  # queues the close_notify
        plain.sendall(outgoing.read())
        # OpenSSL reads on after its own close_notify: what was sent comes back, and then the farewell
        while data := plain.recv(65536):
            incoming.write(data)
        while True:
            try:
                data = tls.read(65536)
            except (ssl.SSLZeroReturnError, ssl.SSLWantReadError):
                break
            if not data:
                break
            answer.extend(data)
    assert bytes(answer).endswith(b"x" * 100_000 + b"bye")


def test_a_cut_tls_stream_is_no_end_of_input(served: tuple[Served, Authority]) -> None:
    running, authority = served
    with connect(running.port, authority, authority) as client:
        client.sendall(b"POST /containers/x/attach HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
        client.recv(1000)
        plain = socket.socket(fileno=client.detach())
        plain.shutdown(socket.SHUT_WR)
        plain.settimeout(10)
        with plain:
            try:
                said = plain.recv(1000)
            except ConnectionResetError:
                said = b""
    assert said == b"", "an aborted connection says nothing more, above all no farewell"


def test_plain_http_on_a_tls_port_is_refused(served: tuple[Served, Authority]) -> None:
    with socket.create_connection(("127.0.0.1", served[0].port), 10) as client:
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        assert b"HTTP" not in client.recv(1000)
