"""TLS whose two directions end one by one.

asyncio closes a TLS connection as soon as the client ends its direction, and the answer to
`echo data | docker run -i …` is lost. OpenSSL can go on writing after a received close_notify; this
transport does.
"""

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

log = logging.getLogger(__name__)

_HANDSHAKE_SECONDS = 30.0
_CHUNK = 256 << 10


class TLSProtocol(asyncio.Protocol):
    """Stands between a plain transport and the protocol of the application."""

    def __init__(self, context: ssl.SSLContext, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._factory = factory
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._context = context
        self._plain: asyncio.Transport | None = None
        self._transport: TLSTransport | None = None  # set when the handshake is over
        self._patience: asyncio.TimerHandle | None = None
        self._waiting: deque[bytes] = deque()  # what OpenSSL could not take yet
        self._ended = False  # the client has ended its direction
        self._cut = False  # the plain connection has ended, with or without a close_notify
        self.reading = True

    # ------------------------------------------------------------------ from the plain transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = cast("asyncio.Transport", transport)
        self._patience = asyncio.get_running_loop().call_later(_HANDSHAKE_SECONDS, self._plain.abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._transport is not None or self._shake_hands():
            self.pump()

    def eof_received(self) -> bool:
        self._cut = True
        self.pump()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._transport is not None:
            self._transport.get_protocol().connection_lost(exc)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.get_protocol().resume_writing()

    def _shake_hands(self) -> bool:
        assert self._plain is not None  # a protocol receives data after connection_made
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self.send()
            return False
        except ssl.SSLError as error:
            log.info("TLS handshake error from %s: %s", self._plain.get_extra_info("peername"), error.reason or error)
            self.send()  # the alert that tells the client why
            self._plain.close()
            return False
        if self._patience is not None:
            self._patience.cancel()
        self.send()
        inner = self._factory()
        self._transport = TLSTransport(self, self._plain, inner, self._context, self._ssl)
        inner.connection_made(self._transport)
        return True

    # ------------------------------------------------------------------ for the transport of the application

    def pump(self) -> None:
        """Hand over what has been decrypted, as long as it is wanted."""
        transport, plain = self._transport, self._plain
        if transport is None or plain is None:
            if plain is not None and self._cut:
                plain.abort()
            return
        while self.reading and not self._ended and not plain.is_closing():
            try:
                data = self._ssl.read(_CHUNK)
            except ssl.SSLWantReadError:
                if self._cut:  # in the middle of the stream: nothing of it can be trusted
                    plain.abort()
                    return
                break
            except ssl.SSLError as error:
                log.info("TLS error from %s: %s", plain.get_extra_info("peername"), error.reason or error)
                plain.abort()
                return
            if data:
                cast("asyncio.Protocol", transport.get_protocol()).data_received(data)
                continue
            self._ended = True
            if not cast("asyncio.Protocol", transport.get_protocol()).eof_received():
                transport.close()
                return
        self.write_waiting()

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self.write_waiting()

    def write_waiting(self) -> None:
        """Encrypt what waits; during a key update OpenSSL may first want to read."""
        while self._waiting:
            try:
                written = self._ssl.write(self._waiting[0])
            except ssl.SSLWantReadError:
                break
            if written == len(self._waiting[0]):
                self._waiting.popleft()
            else:
                self._waiting[0] = self._waiting[0][written:]
        self.send()

    def send(self) -> None:
        if self._plain is not None and not self._plain.is_closing() and (data := self._outgoing.read()):
            self._plain.write(data)

    def say_goodbye(self) -> None:
        """Our close_notify. The client's own is not waited for."""
        with contextlib.suppress(ssl.SSLError):
            self._ssl.unwrap()
        self.send()


class TLSTransport(asyncio.Transport):
    """What the application's protocol sees; everything but the bytes is the plain transport's."""

    def __init__(
        self,
        outer: TLSProtocol,
        plain: asyncio.Transport,
        inner: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        encryption: ssl.SSLObject,
    ) -> None:
        super().__init__({"sslcontext": context, "ssl_object": encryption, "peercert": encryption.getpeercert()})
        self._outer = outer
        self._plain = plain
        self._inner = inner

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        own = super().get_extra_info(name)
        return self._plain.get_extra_info(name, default) if own is None else own

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner

    def is_closing(self) -> bool:
        return self._plain.is_closing()

    def is_reading(self) -> bool:
        return self._outer.reading

    def pause_reading(self) -> None:
        self._outer.reading = False
        self._plain.pause_reading()

    def resume_reading(self) -> None:
        if not self._outer.reading and not self._plain.is_closing():
            self._outer.reading = True
            self._plain.resume_reading()
            asyncio.get_running_loop().call_soon(self._outer.pump)

    def write(self, data: Any) -> None:
        if data and not self._plain.is_closing():
            self._outer.write(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("a TLS connection's own direction ends with the connection")

    def get_write_buffer_size(self) -> int:
        return self._plain.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._plain.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._plain.set_write_buffer_limits(high, low)

    def close(self) -> None:
        if not self._plain.is_closing():
            self._outer.say_goodbye()
            self._plain.close()

    def abort(self) -> None:
        self._plain.abort()
