"""Byte streams to a daemon: unix socket, TCP, TLS, or a command's standard streams (ssh).

Plain connections use `_socket`, the C part of `socket`; the latter's `selectors` and `enum` are slow to import.
"""

from __future__ import annotations

import _socket

from gantry.client.errors import ConnectionFailed, EndpointError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from gantry.client.endpoints import Endpoint

    class Transport(Protocol):
        """A connected byte stream. `receive` returns b"" at its end; `pending` counts decrypted bytes at hand."""

        def send(self, data: bytes | memoryview) -> None: ...

        def send_some(self, data: memoryview) -> int:
            """Send what fits without waiting (a transport that cannot tell sends all)."""
            ...

        def receive(self, size: int) -> bytes: ...

        def fileno(self) -> int: ...

        def pending(self) -> int: ...

        def close_write(self) -> None: ...

        def close(self) -> None: ...


class SocketTransport:
    def __init__(self, connection: _socket.socket) -> None:
        self._socket = connection
        self.send = connection.sendall
        self.receive = connection.recv
        self.fileno = connection.fileno

    def send_some(self, data: memoryview) -> int:
        return self._socket.send(data, _socket.MSG_DONTWAIT)

    def pending(self) -> int:
        return 0

    def close_write(self) -> None:
        try:
            self._socket.shutdown(_socket.SHUT_WR)
        except OSError:  # the other side is gone already; reading shows its end
            return

    def close(self) -> None:
        self._socket.close()


class CommandTransport:
    """The standard streams of a child process that is joined to a daemon's socket on another machine."""

    def __init__(self, command: Sequence[str]) -> None:
        import socket
        import subprocess

        ours, theirs = socket.socketpair()
        try:
            with theirs:
                end = theirs.fileno()
                self._process = subprocess.Popen(list(command), stdin=end, stdout=end, start_new_session=True)
        except OSError as error:
            ours.close()
            raise ConnectionFailed(f"cannot run {command[0]}: {error.strerror}") from error
        self._socket = ours
        self.send = ours.sendall
        self.receive = ours.recv
        self.fileno = ours.fileno

    def send_some(self, data: memoryview) -> int:
        return self._socket.send(data, _socket.MSG_DONTWAIT)

    def pending(self) -> int:
        return 0

    def close_write(self) -> None:
        import socket

        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait()


def dial(endpoint: Endpoint) -> Transport:
    """Connect; raises ConnectionFailed in Docker's words, or EndpointError for unusable settings."""
    if endpoint.scheme == "ssh":
        return CommandTransport(endpoint.ssh_command())
    try:
        if endpoint.scheme == "unix":
            return SocketTransport(_unix(endpoint.address))
        if endpoint.tls is None:
            return SocketTransport(_tcp(endpoint.hostname, endpoint.port))
        return _tls(endpoint)
    except PermissionError as error:
        raise ConnectionFailed(
            f"permission denied while trying to connect to the Gantry daemon socket at {endpoint.url}: "
            f"{(error.strerror or '').lower()}"
        ) from error
    except OSError as error:
        if isinstance(error, _socket.gaierror):
            raise ConnectionFailed(
                f"error during connect: {endpoint.url}: lookup {endpoint.hostname}: {error.strerror}"
            ) from error
        if type(error).__name__.startswith("SSL"):
            raise ConnectionFailed(f"error during connect: {endpoint.url}: {error.strerror or error}") from error
        raise ConnectionFailed(unreachable(endpoint.url)) from error


def unreachable(url: str) -> str:
    return f"Cannot connect to the Gantry daemon at {url}. Is gantryd running?"


def _unix(path: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _tcp(hostname: str, port: int) -> _socket.socket:
    problem: OSError | None = None
    for family, kind, protocol, _, address in _socket.getaddrinfo(hostname, port, 0, _socket.SOCK_STREAM):
        connection = _socket.socket(family, kind, protocol)
        try:
            connection.connect(address)
            connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            problem = error
        else:
            return connection
    raise problem or OSError(f"no address for {hostname}")


def _tls(endpoint: Endpoint) -> Transport:
    import ssl

    from gantry.client.tls import TLSTransport

    settings = endpoint.tls
    assert settings is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.verify
    context.verify_mode = ssl.CERT_REQUIRED if settings.verify else ssl.CERT_NONE
    try:
        if settings.ca:
            context.load_verify_locations(settings.ca)
        elif settings.verify:
            context.load_default_certs()
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(f"could not read TLS certificates: {error}") from error
    plain = _tcp(endpoint.hostname, endpoint.port)
    try:
        return TLSTransport(plain, context, endpoint.hostname)
    except OSError:
        plain.close()
        raise
