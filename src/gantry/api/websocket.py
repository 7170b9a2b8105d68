"""Attach over a WebSocket (RFC 6455): the Engine API's `GET /containers/{id}/attach/ws`.

Output goes out raw, without frames of Docker's own: in binary messages, before API 1.28 in text messages.
"""

from aiohttp import WSMsgType, web

from gantry.api.routing import api_version

_MESSAGE_LIMIT = 4 << 20  # bytes of one message of the client
_BINARY_SINCE = (1, 28)


class WebSocketConnection:
    """Messages as a byte stream, for `engine.streams.Pump`; use `open` to make one."""

    def __init__(self, socket: web.WebSocketResponse, *, binary: bool) -> None:
        self._socket = socket
        self._binary = binary

    @classmethod
    async def open(cls, request: web.Request) -> "WebSocketConnection":
        """Answer the handshake; raises HTTPBadRequest where the request is none."""
        socket = web.WebSocketResponse(max_msg_size=_MESSAGE_LIMIT, compress=False)
        await socket.prepare(request)
        return cls(socket, binary=api_version(request) >= _BINARY_SINCE)

    @property
    def response(self) -> web.StreamResponse:
        return self._socket

    async def read(self) -> bytes:
        """The next message's bytes, b"" when the client has closed."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                data = str(message.data).encode()
            elif message.type is WSMsgType.BINARY:
                data = bytes(message.data)
            else:
                return b""
            if data:
                return data

    async def write(self, data: bytes) -> None:
        """Send; raises ConnectionResetError when the client is gone."""
        if self._binary:
            await self._socket.send_bytes(data)
        else:
            await self._socket.send_str(data.decode(errors="replace"))

    async def close(self) -> None:
        await self._socket.close()
