"""Which host port belongs to which container.

Every published port is held by a socket of the daemon that is bound and does not listen: packets never reach
it (they are redirected before), but no other program can take the port, and a program that has it already is
found before the container starts.
"""

import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from gantry.errors import Internal, InvalidArgument, Unsupported
from gantry.model.network import PublishedPort
from gantry.ports import EndpointRequest

log = logging.getLogger(__name__)

PROTOCOLS = ("tcp", "udp", "sctp")
_ANY = "0.0.0.0"  # noqa: S104 - what users write for every address
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RANGE = (32768, 60999)


class WantedPort(msgspec.Struct, frozen=True):
    """One port to publish on the first free port of `first` to `last`; (0, 0) is any port."""

    protocol: str
    container_port: int
    host_ip: str
    first: int
    last: int


def wanted_ports(request: EndpointRequest, default_ip: str) -> list[WantedPort]:
    """What a request asks to publish, fixed ports first; raises InvalidArgument with Docker's words."""
    wanted: list[WantedPort] = []
    bound: set[tuple[int, str]] = set()
    for key, bindings in request.port_bindings.items():
        port, protocol = parse_port(key)
        bound.add((port, protocol))
        for host_ip, host_port in [_binding(each) for each in bindings or [{}]]:
            first, last = _port_range(host_port) if host_port else (0, 0)
            wanted.append(WantedPort(protocol, port, _host_address(host_ip or default_ip), first, last))
    if request.publish_all:
        for key in request.exposed:
            port, protocol = parse_port(key)
            if (port, protocol) not in bound:
                wanted.append(WantedPort(protocol, port, _host_address(default_ip), 0, 0))
    return sorted(
        wanted, key=lambda each: (each.first == 0, each.last - each.first, each.protocol, each.container_port)
    )


def parse_port(key: str) -> tuple[int, str]:
    """`80/tcp`, `80` -> (80, "tcp")."""
    number, _, protocol = key.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    return _port_range(number)[0], protocol


def _binding(binding: object) -> tuple[str, str]:
    """A `PortBinding`, or the mapping that it is on the wire."""
    if isinstance(binding, dict):
        return str(binding.get("HostIp") or ""), str(binding.get("HostPort") or "")
    return str(getattr(binding, "host_ip", "")), str(getattr(binding, "host_port", ""))


def _port_range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    numbers = (low, high if dash else low)
    if not all(each.isascii() and each.isdigit() and len(each) <= 5 and int(each) <= 65535 for each in numbers):
        raise InvalidArgument(f'invalid port specification: "{text}"')
    first, last = int(numbers[0]), int(numbers[1])
    if last < first:
        raise InvalidArgument(f'invalid port specification: "{text}"')
    return first, last


def _host_address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise InvalidArgument(f"invalid IP address in port binding: {text}") from None
    if address.version == 6:
        raise Unsupported(f"port binding [{address}]: publishing on an IPv6 address needs a network with IPv6")
    return str(address)


class PortMap:
    """The published ports of one daemon. Not thread-safe: used on the event loop; every call takes microseconds."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], dict[str, socket.socket | None]] = {}
        self._last: dict[str, int] = {}

    def publish(self, wanted: Iterable[WantedPort], container_ip: str) -> tuple[PublishedPort, ...]:
        """Reserve all or none; raises Internal with Docker's message for the first that cannot be had."""
        done: list[PublishedPort] = []
        try:
            for each in wanted:
                done.append(self._publish(each, container_ip))  # noqa: PERF401 - `done` is what must be undone
        except BaseException:
            self.release(done)
            raise
        return tuple(done)

    def restore(self, ports: Iterable[PublishedPort]) -> None:
        """Hold ports again that containers have had since before the daemon's restart."""
        for port in ports:
            holder: socket.socket | None = None
            try:
                holder = _hold(port.protocol, port.host_ip, port.host_port)
            except OSError as error:
                log.warning("port %s:%d/%s: %s", port.host_ip, port.host_port, port.protocol, error)
            self._held.setdefault((port.protocol, port.host_port), {})[port.host_ip] = holder

    def release(self, ports: Iterable[PublishedPort]) -> None:
        for port in ports:
            owners = self._held.get((port.protocol, port.host_port), {})
            holder = owners.pop(port.host_ip, None)
            if holder is not None:
                holder.close()
            if not owners:
                self._held.pop((port.protocol, port.host_port), None)

    def close(self) -> None:
        """Let go of every port."""
        for owners in self._held.values():
            for holder in owners.values():
                if holder is not None:
                    holder.close()
        self._held.clear()

    def _publish(self, wanted: WantedPort, container_ip: str) -> PublishedPort:
        failure = Internal("all ports are allocated")
        for port in self._candidates(wanted):
            owners = self._held.get((wanted.protocol, port), {})
            clash = wanted.host_ip if wanted.host_ip in owners else _ANY if _ANY in owners else ""
            if clash or (owners and wanted.host_ip == _ANY):
                failure = Internal(f"Bind for {clash or wanted.host_ip}:{port} failed: port is already allocated")
                continue
            try:
                holder = _hold(wanted.protocol, wanted.host_ip, port)
            except OSError as error:
                goal = f"{wanted.host_ip}:{port}:{container_ip}:{wanted.container_port}/{wanted.protocol}"
                reason = os.strerror(error.errno or 0).lower()
                failure = Internal(f"failed to bind host port for {goal}: {reason}")
                continue
            self._held.setdefault((wanted.protocol, port), {})[wanted.host_ip] = holder
            if not wanted.first:
                self._last[wanted.protocol] = port
            return PublishedPort(wanted.protocol, wanted.container_port, wanted.host_ip, port)
        raise failure

    def _candidates(self, wanted: WantedPort) -> Iterable[int]:
        if wanted.first:
            return range(wanted.first, wanted.last + 1)
        low, high = ephemeral_range()
        start = self._last.get(wanted.protocol, low - 1) + 1
        if not low <= start <= high:
            start = low
        return (*range(start, high + 1), *range(low, start))


def ephemeral_range() -> tuple[int, int]:
    """The kernel's range for ports that nobody chose."""
    try:
        low, high = (int(each) for each in _RANGE_FILE.read_text().split())
    except (OSError, ValueError):
        return _RANGE
    return low, high


def _hold(protocol: str, host_ip: str, port: int) -> socket.socket | None:
    """A socket that keeps the port; raises OSError where another program has it."""
    opening: Callable[[], socket.socket] = {
        "tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "sctp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    }[protocol]
    try:
        holder = opening()
    except OSError as error:
        if protocol == "sctp" and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None  # no SCTP in this kernel: no program can have the port either
        raise
    try:
        if protocol == "udp":
            with contextlib.suppress(OSError):
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # what strays in here is of no use
            holder.bind((host_ip, port))
            return holder
        # Connections of a program that has ended may still be in TIME_WAIT here: SO_REUSEADDR lets us in beside
        # them. Listening for a moment finds another socket that is bound and does not listen. Without the option
        # from then on, nobody else who has it can listen here.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host_ip, port))
        holder.listen(0)
        holder.shutdown(socket.SHUT_RDWR)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        holder.close()
        raise
    return holder
