"""Asking the servers behind us. Several are asked together where the first one is slow or fails.

The servers have an order, and it counts: behind a VPN the first knows names that the second denies. So the next one
is asked as well when the one before has not answered within a moment, has failed, or refuses. The first "here" is
believed at once, a "no such name" once those before it have spoken or had their time. A server that has been silent
or failing is asked last for a while. Every query has a socket, and so a port, and a number of its own (RFC 5452).
"""

import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gantry.network.dns import messages
from gantry.network.dns.loop import READ, WRITE, Loop, Timer

NEXT_AFTER = 0.1  # seconds until the next server is asked too
AGAIN_AFTER = (1.0, 2.0)  # seconds until everyone who was asked is asked again: packets get lost
GIVE_UP_AFTER = 4.5  # seconds; glibc and musl wait for five
DENIAL_WAITS = 0.5  # seconds that a denial waits for the servers before the one that denied
SHUNNED_FOR = 10.0  # seconds that a server stands behind the others after it has failed
_REMEMBERED = 4096
_SILENT_TIMES = 3  # that another one was faster before a server counts as failing


class Upstream(NamedTuple):
    """A server: `host` says that it is asked from the host's network namespace, not the container's."""

    address: str
    host: bool = False
    port: int = 53

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


Opener = Callable[[int, int, bool], socket.socket]  # family, type, whether in the host's namespace; raises OSError
Done = Callable[[bytes | None], None]


