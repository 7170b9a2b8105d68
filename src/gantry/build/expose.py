"""EXPOSE's port specifications: `80`, `80/udp`, `8000-8010`, and Docker's `ip:host:container`."""

from gantry.build.errors import DockerfileError

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_MOST = 65535


def expand_ports(spec: str, line: int) -> list[str]:
    """The exposed ports of one word as `port/protocol`; raises DockerfileError with Docker's words."""
    ports, _, protocol = spec.partition("/")
    protocol = protocol.lower() or "tcp"
    container = ports.rpartition(":")[2]
    if not container:
        raise _error(f"no port specified: {spec}<empty>", line)
    low, dash, high = container.partition("-")
    if not _number(low) or (dash and not _number(high)):
        raise _error(f"Invalid containerPort: {container}", line)
    if protocol not in _PROTOCOLS:
        raise _error(f"Invalid proto: {protocol}", line)
    first, last = int(low), int(high) if dash else int(low)
    if last < first:
        raise _error(f"Invalid range specified for port: {container}", line)
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _MOST


def _error(message: str, line: int) -> DockerfileError:
    return DockerfileError(message, line=line, numbered=False)
