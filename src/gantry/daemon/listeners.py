"""Listening sockets: unix with group and mode, tcp with or without TLS, and those that systemd hands over."""

import asyncio
import contextlib
import grp
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from gantry.daemon.config import Config
from gantry.daemon.hosts import Host, answers, default_hosts, is_loopback, parse_host
from gantry.daemon.tls import TLSProtocol
from gantry.errors import InvalidArgument, Unavailable

log = logging.getLogger(__name__)

_BACKLOG = 512
_FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)
_GROUPS = ("gantry", "docker")


class Listener:
    """One bound socket. `close` removes a unix socket's file where it is still ours."""

    def __init__(self, listening: socket.socket, name: str, context: ssl.SSLContext | None = None) -> None:
        self.socket = listening
        self.name = name
        self._context = context
        self._file: tuple[Path, int] | None = None
        self._server: asyncio.Server | None = None

    def own(self, path: Path) -> None:
        self._file = (path, path.stat().st_ino)

    async def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        loop = asyncio.get_running_loop()
        if self.socket.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(factory, sock=self.socket, backlog=_BACKLOG)
        else:
            self._server = await loop.create_server(self._encrypted(factory), sock=self.socket, backlog=_BACKLOG)

    def _encrypted(self, factory: Callable[[], asyncio.BaseProtocol]) -> Callable[[], asyncio.BaseProtocol]:
        context = self._context
        return factory if context is None else lambda: TLSProtocol(context, factory)

    def close(self) -> None:
        """Accept no more; open connections go on."""
        if self._file is not None:
            path, inode = self._file
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()
            self._file = None
        if self._server is not None:
            self._server.close()
        else:
            self.socket.close()


def open_listeners(config: Config) -> list[Listener]:
    """Bind every address of the configuration. Raises InvalidArgument or Unavailable; then nothing stays bound."""
    tls = config.tls or config.tlsverify
    hosts = [parse_host(text, tls=tls) for text in config.hosts or default_hosts()]
    context = tls_context(config) if tls else None
    with contextlib.ExitStack() as undo:
        listeners: list[Listener] = []
        for host in hosts:
            for listener in _open(host, config, context):
                undo.callback(listener.close)
                listeners.append(listener)
        undo.pop_all()
    return listeners


def _open(host: Host, config: Config, context: ssl.SSLContext | None) -> list[Listener]:
    if host.scheme == "fd":
        return _inherited(host.path, context)
    if host.scheme == "unix":
        return [_unix(Path(host.path), config.group)]
    if context is None and not is_loopback(host.address):
        if not config.allow_insecure_tcp:
            raise InvalidArgument(
                f"refusing to listen on {host} without TLS: whoever reaches it is root on this machine; "
                "use --tlsverify, a loopback address, or ask for it with --allow-insecure-tcp"
            )
        log.warning("[DEPRECATION NOTICE] API is accessible on %s without encryption: this is root access", host)
    return _tcp(host, context)


def _unix(path: Path, group: str) -> Listener:
    gid = _group_id(group)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Unavailable(f"can't create unix socket {path}: a file that is no socket is in the way")
        if answers(path):
            raise Unavailable(f"can't create unix socket {path}: another process is listening there")
        path.unlink()
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise Unavailable(f"can't create unix socket {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    listener = Listener(listening, f"unix://{path}")
    listener.own(path)
    os.chown(path, 0, gid)
    path.chmod(0o660)
    listening.listen(_BACKLOG)
    return listener


def _group_id(name: str) -> int:
    """The socket's group: the one that was asked for must exist, ours and Docker's may."""
    for candidate in (name,) if name else _GROUPS:
        if candidate.isdigit():
            return int(candidate)
        with contextlib.suppress(KeyError):
            return grp.getgrnam(candidate).gr_gid
    if name:
        raise InvalidArgument(f"can't change the group of the socket: group {name} not found")
    return 0


def _tcp(host: Host, context: ssl.SSLContext | None) -> list[Listener]:
    try:
        places = socket.getaddrinfo(
            host.address, host.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except OSError as error:
        raise InvalidArgument(f"invalid bind address ({host}): {error.strerror or error}") from error
    listeners: list[Listener] = []
    for family, kind, protocol, _, address in places:
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            for listener in listeners:
                listener.close()
            raise Unavailable(f"listen {host}: bind: {(error.strerror or str(error)).lower()}") from error
        listeners.append(Listener(listening, str(host), context))
    return listeners


def _inherited(wanted: str, context: ssl.SSLContext | None) -> list[Listener]:
    """Sockets from systemd: all, or the one that is named by number or FileDescriptorName."""
    count = int(os.environ.get("LISTEN_FDS", "0") or 0) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    if count <= 0:
        raise Unavailable("no sockets found via socket activation: make sure the service was started by systemd")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found: list[Listener] = []
    for offset in range(count):
        descriptor = _FIRST_DESCRIPTOR + offset
        name = names[offset] if offset < len(names) else ""
        if wanted in ("", "*", str(descriptor), name):
            os.set_inheritable(descriptor, False)
            listening = socket.socket(fileno=descriptor)
            encrypted = context if listening.family != socket.AF_UNIX else None
            found.append(Listener(listening, f"fd://{name or descriptor}", encrypted))
    if not found:
        raise InvalidArgument(f"failed to find systemd socket activated file: {wanted}")
    return found


def tls_context(config: Config) -> ssl.SSLContext:
    """TLS as dockerd does it: 1.2 at least; with `tlsverify`, only clients that the authority has signed."""
    home = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    certificate = config.tlscert or str(home / "cert.pem")
    key = config.tlskey or str(home / "key.pem")
    authority = config.tlscacert or str(home / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(
            f'invalid TLS configuration: Could not load X509 key pair (cert: "{certificate}", key: "{key}"): '
            f"{error.strerror or error}"
        ) from error
    if config.tlsverify:
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(
                f'invalid TLS configuration: could not read CA certificate "{authority}": {error.strerror or error}'
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def serve_all(listeners: Sequence[Listener], factory: Callable[[], asyncio.BaseProtocol]) -> None:
    for listener in listeners:
        await listener.serve(factory)
        log.info("API listen on %s", listener.name)