class Health:
    """Which servers have failed lately, by scope: another container may reach a server that this one does not."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, Upstream], float] = {}
        self._silent: dict[tuple[str, Upstream], int] = {}

    def order(self, scope: str, servers: Sequence[Upstream], now: float) -> list[Upstream]:
        if not self._failed:
            return list(servers)
        return sorted(servers, key=lambda each: now - self._failed.get((scope, each), -SHUNNED_FOR) < SHUNNED_FOR)

    def failed(self, scope: str, server: Upstream, now: float) -> None:
        """It refused the connection, or did not answer in all the time that a query has."""
        if len(self._failed) > _REMEMBERED:
            self._failed.clear()
        self._failed[scope, server] = now
        self._silent.pop((scope, server), None)

    def silent(self, scope: str, server: Upstream, now: float) -> None:
        """Another server was faster, although it was asked later."""
        times = self._silent.get((scope, server), 0) + 1
        if times >= _SILENT_TIMES:
            self.failed(scope, server, now)
            return
        if len(self._silent) > _REMEMBERED:
            self._silent.clear()
        self._silent[scope, server] = times

    def answered(self, scope: str, server: Upstream) -> None:
        self._failed.pop((scope, server), None)
        self._silent.pop((scope, server), None)


class _Asked:
    """One server that was asked."""

    __slots__ = ("answered", "buffer", "connecting", "server", "socket")

    def __init__(self, server: Upstream, connection: socket.socket, *, connecting: bool) -> None:
        self.server = server
        self.socket = connection
        self.connecting = connecting
        self.buffer = b""
        self.answered = False


class Exchange:
    """One query on its way. `done` is called once: with the answer (and the client's number), or None."""

    def __init__(
        self,
        loop: Loop,
        health: Health,
        scope: str,
        servers: Sequence[Upstream],
        query: messages.Query,
        opener: Opener,
        done: Done,
        *,
        tcp: bool,
    ) -> None:
        self._loop = loop
        self._health = health
        self._scope = scope
        self._left = health.order(scope, servers, time.monotonic())
        self._query = query
        self._sent = os.urandom(2) + query.data[2:]
        self._opener = opener
        self._done: Done | None = done
        self._tcp = tcp
        self._asked: dict[int, _Asked] = {}
        self._refused: bytes | None = None
        self._denied: bytes | None = None
        self._began = time.monotonic()
        again = () if tcp else AGAIN_AFTER
        self._plan: list[tuple[float, Callable[[], None]]] = [(each, self._again) for each in again]
        self._plan.append((GIVE_UP_AFTER, self._give_up))
        self._timer: Timer | None = None

    def start(self) -> None:
        """Ask the first server."""
        self._next()
        self._arm()

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        self._done = None
        self._close()

    # --------------------------------------------------------------------------------------------- asking

    def _next(self) -> None:
        """Ask one more server; without any, the best of the bad answers is the answer once nobody is left."""
        while self._left:
            server = self._left.pop(0)
            try:
                self._ask(server)
            except OSError:
                self._health.failed(self._scope, server, time.monotonic())
                continue
            if self._left:
                self._at(time.monotonic() - self._began + NEXT_AFTER, self._next)
            return
        if not self._silent():
            self._finish(self._denied or self._refused)

    def _ask(self, server: Upstream) -> None:
        kind = socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM
        connection = self._opener(server.family, kind, server.host)
        try:
            connection.connect((server.address, server.port))
            if not self._tcp:
                connection.send(self._sent)
        except BlockingIOError:
            pass  # a TCP connection is on its way, or a full queue drops the query: it is asked again
        except OSError:
            connection.close()
            raise
        asked = self._asked[connection.fileno()] = _Asked(server, connection, connecting=self._tcp)
        self._loop.watch(connection.fileno(), lambda: self._ready(asked), WRITE if self._tcp else READ)

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        """Plan something for `seconds` after the beginning, instead of what was planned of this kind."""
        self._plan = [each for each in self._plan if each[1] != action]
        self._plan.append((seconds, action))
        self._plan.sort(key=lambda each: each[0])

    def _arm(self) -> None:
        """One timer for the next step of the plan: most queries are answered before it is due."""
        if self._done is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.later(self._began + self._plan[0][0] - time.monotonic(), self._step)

    def _step(self) -> None:
        _, action = self._plan.pop(0)
        action()
        self._arm()

    def _again(self) -> None:
        for each in self._silent():
            try:
                each.socket.send(self._sent)
            except OSError:
                continue  # its error is read, and counted, when the loop says that it is there

    # ------------------------------------------------------------------------------------------ answers

    def _ready(self, asked: _Asked) -> None:
        try:
            answer = self._read_stream(asked) if self._tcp else asked.socket.recv(messages.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            self._failed(asked)
            return
        if answer is None or not messages.answers(answer, self._sent, self._query.end):
            return
        code = messages.code_of(answer)
        if code in (messages.NOERROR, messages.NXDOMAIN):
            self._health.answered(self._scope, asked.server)
            first = next(iter(self._silent()), asked) is asked
            asked.answered = True
            if messages.is_positive(answer) or first:
                self._finish(answer)
            elif self._denied is None:
                self._denied = answer
                self._loop.forget(asked.socket.fileno())
                self._at(time.monotonic() - self._began + DENIAL_WAITS, self._believe)
                self._arm()
            return
        asked.answered = True
        self._drop(asked)
        if self._refused is None:
            self._refused = answer
        self._next()
        self._arm()

    def _read_stream(self, asked: _Asked) -> bytes | None:
        """The answer when it is complete (RFC 7766: two bytes for the length), None before."""
        if asked.connecting:
            if code := asked.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            asked.connecting = False
            asked.socket.send(struct.pack("!H", len(self._sent)) + self._sent)
            self._loop.watch(asked.socket.fileno(), lambda: self._ready(asked), READ)
            return None
        data = asked.socket.recv(messages.MAX_MESSAGE + 2)
        if not data:
            raise ConnectionResetError
        asked.buffer += data
        length = int.from_bytes(asked.buffer[:2], "big") + 2
        return asked.buffer[2:length] if len(asked.buffer) >= max(length, 2 + messages.HEADER) else None

    def _failed(self, asked: _Asked) -> None:
        self._health.failed(self._scope, asked.server, time.monotonic())
        asked.answered = True
        self._drop(asked)
        self._next()
        self._arm()

    def _silent(self) -> list[_Asked]:
        """Those that have not answered, in the order of the servers."""
        return [each for each in self._asked.values() if not each.answered]

    def _believe(self) -> None:
        self._finish(self._denied)

    def _give_up(self) -> None:
        now = time.monotonic()
        for each in self._silent():
            self._health.failed(self._scope, each.server, now)
        self._finish(self._denied or self._refused)

    def _finish(self, answer: bytes | None) -> None:
        done, self._done = self._done, None
        now = time.monotonic()
        for each in self._asked.values():
            if each.answered:
                break  # those behind it were asked later, and had less time
            self._health.silent(self._scope, each.server, now)
        self._close()
        if done is not None:
            done(None if answer is None else self._query.data[:2] + answer[2:])

    def _drop(self, asked: _Asked) -> None:
        descriptor = asked.socket.fileno()
        self._loop.forget(descriptor)
        self._asked.pop(descriptor, None)
        asked.socket.close()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for each in list(self._asked.values()):
            self._drop(each)
