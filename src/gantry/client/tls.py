"""TLS to a daemon, with a direction that ends by itself.

`ssl.SSLSocket.unwrap` sends our close_notify and then reads the peer's: what the peer still had to say is thrown
away with it. Between two memory buffers OpenSSL only sees what it is given, so our direction can end while the
other one goes on.
"""

from __future__ import annotations

import _socket
import contextlib
import ssl

_RECORD = 16 << 10
_BLOCK = 64 << 10


class TLSTransport:
    """Implements `transport.Transport` on a connected TCP socket; raises ssl.SSLError where the handshake fails."""

    def __init__(self, plain: _socket.socket, context: ssl.SSLContext, hostname: str) -> None:
        self._socket = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._decrypted = bytearray()
        self._ended = False
        self._unsent = memoryview(b"")  # a record of which the socket took only a part
        self._counted = 0  # the bytes of the caller's that are in it
        self.fileno = plain.fileno
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._take():
                    raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert that tells the daemon why
                raise
            else:
                break
        self._flush()
        self._decrypt()

    # ---------------------------------------------------------------------------------- sending

    def send(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._encrypt(rest) :]
            self._flush()

    def send_some(self, data: memoryview) -> int:
        """At most one record; its bytes count as sent when the socket has taken all of it."""
        if not self._unsent:
            self._counted = self._encrypt(data[:_RECORD])
            self._unsent = memoryview(self._outgoing.read())
        while self._unsent:  # raises BlockingIOError: the caller comes again with the same data
            self._unsent = self._unsent[self._socket.send(self._unsent, _socket.MSG_DONTWAIT) :]
        return self._counted

    def _encrypt(self, data: memoryview) -> int:
        while True:
            try:
                return self._ssl.write(data)
            except ssl.SSLWantReadError:  # a renegotiation of TLS 1.2 comes first
                self._flush()
                if not self._take():
                    raise ConnectionResetError("the connection was closed") from None

    def _flush(self) -> None:
        if self._unsent:
            rest, self._unsent = self._unsent, memoryview(b"")
            self._socket.sendall(rest)
        if data := self._outgoing.read():
            self._socket.sendall(data)

    def close_write(self) -> None:
        """Our close_notify, which Go's servers and ours take as the end of input; what comes in can be read on."""
        if not self._ended:
            with contextlib.suppress(ssl.SSLError):  # the peer's close_notify comes with the stream's own end
                self._ssl.unwrap()
        with contextlib.suppress(OSError):  # the other side is gone already; reading shows its end
            self._flush()

    # -------------------------------------------------------------------------------- receiving

    def receive(self, size: int) -> bytes:
        while not self._decrypted and not self._ended:
            if not self._take():
                self._ended = True
            self._decrypt()
        data = bytes(self._decrypted[:size])
        del self._decrypted[:size]
        return data

    def pending(self) -> int:
        """All that was received is decrypted at once, so that a poll of the socket tells of the rest."""
        return len(self._decrypted)

    def _take(self) -> bool:
        data = self._socket.recv(_BLOCK)
        self._incoming.write(data)
        return bool(data)

    def _decrypt(self) -> None:
        while not self._ended:
            try:
                data = self._ssl.read(_BLOCK)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:  # the peer's close_notify, after ours
                data = b""
            self._decrypted += data
            self._ended = not data
        if data := self._outgoing.read():  # the answer to a key update
            self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()
