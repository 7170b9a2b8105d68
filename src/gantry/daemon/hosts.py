"""Where to listen: the addresses of `--host`, parsed and judged."""

import ipaddress
import socket
import stat
from pathlib import Path
from typing import NamedTuple

from gantry.errors import InvalidArgument

DOCKER_SOCKET = Path("/var/run/docker.sock")
OWN_SOCKET = Path("/run/gantry/gantry.sock")
PLAIN_PORT, TLS_PORT = 2375, 2376


class Host(NamedTuple):
    """One address: `scheme` is unix (`path`), tcp (`address`, `port`) or fd (`path` names the descriptor)."""

    scheme: str
    path: str = ""
    address: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.scheme != "tcp":
            return f"{self.scheme}://{self.path}"
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"tcp://{address}:{self.port}"


def parse_host(text: str, *, tls: bool) -> Host:
    """Docker's forms of an address; raises InvalidArgument with its words."""
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if not text or (scheme == "unix" and not rest):
        return Host("unix", str(DOCKER_SOCKET))
    if scheme == "unix":
        if not rest.startswith("/"):
            raise InvalidArgument(f"invalid bind address ({text}): unix socket path must be absolute")
        return Host("unix", rest)
    if scheme == "fd":
        return Host("fd", rest)
    if scheme != "tcp":
        raise InvalidArgument(f"invalid bind address ({text}): unsupported proto '{scheme}'")
    return _tcp(text, rest, TLS_PORT if tls else PLAIN_PORT)


def _tcp(text: str, rest: str, default_port: int) -> Host:
    if "/" in rest or "?" in rest or "@" in rest:
        raise InvalidArgument(f"invalid bind address ({text}): should not contain a path element")
    if rest.startswith("["):
        address, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidArgument(f"invalid bind address ({text}): missing ']' in address")
        port = port[1:]
    else:
        address, _, port = rest.partition(":")
        if ":" in port:
            raise InvalidArgument(f"invalid bind address ({text}): too many colons in address")
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise InvalidArgument(f"invalid bind address ({text}): invalid port '{port}'")
    return Host("tcp", address=address or "127.0.0.1", port=int(port) if port else default_port)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def default_hosts() -> tuple[str, ...]:
    """Docker's socket, which every client looks for; our own where another engine holds that one."""
    return (f"unix://{OWN_SOCKET if answers(DOCKER_SOCKET) else DOCKER_SOCKET}",)


def answers(path: Path) -> bool:
    """Whether a process accepts connections on the unix socket at `path`."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return False
    except OSError:
        return True  # a full backlog or a refused permission: someone is there
    return True
