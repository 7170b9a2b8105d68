"""`python -m gantry.daemon.registry`: the registry server wired and run. `gantry registry serve` becomes this program.

serve [--config FILE]       serve until SIGTERM or SIGINT
collect [--config FILE]     collect garbage once, where no server runs on this storage
check [--config FILE]       read the configuration and say what is wrong with it
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from gantry.daemon import locks
from gantry.daemon import logging as daemon_log
from gantry.daemon.registry_storage import open_stock
from gantry.errors import GantryError, InvalidArgument, Unavailable
from gantry.registry.server import config_file
from gantry.registry.server.auth import Authenticator, Htpasswd, NoAuth
from gantry.registry.server.config import TLS, Config
from gantry.registry.server.operation import Registry

log = logging.getLogger(__name__)

_BACKLOG = 1024
_DEFAULT = b"""\
version: 0.1
storage:
  delete: {enabled: true}
http:
  addr: 127.0.0.1:5000
"""


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        command, path = _arguments(sys.argv[1:])
        config, warnings = read(path)
        daemon_log.configure(config.log.level, config.log.formatter, debug=config.log.level == "debug")
        for warning in warnings:
            log.warning("%s", warning)
        if command == "check":
            sys.stdout.write("configuration OK\n")
            return 0
        os.umask(0o027)
        return run(config)
    except GantryError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1


def _arguments(words: Sequence[str]) -> tuple[str, Path | None]:
    match list(words):
        case [("serve" | "check") as command]:
            return command, None
        case [("serve" | "check") as command, "--config", path]:
            return command, Path(path)
    raise InvalidArgument(f"usage:{(__doc__ or '').partition('program.')[2].rstrip()}")


def read(path: Path | None) -> tuple[Config, list[str]]:
    """The configuration of a file, or the default one, under the environment's REGISTRY_ variables."""
    if path is None:
        return config_file.load(_DEFAULT, os.environ, "the default configuration")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    return config_file.load(data or b"{}", os.environ, str(path))


def run(config: Config) -> int:
    """Serve until a signal ends it."""
    with contextlib.ExitStack() as stack:
        stock = open_stock(config.storage, config.gantry.collect.grace / 4)
        try:
            stack.enter_context(locks.locked(stock.directory))
        except Unavailable as error:
            raise Unavailable(f"another registry serves the storage {stock.directory}") from error
        registry = Registry(config, stock.depot(), authenticator(config), deletes=config.storage.delete.enabled)
        context = tls_context(config.http.tls) if config.http.tls.certificate else None
        listening = [stack.enter_context(each) for each in listen(config.http.addr, config.http.net)]
        debug = [stack.enter_context(each) for each in listen(config.http.debug.addr)] if config.http.debug.addr else []
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(registry, listening, debug, context))
    return 0


async def _serve(
    registry: Registry, listening: list[socket.socket], debug: list[socket.socket], context: ssl.SSLContext | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with registry:
        factory = registry.app.server()
        servers = [await loop.create_server(factory, sock=each, ssl=context, backlog=_BACKLOG) for each in listening]
        pages = registry.pages.server()
        servers += [await loop.create_server(pages, sock=each) for each in debug]
        for each in listening:
            log.info("registry listens on %s%s", _address(each), ", TLS" if context else "")
        await stop.wait()
        log.info("registry stops: requests have %g s to end", registry.drain_seconds)
        for server in servers:
            server.close()
        await registry.app.drain(registry.drain_seconds)
        factory.pre_shutdown()  # what is left are idle connections, and answers on their way
        await factory.shutdown(1.0)
        pages.pre_shutdown()
        await pages.shutdown(1.0)


def authenticator(config: Config) -> Authenticator:
    """How clients log in."""
    if config.auth.htpasswd:
        return Htpasswd(Path(config.auth.htpasswd.path), config.auth.htpasswd.realm)
    if config.auth.token:
        from gantry.registry.server.auth_token import TokenAuth

        return TokenAuth(config.auth.token)
    return NoAuth()


def tls_context(tls: TLS) -> ssl.SSLContext:
    """The server's certificate, and the authorities of clients where those must show one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimumtls == "tls1.3" else ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        for authority in tls.clientcas:
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        named = f"{tls.certificate}, {tls.key}" + "".join(f", {each}" for each in tls.clientcas)
        raise InvalidArgument(f"http.tls: {named}: {(error.strerror or str(error)).lower()}") from error
    return context


def listen(address: str, net: str = "tcp") -> list[socket.socket]:
    """Sockets bound to `host:port` (an empty host is every address) or to a unix socket's path."""
    if net == "unix":
        Path(address).unlink(missing_ok=True)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(address)
        return [unix]
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidArgument(f"http.addr: {address}: host:port is expected")
    found: list[socket.socket] = []
    try:
        if not host and socket.has_dualstack_ipv6():
            return [
                socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
            ]
        places = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, place in places:
            found.append(socket.create_server(place[:2], family=family, backlog=_BACKLOG))
    except OSError as error:
        for each in found:
            each.close()
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise Unavailable(f"listen tcp {address}: bind: {why.lower()}") from error
    return found


def _address(listening: socket.socket) -> str:
    name = listening.getsockname()
    if isinstance(name, str):
        return name
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"


if __name__ == "__main__":
    raise SystemExit(main())
