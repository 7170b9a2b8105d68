"""Our side of TLS against a plain OpenSSL server."""

import _socket
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gantry.client.tls import TLSTransport
from lib.certificates import Authority

Serve = Callable[[Callable[[ssl.SSLSocket], None]], TLSTransport]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A client joined to a server that does what the test says, in a thread of its own."""
    authority = Authority(tmp_path / "tls")
    pair = authority.sign("server")
    ours = ssl.create_default_context(cafile=str(authority.path))
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(pair.certificate, pair.key)
    made: list[tuple[TLSTransport, threading.Thread]] = []

    def start(behaviour: Callable[[ssl.SSLSocket], None]) -> TLSTransport:
        listener = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            with listener:
                plain, _ = listener.accept()
            plain.settimeout(10)
            with theirs.wrap_socket(plain, server_side=True) as connection:
                behaviour(connection)

        thread = threading.Thread(target=run)
        thread.start()
        client = _socket.socket(_socket.AF_INET)
        client.connect(listener.getsockname())
        transport = TLSTransport(client, ours, "localhost")
        made.append((transport, thread))
        return transport

    yield start
    for transport, thread in made:
        transport.close()
        thread.join(10)


def read_all(transport: TLSTransport) -> bytes:
    return b"".join(iter(lambda: transport.receive(1000), b""))


def test_what_the_daemon_sent_before_our_end_is_not_lost(serve: Serve) -> None:
    answered = threading.Event()

    def behaviour(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"early")
        answered.set()
        assert connection.recv(100) == b"input"
        assert connection.recv(100) == b""
        connection.sendall(b" and late")

    transport = serve(behaviour)
    transport.send(b"input")
    assert answered.wait(10)
    transport.close_write()
    assert read_all(transport) == b"early and late"


def test_large_data_in_both_directions(serve: Serve) -> None:
    size = 8 << 20
    seen = bytearray()
    full = threading.Event()

    def behaviour(connection: ssl.SSLSocket) -> None:
        assert full.wait(10)
        while block := connection.recv(1 << 16):
            seen.extend(block)
        connection.sendall(seen)

    transport = serve(behaviour)
    data = bytes(range(256)) * (size // 256)
    rest = memoryview(data)
    poll = select.poll()
    poll.register(transport.fileno(), select.POLLOUT)
    while rest:
        try:
            rest = rest[transport.send_some(rest) :]
        except BlockingIOError:  # the socket is full: come again with the same data
            full.set()
            poll.poll(10_000)
    transport.close_write()
    assert read_all(transport) == data


def test_decrypted_bytes_are_told_of(serve: Serve) -> None:
    transport = serve(lambda connection: connection.sendall(b"x" * 40_000))
    assert transport.receive(1) == b"x"
    assert transport.pending() > 0
    assert 1 + len(read_all(transport)) == 40_000


def test_the_daemon_breaks_off(serve: Serve) -> None:
    transport = serve(lambda connection: connection.shutdown(socket.SHUT_RDWR))
    assert transport.receive(10) == b""


def test_a_certificate_for_another_name(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _mistaken(tmp_path)


def _mistaken(tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    pair = other.sign("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    ours, theirs = socket.socketpair()
    failures: list[ssl.SSLError] = []

    def run() -> None:
        try:
            context.wrap_socket(theirs, server_side=True).close()
        except ssl.SSLError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    client = _socket.socket(fileno=ours.detach())
    try:
        TLSTransport(client, ssl.create_default_context(cafile=str(tmp_path / "other" / "ca.pem")), "elsewhere")
    finally:
        client.close()
        thread.join(10)
        assert failures, "the alert reaches the other side"
