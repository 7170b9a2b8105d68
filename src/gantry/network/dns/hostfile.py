"""The host's name servers, as they are now: another network or a VPN counts for running containers (resolv.conf(5)).

The file is looked at when a query goes out, and read again when it is another one: nothing waits for its change.
"""

import os
import socket

from gantry.network.dns.forward import Upstream

_LIMIT = 1 << 16  # bytes of the file that are looked at
_SERVERS = 8


class HostServers:
    """`path` is the host's resolv.conf."""

    def __init__(self, path: str = "/etc/resolv.conf") -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._servers: tuple[Upstream, ...] = ()

    def current(self) -> tuple[Upstream, ...]:
        """The servers, in order; those of the last look where the file is gone for a moment, () where it has none."""
        try:
            info = os.stat(self._path)
            seen = (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size)
            if seen != self._seen:
                with open(self._path, "rb") as file:
                    self._servers = _parse(file.read(_LIMIT))
                self._seen = seen
        except OSError:
            return self._servers
        return self._servers


def _parse(text: bytes) -> tuple[Upstream, ...]:
    found: list[Upstream] = []
    for line in text.decode("ascii", "replace").splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) > 1 and words[0] == "nameserver" and _is_address(words[1]):
            found.append(Upstream(words[1], host=True))
    return tuple(found[:_SERVERS])


def _is_address(text: str) -> bool:
    """Only addresses: a name would have to be resolved."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text.partition("%")[0])
    except OSError:
        return False
    return True
