"""A load generator: one thread, one request in flight on each connection, as cheap as Python can be."""

import selectors
import socket
import statistics
import time
from typing import NamedTuple

from bench.model import Failed

_CHUNK = 1 << 18
_PATIENCE = 20.0  # seconds


class Load(NamedTuple):
    """`rate` is answers per second, the latencies are milliseconds."""

    rate: float
    p50: float
    p99: float


class _Client:
    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.sent = 0.0
        self.length = -1
        self.have = 0
        self.head = b""

    def send(self, request: bytes) -> None:
        self.length, self.have, self.head = -1, 0, b""
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def done(self) -> bool:
        """Read what is there; True at the end of an answer."""
        data = self.socket.recv(_CHUNK)
        if not data:
            raise Failed("the server closed a connection")
        if self.length == -1:
            self.head += data
            head, found, rest = self.head.partition(b"\r\n\r\n")
            if not found:
                return False
            if b" 200 " not in head[:16]:
                raise Failed(f"unexpected answer: {head[:100]!r}")
            lower = head.lower()
            _, sized, value = lower.partition(b"content-length:")
            self.length = int(value.split(b"\r\n", 1)[0]) if sized else -2
            data = rest
            self.head = b""
        self.have += len(data)
        if self.length >= 0:
            return self.have >= self.length
        self.head = (self.head + data)[-7:]  # JSON holds no bare line ends: this ends a chunked answer
        return self.head.endswith(b"\r\n0\r\n\r\n")


def _enough(answers: int, elapsed: float, seconds: float, connections: int) -> bool:
    """The time is over and every connection has had its turn; a slow server gets longer, to a bound."""
    return elapsed >= seconds and (answers >= 2 * connections or elapsed >= _PATIENCE)


def generate(path: str, target: str, connections: int, seconds: float) -> Load:
    """GET `target` over and over for so long, longer where it is slow; raises Failed where an answer is not 200."""
    request = f"GET {target} HTTP/1.1\r\nHost: d\r\n\r\n".encode()
    latencies: list[float] = []
    clients = [_Client(path) for _ in range(connections)]
    try:
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client.socket, selectors.EVENT_READ, client)
                client.send(request)
            began = time.perf_counter()
            while not _enough(len(latencies), (now := time.perf_counter()) - began, seconds, connections):
                for key, _ in selector.select(1):
                    client = key.data
                    if client.done():
                        latencies.append(time.perf_counter() - client.sent)
                        client.send(request)
    finally:
        for client in clients:
            client.socket.close()
    if not latencies:
        raise Failed(f"no answer to {target} within {seconds} seconds")
    latencies.sort()
    return Load(
        len(latencies) / (now - began),
        statistics.median(latencies) * 1000,
        latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1000,
    )
