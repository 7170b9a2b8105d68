"""Joins standard input, output and error to an attached container or exec, in one poll loop without threads."""

from __future__ import annotations

import os
import select

from gantry.cli.errors import CommandError
from gantry.cli.terminal import EscapeProxy
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gantry.cli.signals import SignalPipe
    from gantry.client.http import Response
    from gantry.client.stream import Stream

_BLOCK = 1 << 15
_DRAIN = 10_000
"""Milliseconds that output may still come after the container's exit was reported."""


class PendingExit:
    """A POST /containers/ID/wait whose answer is still to come."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status: int | None = None

    def fileno(self) -> int:
        return self._response.connection.transport.fileno()

    def ready(self) -> bool:
        """Whether part of the answer is at hand already."""
        return self._response.connection.at_hand()

    def read(self) -> int:
        """Wait for the exit status; raises CommandError where waiting failed."""
        if self.status is None:
            answer = self._response.json()
            self._response.connection.close()
            problem = answer.get("Error") or {}
            if problem.get("Message"):
                raise CommandError(f"Error waiting for container: {problem['Message']}", 125)
            self.status = int(answer.get("StatusCode") or 0)
        return self.status

    def read_quietly(self) -> None:
        """Wait until the container is gone, whatever its exit."""
        try:
            self.read()
        except (CommandError, ClientError):
            return


class Pump:
    """Moves bytes until the stream ends, the detach keys were typed, or the container exited and its output is out.

    `stdin` says whether standard input belongs to the stream. `keys` are the detach keys to watch for (None: do not).
    `on_signal` is called for each signal that arrives.
    """

    def __init__(
        self,
        stream: Stream,
        signals: SignalPipe,
        on_signal: Callable[[int], None],
        *,
        stdin: bool,
        keys: bytes | None = None,
        pending_exit: PendingExit | None = None,
    ) -> None:
        self._stream = stream
        self._signals = signals
        self._on_signal = on_signal
        self._stdin = stdin
        self._input = b""
        self._proxy = EscapeProxy(keys) if keys else None
        self._exit = pending_exit
        self._ended = False

    @property
    def detached(self) -> bool:
        return self._proxy is not None and self._proxy.detached

    def run(self) -> None:
        """Returns when the stream has ended or was detached from."""
        deadline: int | None = None
        while not self._ended and not self.detached:
            if self._stream.ready():
                self._receive()
                continue
            if self._exit is not None and self._exit.status is None and self._exit.ready():
                self._exit.read()
            if self._exit is not None and self._exit.status is not None and deadline is None:
                deadline = _DRAIN
            events = self._poll(deadline)
            if not events and deadline is not None:
                return
            for descriptor, event in events:
                self._handle(descriptor, event)
        self._stream.close()

    def _poll(self, timeout: int | None) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        poll.register(self._stream, select.POLLIN | (select.POLLOUT if self._input else 0))
        if self._stdin and not self._input:
            poll.register(0, select.POLLIN)
        if self._exit is not None and self._exit.status is None:
            poll.register(self._exit, select.POLLIN)
        return poll.poll(timeout)

    def _handle(self, descriptor: int, event: int) -> None:
        if descriptor == self._signals.fileno():
            for number in self._signals.received():
                self._on_signal(number)
        elif descriptor == self._stream.fileno():
            if event & ~select.POLLOUT:
                self._receive()
            elif self._input:
                self._send()
        elif self._exit is not None and self._exit.status is None and descriptor == self._exit.fileno():
            self._exit.read()
        elif descriptor == 0 and self._stdin:
            self._read_input(event)

    def _receive(self) -> None:
        frames = self._stream.receive()
        if frames is None:
            self._ended = True
            return
        for number, data in frames:
            if number == 3:  # the daemon's own error
                raise CommandError(f"error from daemon in stream: {data.decode('utf-8', 'replace')}")
            write_all(2 if number == 2 else 1, data)

    def _read_input(self, event: int) -> None:
        try:
            data = b"" if event & select.POLLNVAL else os.read(0, _BLOCK)
        except OSError:  # a terminal that hung up
            data = b""
        if not data:
            self._stdin = False
            self._stream.close_write()
            return
        self._input = self._proxy.feed(data) if self._proxy else data
        self._send()

    def _send(self) -> None:
        try:
            sent = self._stream.send_some(memoryview(self._input))
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):  # the process closed its input; its output may go on
            self._stdin, self._input = False, b""
            return
        self._input = self._input[sent:]


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, also to a descriptor that is in non-blocking mode."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


def wait_with_signals(pending: PendingExit, signals: SignalPipe, on_signal: Callable[[int], None]) -> int:
    """The exit status; signals go on being handled until it comes."""
    while pending.status is None:
        if pending.ready():
            break
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        poll.register(pending, select.POLLIN)
        for descriptor, _ in poll.poll():
            if descriptor == signals.fileno():
                for number in signals.received():
                    on_signal(number)
            else:
                return pending.read()
    return pending.read()
