"""What ports a container asks for, read from Docker's port bindings. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.network import PublishedPort
from gantry.network.records import WantedPort
from gantry.network.ruleset import ANY
from gantry.ports import EndpointRequest

PROTOCOLS = ("tcp", "udp", "sctp")


def wanted_ports(request: EndpointRequest, default_ip: str) -> tuple[WantedPort, ...]:
    """What a request asks to publish, fixed ports first; raises InvalidArgument with Docker's words.

    A binding without address is on all addresses of both families where `default_ip` is 0.0.0.0.
    """
    wanted: list[WantedPort] = []
    bound: set[tuple[int, str]] = set()
    everywhere = (ANY[4], ANY[6]) if default_ip in ("", ANY[4]) else (default_ip,)
    for key, bindings in request.port_bindings.items():
        port, protocol = parse_port(key)
        bound.add((port, protocol))
        for host_ip, host_port in [_binding(each) for each in bindings or [{}]]:
            first, last = _port_range(host_port) if host_port and host_port != "0" else (0, 0)
            addresses = (_host_address(host_ip),) if host_ip else everywhere
            wanted.append(WantedPort(protocol, port, addresses, first, last))
    if request.publish_all:
        for key in request.exposed:
            port, protocol = parse_port(key)
            if (port, protocol) not in bound:
                wanted.append(WantedPort(protocol, port, everywhere, 0, 0))
    return tuple(
        sorted(wanted, key=lambda each: (each.first == 0, each.last - each.first, each.protocol, each.container_port))
    )


def of_family(wanted: Iterable[WantedPort], versions: Iterable[int]) -> tuple[WantedPort, ...]:
    """The part of some wishes that concerns addresses of these families."""
    kept = set(versions)
    found = []
    for each in wanted:
        host_ips = tuple(ip for ip in each.host_ips if version_of(ip) in kept)
        if host_ips:
            found.append(msgspec.structs.replace(each, host_ips=host_ips))
    return tuple(found)


def like(wanted: Iterable[WantedPort], before: Iterable[PublishedPort]) -> tuple[WantedPort, ...]:
    """The same wishes, for the host ports that they were given before."""
    left: dict[tuple[str, int], list[int]] = {}
    for port in before:
        numbers = left.setdefault((port.protocol, port.container_port), [])
        if port.host_port and port.host_port not in numbers:
            numbers.append(port.host_port)
    found = []
    for each in wanted:
        numbers = left.get((each.protocol, each.container_port), [])
        fits = [number for number in numbers if not each.first or each.first <= number <= each.last]
        if fits:
            numbers.remove(fits[0])
            each = msgspec.structs.replace(each, first=fits[0], last=fits[0])
        found.append(each)
    return tuple(found)


def granted(wish: WantedPort, ports: Sequence[PublishedPort]) -> list[PublishedPort]:
    """Which of a container's published ports one wish was given: one number on all of its addresses."""
    fits = [
        port
        for port in ports
        if (port.protocol, port.container_port) == (wish.protocol, wish.container_port)
        and port.host_ip in wish.host_ips
        and (not wish.first or not port.host_port or wish.first <= port.host_port <= wish.last)
    ]
    return [port for port in fits if port.host_port == fits[0].host_port]


def version_of(address: str) -> int:
    return 6 if ":" in address else 4


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
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise InvalidArgument(f"invalid IP address in port binding: {text}") from None
