"""Which host port belongs to which container.

Every published port is held by a socket of the daemon that is bound and does not listen: packets never reach
it (they are redirected before), but no other program can take the port, and a program that has it already is
found before the container starts.
"""

import contextlib
import errno
import ipaddress
import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gantry.errors import Internal
from gantry.model.network import PublishedPort
from gantry.network.records import WantedPort
from gantry.network.ruleset import ANY

log = logging.getLogger(__name__)

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RANGE = (32768, 60999)


class PortMap:
    """The published ports of one daemon. Not thread-safe: used on the event loop; every call takes microseconds."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], dict[str, socket.socket | None]] = {}
        self._last: dict[str, int] = {}

    def publish(self, wanted: Iterable[WantedPort], addresses: Mapping[int, str]) -> tuple[PublishedPort, ...]:
        """Reserve all or none; raises Internal with Docker's message for the first that cannot be had.

        `addresses` are the container's, by family; they are for messages only.
        """
        done: list[PublishedPort] = []
        try:
            for each in wanted:
                done += self._publish(each, addresses)
        except BaseException:
            self.release(done)
            raise
        return tuple(done)

    def restore(self, ports: Iterable[PublishedPort]) -> None:
        """Hold ports again that containers have had since before the daemon's restart."""
        for port in ports:
            if not port.host_port:
                continue
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

    def _publish(self, wanted: WantedPort, addresses: Mapping[int, str]) -> list[PublishedPort]:
        failure = Internal("all ports are allocated")
        for port in self._candidates(wanted):
            done: list[PublishedPort] = []
            try:
                for host_ip in wanted.host_ips:
                    self._take(wanted, host_ip, port, addresses)
                    done.append(PublishedPort(wanted.protocol, wanted.container_port, host_ip, port))
            except Internal as error:
                self.release(done)
                failure = error if wanted.first == wanted.last else failure
                continue
            if not wanted.first:
                self._last[wanted.protocol] = port
            return done
        raise failure

    def _take(self, wanted: WantedPort, host_ip: str, port: int, addresses: Mapping[int, str]) -> None:
        """Take one port on one address; raises Internal."""
        version = _version(host_ip)
        held = self._held.get((wanted.protocol, port), {})
        owners = [each for each in held if _version(each) == version]
        clash = host_ip if host_ip in owners else ANY[version] if ANY[version] in owners else ""
        if clash or (owners and host_ip == ANY[version]):
            raise Internal(f"Bind for {_shown(clash or host_ip)}:{port} failed: port is already allocated")
        try:
            holder = _hold(wanted.protocol, host_ip, port)
        except OSError as error:
            inner = _shown(addresses.get(version, ""))
            goal = f"{_shown(host_ip)}:{port}:{inner}:{wanted.container_port}/{wanted.protocol}"
            reason = os.strerror(error.errno or 0).lower()
            raise Internal(f"failed to bind host port for {goal}: {reason}") from error
        self._held.setdefault((wanted.protocol, port), {})[host_ip] = holder

    def _candidates(self, wanted: WantedPort) -> Iterable[int]:
        if wanted.first:
            return range(wanted.first, wanted.last + 1)
        low, high = ephemeral_range()
        start = self._last.get(wanted.protocol, low - 1) + 1
        if not low <= start <= high:
            start = low
        return itertools.chain(range(start, high + 1), range(low, start))


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def ephemeral_range() -> tuple[int, int]:
    """The kernel's range for ports that nobody chose."""
    try:
        low, high = (int(each) for each in _RANGE_FILE.read_text().split())
    except (OSError, ValueError):
        return _RANGE
    return low, high


def _hold(protocol: str, host_ip: str, port: int) -> socket.socket | None:
    """A socket that keeps the port; raises OSError where another program has it."""
    family = socket.AF_INET if _version(host_ip) == 4 else socket.AF_INET6
    opening: dict[str, Callable[[], socket.socket]] = {
        "tcp": lambda: socket.socket(family, socket.SOCK_STREAM),
        "udp": lambda: socket.socket(family, socket.SOCK_DGRAM),
        "sctp": lambda: socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    }
    try:
        holder = opening[protocol]()
    except OSError as error:
        if protocol == "sctp" and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None  # no SCTP in this kernel: no program can have the port either
        raise
    try:
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
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
