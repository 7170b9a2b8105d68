"""DNS over TCP from a container (RFC 7766): one query after the other from each connection."""

import socket
from collections.abc import Callable

from gantry.network.dns.loop import READ, WRITE, Loop

_IDLE = 10.0  # seconds that a connection may be silent
_CHUNK = 1 << 14

Ask = Callable[[bytes, Callable[[bytes], None]], None]


class Connection:
    """One client. While its query is on its way nothing more is read; `ended` is called once."""

    def __init__(self, loop: Loop, connection: socket.socket, ask: Ask, ended: Callable[["Connection"], None]) -> None:
        self._loop = loop
        self._socket = connection
        self._ask = ask
        self._ended: Callable[[Connection], None] | None = ended
        self._in = bytearray()
        self._out = b""
        self._busy = False
        self._timer = loop.later(_IDLE, self.close)
        self._settle()

    def _settle(self) -> None:
        events = (0 if self._busy or self._out else READ) | (WRITE if self._out else 0)
        if events:
            self._loop.watch(self._socket.fileno(), self._ready, events)
        else:
            self._loop.forget(self._socket.fileno())

    def _ready(self) -> None:
        try:
            if self._out:
                self._out = self._out[self._socket.send(self._out) :]
            else:
                data = self._socket.recv(_CHUNK)
                if not data:
                    self.close()
                    return
                self._in += data
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._work()

    def _work(self) -> None:
        """Ask for each complete query that has come, until one has to wait."""
        while not self._busy and not self._out and len(self._in) >= 2:
            length = int.from_bytes(self._in[:2], "big")
            if len(self._in) < length + 2:
                break
            data = bytes(self._in[2 : length + 2])
            del self._in[: length + 2]
            self._busy = True
            self._again()
            self._ask(data, self._answer)
        if self._ended is not None:
            self._settle()

    def _again(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.later(_IDLE, self.close)

    def _answer(self, answer: bytes) -> None:
        if self._ended is None:
            return
        self._busy = False
        data = len(answer).to_bytes(2, "big") + answer
        try:
            self._out = data[self._socket.send(data) :]
        except BlockingIOError:
            self._out = data
        except OSError:
            self.close()
            return
        self._loop.later(0, self._work)

    def close(self) -> None:
        ended, self._ended = self._ended, None
        if ended is None:
            return
        self._timer.cancel()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        ended(self)
