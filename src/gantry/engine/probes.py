"""One look at a container's health: a command in it, an HTTP request or a TCP connection into its network."""

import asyncio
import ipaddress
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from gantry.engine.execs import ExecRequest, Execs
from gantry.errors import InvalidArgument
from gantry.model.container import Container, ContainerConfig
from gantry.ports import TaskFacts

OUTPUT_LIMIT = 4096  # bytes
_HEAD_LIMIT = 32 << 10
_SHELL = ["/bin/sh", "-c"]
_SUCCESS = range(200, 400)


class Target(NamedTuple):
    """Where a probe connects to: an IP address, as the container's network sees it. `path` is "" for plain TCP."""

    host: str
    port: int
    path: str = ""
    tls: bool = False

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def probe_command(config: ContainerConfig) -> list[str]:
    """What is run in the container; empty where no command is."""
    test = (config.healthcheck.test if config.healthcheck else None) or []
    if not test:
        return []
    if test[0] == "CMD":
        return test[1:]
    return [*(config.shell or _SHELL), *test[1:]] if test[0] == "CMD-SHELL" else []


def probe_target(config: ContainerConfig) -> Target | None:
    """Where to connect to, None for another kind of check. Raises InvalidArgument."""
    test = (config.healthcheck.test if config.healthcheck else None) or []
    if not test or test[0] not in ("HTTP", "TCP"):
        return None
    if len(test) != 2:
        raise InvalidArgument(f"invalid health check: {test[0]} takes one argument")
    return parse_http(test[1]) if test[0] == "HTTP" else parse_tcp(test[1])


def parse_http(text: str) -> Target:
    """`http://[HOST]:PORT/path` or https; the host is an address, 127.0.0.1 where it is left out."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise InvalidArgument(f"invalid health check URL {text!r}: {error}") from None
    if url.scheme not in ("http", "https") or url.username is not None or not text.isprintable() or " " in text:
        raise InvalidArgument(f"invalid health check URL {text!r}: http://[HOST]:PORT/PATH is expected")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not path.isascii():
        raise InvalidArgument(f"invalid health check URL {text!r}: what is not ASCII has to be escaped")
    tls = url.scheme == "https"
    return Target(_address(url.hostname or "", text), port if port is not None else 443 if tls else 80, path, tls)


def parse_tcp(text: str) -> Target:
    """`[HOST]:PORT`; the host is an address, 127.0.0.1 where it is left out."""
    host, colon, number = text.rpartition(":")
    if not colon or not number.isascii() or not number.isdecimal() or not 0 < int(number) < 65536:
        raise InvalidArgument(f"invalid health check address {text!r}: [HOST]:PORT is expected")
    return Target(_address(host.removeprefix("[").removesuffix("]"), text), int(number))


def _address(host: str, text: str) -> str:
    if host in ("", "localhost"):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise InvalidArgument(
            f"invalid health check target {text!r}: the host has to be an IP address, or left out for 127.0.0.1"
        ) from None


class Probes:
    """Runs probes; each raises TimeoutError after `seconds`, with what was said so far in `output`."""

    def __init__(self, execs: Execs, facts: TaskFacts) -> None:
        self._execs = execs
        self._facts = facts

    async def run(self, container: Container, output: bytearray, seconds: float) -> int:
        """The exit code, 0 for healthy. Raises GantryError where the probe could not be made."""
        target = probe_target(container.config)
        if target is None:
            request = ExecRequest(probe_command(container.config), attach_stdout=True, attach_stderr=True)
            return await self._execs.run(container, request, output, OUTPUT_LIMIT + 1, seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self._connect(container, target, output)
        except TimeoutError:
            raise
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            output += f"{target.authority}: {getattr(error, 'strerror', None) or error}".encode()
            return 1

    async def _connect(self, container: Container, target: Target, output: bytearray) -> int:
        connection = await self._facts.socket(container.id, target.family)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (target.host, target.port))
            if not target.path:
                output += f"connected to {target.authority}".encode()
                return 0
            return await _ask(connection, target, output)
        finally:
            connection.close()


async def _ask(connection: socket.socket, target: Target, output: bytearray) -> int:
    """One GET; 2xx and 3xx are healthy. The certificate is the container's own business and is not checked."""
    options: dict[str, object] = {}
    if target.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        options = {"ssl": context, "server_hostname": target.host}
    reader, writer = await asyncio.open_connection(sock=connection, limit=_HEAD_LIMIT, **options)  # type: ignore[arg-type]
    try:
        writer.write(
            f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: Gantry-Health\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        line, _, _ = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        version, _, status = line.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not status[:3].isdigit():
            output += b"not an answer in HTTP: " + line[:200]
            return 1
        output += line + b"\n"
        while len(output) <= OUTPUT_LIMIT and (data := await reader.read(OUTPUT_LIMIT)):
            output += data
        return 0 if int(status[:3]) in _SUCCESS else 1
    finally:
        writer.close()
