"""HTTP/1.1 on a byte stream, as much as the Engine API needs: bodies by length, in chunks or to the end; upgrades."""

from __future__ import annotations

import select

from gantry.client import jsontext
from gantry.client.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from gantry.client.transport import Transport

_HEAD_LIMIT = 1 << 18
_BLOCK = 1 << 16


class Connection:
    """One connection; a request's response must be read to its end before the next request."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._buffer = b""
        self.closed = False

    def send(self, head: bytes, body: bytes | Iterable[bytes] = b"") -> None:
        """Send a request. An iterable is sent in chunks; it stops early where the server answers before its end."""
        try:
            if isinstance(body, bytes):
                self.transport.send(head + body)
                return
            self.transport.send(head)
            for block in body:
                if block and not self._send_while_listening(b"%x\r\n%b\r\n" % (len(block), block)):
                    return
            self._send_while_listening(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # the server stopped reading; its answer, if any, says why

    def _send_while_listening(self, data: bytes) -> bool:
        """Send all of `data` and take in what arrives meanwhile; False where an error was answered."""
        rest = memoryview(data)
        poll = select.poll()
        poll.register(self.transport, select.POLLIN | select.POLLOUT)
        while rest:
            for _, events in poll.poll():
                if events & ~select.POLLOUT:
                    block = self.transport.receive(_BLOCK)
                    self._buffer += block
                    if not block or self._buffer[9:10] in (b"4", b"5"):
                        return False
                if events & select.POLLOUT:
                    try:
                        rest = rest[self.transport.send_some(rest) :]
                    except BlockingIOError:
                        continue
        return True

    def _fill(self) -> bool:
        try:
            block = self.transport.receive(_BLOCK)
        except ConnectionResetError:
            return False
        self._buffer += block
        return bool(block)

    def response(self, *, bodiless: bool = False) -> Response:
        """Read a response's head (1xx other than 101 are passed over); raises ProtocolError."""
        while True:
            while b"\r\n\r\n" not in self._buffer:
                if len(self._buffer) > _HEAD_LIMIT:
                    raise ProtocolError("malformed HTTP response: its head is too long")
                if not self._fill():
                    if not self._buffer:
                        raise ProtocolError(
                            "error during connect: the connection was closed before an answer came: EOF"
                        )
                    raise ProtocolError("malformed HTTP response: unexpected EOF")
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            version, _, rest = lines[0].partition(" ")
            code, _, reason = rest.partition(" ")
            if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdecimal():
                raise ProtocolError(f'malformed HTTP response "{lines[0][:80]}"')
            headers = {}
            for line in lines[1:]:
                name, _, text = line.partition(":")
                headers[name.strip().lower()] = text.strip()
            if code[0] != "1" or code == "101":
                return Response(self, int(code), reason, headers, bodiless=bodiless or code in ("204", "304"))

    def read_line(self) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _HEAD_LIMIT or not self._fill():
                raise ProtocolError("unexpected EOF")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def read_some(self, limit: int) -> bytes:
        """At most `limit` bytes, b"" at the end of the stream."""
        if not self._buffer and not self._fill():
            return b""
        block, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return block

    def at_hand(self) -> bool:
        """Whether bytes were received that nobody has read yet."""
        return bool(self._buffer) or self.transport.pending() > 0

    def stale(self) -> bool:
        """Whether an idle connection was closed by the server (or sent what nobody asked for); it is closed then."""
        poll = select.poll()
        poll.register(self.transport, select.POLLIN)
        if not self._buffer and not poll.poll(0):
            return False
        self.close()
        return True

    def take_buffer(self) -> bytes:
        data, self._buffer = self._buffer, b""
        return data

    def close(self) -> None:
        """Idempotent."""
        self.closed = True
        self.transport.close()


class Response:
    """A response; its body is read once, by one of `read`, `blocks`, `json` and `messages`."""

    def __init__(
        self, connection: Connection, status: int, reason: str, headers: dict[str, str], *, bodiless: bool
    ) -> None:
        self.connection = connection
        self.status = status
        self.reason = reason
        self.headers = headers
        self.complete = False
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "")
        self._length = int(length) if length.isdecimal() and not self._chunked else -1
        if bodiless:
            self._chunked, self._length = False, 0
        self.keep_alive = headers.get("connection", "").lower() != "close" and (self._chunked or self._length >= 0)
        if self._length == 0:
            self.complete = True

    def blocks(self) -> Iterator[bytes]:
        """The body as it arrives."""
        if self.complete:
            return
        if self._chunked:
            yield from self._chunks()
        else:
            left = self._length
            while left:
                block = self.connection.read_some(_BLOCK if left < 0 else min(left, _BLOCK))
                if not block:
                    if left > 0:
                        raise ProtocolError("unexpected EOF")
                    break
                left = left - len(block) if left > 0 else left
                yield block
        self.complete = True

    def _chunks(self) -> Iterator[bytes]:
        while True:
            text = self.connection.read_line().partition(b";")[0].strip()
            try:
                left = int(text, 16)
            except ValueError:
                raise ProtocolError(f"malformed HTTP chunk length {text[:20]!r}") from None
            if left == 0:
                while self.connection.read_line():
                    pass  # trailers carry nothing of ours
                return
            while left:
                block = self.connection.read_some(min(left, _BLOCK))
                if not block:
                    raise ProtocolError("unexpected EOF")
                left -= len(block)
                yield block
            self.connection.read_line()

    def read(self, limit: int = 1 << 30) -> bytes:
        """The whole body; raises ProtocolError beyond `limit` bytes."""
        blocks = []
        size = 0
        for block in self.blocks():
            size += len(block)
            if size > limit:
                raise ProtocolError("the daemon's answer is too long")
            blocks.append(block)
        return b"".join(blocks)

    def json(self) -> Any:
        data = self.read()
        try:
            return jsontext.decode(data)
        except ValueError as error:
            raise ProtocolError(f"invalid JSON in the daemon's answer: {error}") from error

    def messages(self) -> Iterator[Any]:
        """JSON values of a stream, each as soon as it is complete (also from JSON text sequences, RFC 7464)."""
        data = b""
        for block in self.blocks():
            data += block
            if b"\n" not in block and b"\r" not in block and not block.endswith(b"}"):
                continue
            text = data.decode("utf-8", "surrogateescape").replace("\x1e", "")
            at = 0
            while text[at:].strip():
                try:
                    message, at = jsontext.decode_from(text, at)
                except ValueError:
                    break
                yield message
            data = text[at:].encode("utf-8", "surrogateescape")
        if data.strip():
            raise ProtocolError("unexpected EOF")

    def close(self) -> None:
        """Give up the rest of the body, and the connection with it."""
        if not self.complete:
            self.connection.close()
