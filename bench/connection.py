"""HTTP over a unix socket by hand: the client costs as little as it can beside the server that is measured."""

import socket
from types import TracebackType
from typing import NamedTuple, Self

_CHUNK = 1 << 18


class Answer(NamedTuple):
    status: int
    body: bytes


class Connection:
    """One kept-alive connection to an Engine API socket; `timeout` is seconds for each read."""

    def __init__(self, path: str, timeout: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._rest = b""
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def request(self, method: str, target: str, body: bytes = b"") -> Answer:
        """One request and its whole answer; raises OSError where the server goes away."""
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: d\r\n{kind}Content-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        header = self._until(b"\r\n\r\n")
        status = int(header[9:12])
        lower = header.lower()
        if status in (204, 304):
            return Answer(status, b"")
        if b"transfer-encoding: chunked" in lower:
            return Answer(status, self._chunks())
        _, found, rest = lower.partition(b"content-length:")
        return Answer(status, self._exactly(int(rest.split(b"\r\n", 1)[0])) if found else b"")

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._until(b"\r\n"), 16):
            parts.append(self._exactly(size + 2)[:-2])
        self._until(b"\r\n")
        return b"".join(parts)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            self._more()
        part, _, self._rest = self._rest.partition(mark)
        return part

    def _exactly(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._rest += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
