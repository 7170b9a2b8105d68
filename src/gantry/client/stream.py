"""A connection taken over by attach or exec: raw bytes to standard input, output raw or in frames."""

from __future__ import annotations

from gantry.client.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gantry.client.http import Connection

_BLOCK = 1 << 16


class Stream:
    """`framed` output carries Docker's 8-byte headers (stream number, length); without them all is stdout."""

    def __init__(self, connection: Connection, *, framed: bool) -> None:
        self._transport = connection.transport
        self._connection = connection
        self._data = connection.take_buffer()
        self._frames = Frames(framed=framed)
        self.send_some = self._transport.send_some
        self.fileno = self._transport.fileno
        self.close_write = self._transport.close_write
        self.close = connection.close

    def ready(self) -> bool:
        """Whether `receive` has something without waiting for the socket."""
        return bool(self._data) or self._transport.pending() > 0

    def receive(self) -> list[tuple[int, bytes]] | None:
        """Wait for bytes and return what they complete: (1 stdout | 2 stderr, data); None at the end."""
        data, self._data = self._data, b""
        if not data:
            try:
                data = self._transport.receive(_BLOCK)
            except ConnectionResetError:
                return None
        if not data:
            return None
        return list(self._frames.feed(data))


class Frames:
    """Splits a byte stream into frames; output of a frame is passed on before the frame is complete."""

    def __init__(self, *, framed: bool) -> None:
        self._framed = framed
        self._head = b""
        self._number = 1
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """What neighbouring frames of one stream carry comes as one piece: a log has a frame for each line.

        Raises ProtocolError for a stream number that does not exist.
        """
        if not self._framed:
            yield 1, data
            return
        pieces: list[bytes] = []
        owner = 0
        position, end = 0, len(data)
        while position < end:
            if not self._left:
                stop = position + 8 - len(self._head)
                self._head += data[position:stop]
                position = stop
                if len(self._head) == 8:
                    self._begin(self._head)
                    self._head = b""
                continue
            if self._number != owner:
                if pieces:
                    yield owner, b"".join(pieces)
                    pieces.clear()
                owner = self._number
                if owner > 3:
                    raise ProtocolError(f"Unrecognized stream: {owner}")
            stop = min(position + self._left, end)
            pieces.append(data[position:stop])
            self._left -= stop - position
            position = stop
        if pieces:
            yield owner, b"".join(pieces)

    def _begin(self, head: bytes) -> None:
        self._number = head[0] or 1
        self._left = int.from_bytes(head[4:], "big")
