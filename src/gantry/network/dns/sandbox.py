"""One container as the resolver sees it: its sockets, its servers, and what was answered before."""

import os
import socket
import threading
from collections.abc import Sequence

from gantry.linux.namespaces import CLONE_NEWNET, setns
from gantry.network.dns.forward import Exchange, Upstream
from gantry.network.dns.stream import Connection

_BATCH = 8  # sockets that are made at once where a namespace has to be entered
MAX_EXCHANGES = 256  # queries of one container that are on their way at a time
MAX_CONNECTIONS = 64


class Sandbox:
    """`forward` says whether anything may leave (not from internal networks); `ndots` whether the user chose ndots.

    `answers` are complete answers for local names but for the number, by the bytes of the query behind its number.
    Where a name has several addresses there is one answer for each to be the first; `turn` counts through them.
    """

    def __init__(self, key: str, namespace: int, udp: socket.socket, tcp: socket.socket) -> None:
        self.key = key
        self.udp = udp
        self.tcp = tcp
        self.servers: tuple[Upstream, ...] = ()
        self.follows = False
        self.scope = key
        self.forward = False
        self.ndots = False
        self.exchanges: set[Exchange] = set()
        self.answers: dict[bytes, bytes | list[bytes]] = {}
        self.turn = 0
        self.connections: set[Connection] = set()
        self._namespace = namespace
        self._ready: dict[tuple[int, int], list[socket.socket]] = {}

    def set_servers(self, servers: Sequence[Upstream], *, follows: bool) -> None:
        """Containers that ask the same servers from the host share what is kept of their answers.

        One that `follows` asks whom the host asks now, and these where the host has none.
        """
        self.servers = tuple(servers)
        self.follows = follows
        self.scope = shared_scope(servers) if servers and all(each.host for each in servers) else self.key

    def open(self, family: int, kind: int, host: bool) -> socket.socket:
        """A socket in the container's namespace, or in the host's, where this process is. Raises OSError."""
        if host:
            return socket.socket(family, kind | socket.SOCK_NONBLOCK)
        ready = self._ready.setdefault((family, kind), [])
        if not ready:
            ready += self._make(family, kind)
        return ready.pop()

    def _make(self, family: int, kind: int) -> list[socket.socket]:
        """A thread enters the namespace, opens some sockets and ends. They get their ports when they are connected."""
        made: list[socket.socket] = []
        errors: list[OSError] = []

        def inside() -> None:
            try:
                setns(self._namespace, CLONE_NEWNET)
                made.extend(socket.socket(family, kind | socket.SOCK_NONBLOCK) for _ in range(_BATCH))
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if not made:
            raise errors[0] if errors else OSError("no socket was made")
        return made

    def close(self) -> None:
        """The namespace ends when the last descriptor in it is closed."""
        for exchange in list(self.exchanges):
            exchange.cancel()
        self.exchanges.clear()
        for connection in list(self.connections):
            connection.close()
        for sockets in self._ready.values():
            for each in sockets:
                each.close()
        self._ready.clear()
        self.udp.close()
        self.tcp.close()
        os.close(self._namespace)


def shared_scope(servers: Sequence[Upstream]) -> str:
    """What names these servers, asked from the host."""
    return "host " + " ".join(f"{each.address}#{each.port}" for each in servers)
