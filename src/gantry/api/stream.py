"""Streams of the Engine API: taken-over connections, JSON progress, and the multiplex frame."""

import asyncio
import select
import struct
import threading
from collections import deque
from typing import Any, cast

import msgspec
from aiohttp import web

from gantry.aio import TaskOwner
from gantry.api.query import body
from gantry.errors import GantryError, Unavailable

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_FRAME = struct.Struct(">B3xI")
_HIGH, _LOW = 256 << 10, 64 << 10  # bytes that wait for `read` before the transport is paused, resumed
_FAREWELL = 0.5  # seconds between a client's hang-up and the end of its handler
_PENDING_LIMIT = 1 << 16  # progress messages that a client may leave unread


def frame(stream: int, data: bytes) -> bytes:
    """One frame of a multiplexed stream: 1 stdout, 2 stderr; type, three zeros, big-endian length, data."""
    return _FRAME.pack(stream, len(data)) + data


class TakenOver(web.StreamResponse):
    """Stands for an answer that was written past aiohttp: preparing and ending it do nothing."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002
        return None

    async def write_eof(self, data: Any = b"") -> None:  # noqa: ARG002
        return None

    @property
    def keep_alive(self) -> bool:
        return False


class Hijacked(asyncio.Protocol):
    """A connection in both directions, after the answer's head.

    When the client is gone for good, the handler's task is cancelled (after all that the client sent has
    been read); a client that only ends its own direction makes `read` return b"". What must outlive the
    client belongs to another task.
    """

    def __init__(self, transport: asyncio.Transport, former: asyncio.Protocol, task: "asyncio.Task[Any]") -> None:
        self._transport = transport
        self._former = former
        self._task = task
        self._received: deque[bytes] = deque()
        self._size = 0
        self._eof = False
        self._lost = False
        self._closing = False
        self._reading_paused = False
        self._hangup: select.epoll | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.response = TakenOver()

    # ------------------------------------------------------------------ for the handler

    async def read(self) -> bytes:
        """The next bytes, b"" when the client has ended its direction."""
        while not self._received:
            if self._eof:
                return b""
            self._wakeup = asyncio.get_running_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        data = self._received.popleft()
        self._size -= len(data)
        if self._reading_paused and self._size <= _LOW and not self._eof:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; waits while the client does not read. Raises ConnectionResetError when it is gone."""
        if self._lost or self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    async def write_eof(self) -> None:
        """End our direction; the client may still send. TLS has no half-close: `close` ends both there."""
        if not self._lost and self._transport.can_write_eof():
            self._transport.write_eof()

    async def close(self) -> None:
        """End both directions after what was written has been sent."""
        self._closing = True
        self._transport.close()

    # ------------------------------------------------------------------ for the transport

    def take(self, held: bytes, *, eof: bool, writing_paused: bool) -> None:
        """Bytes and conditions from before the takeover."""
        self.data_received(held)
        if eof:
            self.eof_received()
        if writing_paused:
            self._writable.clear()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp's parser interface: hands over what arrived after the request."""
        self.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp's parser interface: the connection is lost."""
        self._eof = True

    def data_received(self, data: bytes) -> None:
        if not data:
            return
        self._received.append(data)
        self._size += len(data)
        if self._size > _HIGH and not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        self._watch_hangup()
        return True

    def _watch_hangup(self) -> None:
        """After the client's end of input, only a hang-up says that it has closed its socket altogether."""
        connection = self._transport.get_extra_info("socket")
        if connection is None or self._hangup is not None:
            return
        self._hangup = select.epoll(1)
        self._hangup.register(connection.fileno(), 0)  # errors and hang-ups are always reported
        asyncio.get_running_loop().add_reader(self._hangup.fileno(), self._hung_up)

    def _hung_up(self) -> None:
        self._unwatch_hangup()
        if not self._transport.is_closing():
            asyncio.get_running_loop().call_later(_FAREWELL, self._abandon)

    def _abandon(self) -> None:
        if self._received and not self._lost:
            asyncio.get_running_loop().call_later(_FAREWELL, self._abandon)
        elif not self._lost:
            self._transport.abort()

    def _unwatch_hangup(self) -> None:
        if self._hangup is not None and not self._hangup.closed:
            asyncio.get_running_loop().remove_reader(self._hangup.fileno())
            self._hangup.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost = self._eof = True
        self._unwatch_hangup()
        self._writable.set()
        self._wake()
        self._former.connection_lost(cast("Exception | None", exc))
        if not self._closing:
            self._task.cancel()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)


