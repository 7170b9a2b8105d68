"""One client's connection: aiohttp's, and what its parser must not swallow before a takeover."""

import re

from aiohttp import web

# Requests whose connection becomes a raw stream. A client may send the stream's first bytes right behind its
# request, with or without asking for an upgrade; they must not be parsed as the next request.
_STREAMS = re.compile(
    rb"POST [^ ?]*(?:/containers/[^/ ?]+/attach|/exec/[^/ ?]+/start|/session|/grpc)(?:\?[^ ]*)? HTTP/1\.[01]\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,10})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_HEAD_LIMIT = 1 << 20
_HELD_LIMIT = 256 << 10


class Connection(web.RequestHandler):
    """Cuts the byte stream at the end of a request that may become a raw stream; holds the rest back."""

    __slots__ = ("_eof", "_head", "_held", "_holding", "_missing")

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._head = b""  # an unfinished request head that may announce a stream
        self._missing = 0  # bytes of the announced body that are still to come
        self._holding = False
        self._held = b""
        self._eof = False

    def data_received(self, data: bytes) -> None:
        if self._holding:
            self._hold(data)
        elif self._head or (self._idle() and data[:5] == b"POST "[: len(data)]):
            self._consider(self._head + data)
        else:
            super().data_received(data)

    def _idle(self) -> bool:
        """Whether the next bytes begin a request, as far as one can tell before the first of them is parsed."""
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    def _consider(self, data: bytes) -> None:
        """A request begins: is it one that may become a stream?"""
        line_end = data.find(b"\r\n")
        end = data.find(_HEAD_END)
        if not data.startswith(b"POST "[: len(data)]) or (line_end >= 0 and not _STREAMS.match(data)):
            end = -1
        elif end < 0 and len(data) < _HEAD_LIMIT:
            self._head = data
            return
        self._head = b""
        head = data[: end + len(_HEAD_END)] if end >= 0 else b""
        if not head or _CHUNKED.search(head):
            super().data_received(data)  # an ordinary request, or one whose end is only found by parsing
            return
        length = _LENGTH.search(head)
        border = len(head) + (int(length[1]) if length else 0)
        self._holding = True
        self._missing = max(0, border - len(data))
        self._held = data[border:]
        super().data_received(data[:border])

    def _hold(self, data: bytes) -> None:
        body, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(body)
        if body:
            super().data_received(body)
        self._held += rest
        if len(self._held) > _HELD_LIMIT and self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has ended its direction still gets its answer where that is a stream."""
        self._eof = True
        return self._holding or self._upgraded

    def release_held(self) -> tuple[bytes, bool]:
        """What came behind the request, and whether the client has ended its direction."""
        held, self._held, self._holding = self._held, b"", False
        if len(held) > _HELD_LIMIT and self.transport is not None:
            self.transport.resume_reading()
        return held, self._eof

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        result = await super().finish_response(request, resp, start_time)
        if self._holding:  # no takeover happened: an ordinary answer, and perhaps a further request behind it
            held, eof = self.release_held()
            if eof:
                self.close()
            elif held:
                self._consider(held)
        return result
