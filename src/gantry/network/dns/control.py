"""The conversation between the daemon and the resolver: JSON behind a length, with descriptors beside it (unix(7)).

The resolver speaks first: `{"version", "pid", "sandboxes"}`. Then the daemon sends commands, which get no answer:

load      all networks, endpoints and special names; sandboxes that are not named are closed
open      a sandbox: {"id", "servers", "follow", "ndots", "forward", "special"} and descriptors: namespace, UDP, TCP
settings  the same for a sandbox that is open, without descriptors
close     a sandbox
network, forget   a network {"id", "name", "own"}; a network that is gone
join, leave       an endpoint; the key of one that is gone
end       the process ends
"""

import array
import json
import socket
from collections.abc import Sequence
from typing import Any

VERSION = 1
_LENGTH = 4
_MAX_FRAME = 64 << 20
_MAX_FDS = 16


def frame(message: dict[str, Any]) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode()
    return len(data).to_bytes(_LENGTH, "big") + data


def descriptors(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data that carries descriptors; they travel with the first byte of a frame."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []


class Reader:
    """Takes frames and descriptors out of a stream. Descriptors come before the end of the frame that names them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self.descriptors: list[int] = []

    def read(self) -> list[dict[str, Any]] | None:
        """The frames that have come; None at the end of the conversation. Does not wait; raises OSError."""
        found: list[dict[str, Any]] = []
        while True:
            try:
                space = socket.CMSG_SPACE(_MAX_FDS * 4)
                data, ancillary, _, _ = self._connection.recvmsg(1 << 16, space, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return found
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                    self.descriptors += numbers
            if not data:
                return found or None
            self._buffer += data
            while len(self._buffer) >= _LENGTH:
                length = int.from_bytes(self._buffer[:_LENGTH], "big")
                if length > _MAX_FRAME:
                    raise OSError(90, "message too long")
                if len(self._buffer) < _LENGTH + length:
                    break
                found.append(json.loads(self._buffer[_LENGTH : _LENGTH + length]))
                del self._buffer[: _LENGTH + length]

    def take(self, count: int) -> list[int]:
        """The next descriptors, which are the caller's from now on."""
        taken, self.descriptors = self.descriptors[:count], self.descriptors[count:]
        return taken

    def close(self) -> None:
        import os

        for each in self.take(len(self.descriptors)):
            os.close(each)
        self._connection.close()