# On a request: the answer of a connection that was taken over.
HIJACKED_KEY: web.RequestKey[web.StreamResponse] = web.RequestKey("hijacked", web.StreamResponse)


async def hijack(request: web.Request, content_type: str) -> Hijacked:
    """Take the connection over: 101 UPGRADED to a client that asked for an upgrade, else 200; then raw bytes.

    Bytes that the client sent right after its request are the first that `read` returns. The handler
    returns `hijacked.response`; the dispatcher does so for one that does not.
    """
    await body(request, 1 << 20)  # what is left of it belongs to the request, not to the stream
    protocol, transport, task = request.protocol, request.transport, asyncio.current_task()
    if transport is None or task is None:
        raise ConnectionResetError("the client is gone")
    hijacked = Hijacked(transport, protocol, task)
    upgrade = request.headers.get("Upgrade", "")
    if upgrade and upgrade.isascii() and upgrade.isprintable():
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n"
    writing_paused = protocol.writing_paused
    protocol.keep_alive(False)
    protocol.set_parser(cast("Any", hijacked))
    held, eof = getattr(protocol, "release_held", lambda: (b"", False))()
    hijacked.take(held, eof=eof, writing_paused=writing_paused)
    transport.set_protocol(hijacked)
    transport.write(head.encode() + b"\r\n")
    request[HIJACKED_KEY] = hijacked.response
    return hijacked


class JSONStream:
    """A stream of JSON messages, one per line (`jsonmessage`). Call it with a message from any thread.

    Nothing is sent before the first message, so that an error that comes first is a plain answer. An
    unsent progress bar gives way to its successor. The work ends when the client is gone.
    """

    def __init__(self, request: web.Request, *, status: int = 200) -> None:
        self._request = request
        self._response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._pending: list[dict[str, Any]] = []
        self._bars: dict[str, int] = {}
        self._writing = asyncio.Lock()
        self._owner = TaskOwner("progress")
        self._flusher: asyncio.Task[None] | None = None
        self.started = False
        request[ABANDONABLE_KEY] = True
        request[PROGRESS_KEY] = self

    @property
    def begun(self) -> bool:
        """Whether an answer 200 is under way, its head sent or about to be."""
        return self.started or bool(self._pending)

    async def start(self) -> None:
        """Send the head now, not with the first message. Errors become messages from here on."""
        if not self.started:
            self.started = True
            await self._response.prepare(self._request)

    def __call__(self, message: dict[str, Any]) -> None:
        if threading.get_ident() == self._thread:
            self._push(message)
        else:
            self._loop.call_soon_threadsafe(self._push, message)

    async def fail(self, error: GantryError, code: int = 0) -> None:
        """Report an error: raises it where nothing has been sent, else writes it as the last message."""
        if not self.begun:
            raise error
        detail: dict[str, Any] = {"code": code} if code else {}
        self._push({"errorDetail": {**detail, "message": error.message}, "error": error.message})

    async def finish(self) -> web.StreamResponse:
        """Send what is left and the end."""
        await self._flush()
        await self._owner.close()
        await self.start()
        await self._response.write_eof()
        return self._response

    def _push(self, message: dict[str, Any]) -> None:
        bar = message.get("id") if "progressDetail" in message else None
        if bar is not None and (place := self._bars.get(bar)) is not None:
            self._pending[place] = message
            return
        if bar is not None:
            self._bars[bar] = len(self._pending)
        elif "id" in message:
            self._bars.pop(message["id"], None)
        self._pending.append(message)
        if len(self._pending) > _PENDING_LIMIT and self._request.transport is not None:
            self._request.transport.abort()
            raise Unavailable("the client does not read its progress messages")
        if self._flusher is None or self._flusher.done():
            self._flusher = self._owner.spawn(self._flush())

    async def _flush(self) -> None:
        async with self._writing:
            while self._pending:
                batch, self._pending = self._pending, []
                self._bars.clear()
                await self.start()
                try:
                    await self._response.write(b"".join(msgspec.json.encode(message) + b"\r\n" for message in batch))
                except ConnectionError:
                    return  # the server cancels the handler


# On a request: its progress; and whether its work ends when the client is gone.
PROGRESS_KEY: web.RequestKey[JSONStream] = web.RequestKey("progress", JSONStream)
ABANDONABLE_KEY: web.RequestKey[bool] = web.RequestKey("abandonable", bool)
