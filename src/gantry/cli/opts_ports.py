"""Ports of --publish and --expose: short and long notation, ranges, addresses."""

from __future__ import annotations

from gantry.cli.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROTOCOLS = ("tcp", "udp", "sctp")


def parse(publish: Sequence[str], expose: Sequence[str]) -> tuple[dict[str, object], dict[str, list[dict[str, str]]]]:
    """(ExposedPorts, PortBindings) of a create request; raises StartError in Docker's words."""
    exposed: dict[str, object] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for text in publish:
        for port, address, host_port in _published(_standard(text) if "=" in text else text):
            exposed[port] = {}
            bindings.setdefault(port, []).append({"HostIp": address, "HostPort": host_port})
    for text in expose:
        exposed.update((port, {}) for port in _exposed(text))
    return exposed, bindings


def _standard(text: str) -> str:
    """`published=8080,target=80,protocol=tcp` in the short notation."""
    given = {"published": "", "target": "", "protocol": "tcp"}
    for field in text.split(","):
        key, equals, rest = field.partition("=")
        if not equals or not key:
            raise StartError(f"invalid publish opts format (should be name=value but got '{field}')")
        given[key] = rest
    return f"{given['published']}:{given['target']}/{given['protocol']}"


def _published(text: str) -> Iterator[tuple[str, str, str]]:
    """(container port with protocol, host address, host port or range) for each port of one --publish."""
    address, host, container = _split(text)
    protocol, container = split_protocol(container)
    if address:
        address = _address(address)
    if not container:
        raise StartError(f"no port specified: {text}<empty>")
    try:
        first, last = port_range(container)
    except ValueError:
        raise StartError(f"invalid containerPort: {container}") from None
    host_first = host_last = 0
    if host:
        try:
            host_first, host_last = port_range(host)
        except ValueError:
            raise StartError(f"invalid hostPort: {host}") from None
        if last - first != host_last - host_first and first != last:
            raise StartError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    if protocol.lower() not in _PROTOCOLS:
        raise StartError(f"invalid proto: {protocol}")
    for offset in range(last - first + 1):
        shown = str(host_first + offset) if host else ""
        if first == last and host_first != host_last:
            shown = f"{host_first}-{host_last}"
        yield f"{first + offset}/{protocol.lower()}", address, shown


def _split(text: str) -> tuple[str, str, str]:
    parts = text.rsplit(":", 2)
    return ("", *parts) if len(parts) == 2 else tuple(parts) if len(parts) == 3 else ("", "", text)  # type: ignore[return-value]


def _address(text: str) -> str:
    plain = text
    if text[0] == "[":
        if text[-1] != "]":
            raise StartError(f"invalid IP address {text}: address {text}:: missing ']' in address")
        plain = text[1:-1]
    if not is_address(plain):
        raise StartError(f"invalid IP address: {plain}")
    return plain


def is_address(text: str) -> bool:
    """Whether text is an IPv4 or IPv6 address."""
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def split_protocol(text: str) -> tuple[str, str]:
    """("tcp", "80") of "80", ("udp", "53") of "53/udp"."""
    port, _, protocol = text.partition("/")
    if not port:
        return "", ""
    return protocol.partition("/")[0] or "tcp", port


def port_range(text: str) -> tuple[int, int]:
    """First and last port of "80" or "8000-8010"; raises ValueError."""
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, last = text.partition("-")
    start = _port(first)
    end = _port(last) if dash else start
    if end < start:
        raise ValueError(f"invalid range specified for port: {text}")
    return start, end


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def _exposed(text: str) -> Iterator[str]:
    if ":" in text:
        raise StartError(f"invalid port format for --expose: {text}")
    protocol, port = split_protocol(text)
    try:
        first, last = port_range(port)
    except ValueError as error:
        raise StartError(f"invalid range format for --expose: {text}, error: {error}") from None
    for number in range(first, last + 1):
        yield f"{number}/{protocol}"
