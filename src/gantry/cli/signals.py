"""Signals as bytes in a pipe, for a poll loop. `_signal` is the C part of `signal`, without its slow enums."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Any, Self

_KEPT = (
    "SIGKILL",
    "SIGSTOP",
    "SIGCHLD",
    "SIGPIPE",
    "SIGURG",
    "SIGSEGV",
    "SIGBUS",
    "SIGFPE",
    "SIGILL",
    "SIGTRAP",
    "SIGSYS",
)
"""Not caught: they cannot be, or they are about this process alone."""

WINDOW_CHANGE: int = _signal.SIGWINCH


def names() -> dict[int, str]:
    """Number -> name without SIG, of every signal that a container can be sent."""
    found = {
        getattr(_signal, name): name[3:] for name in dir(_signal) if name.startswith("SIG") and name[3] not in "_R"
    }
    found |= {29: "IO", 6: "ABRT", 17: "CHLD"}  # these have a second name each
    low, high = _signal.SIGRTMIN, _signal.SIGRTMAX
    found |= {low: "RTMIN", high: "RTMAX"}
    middle = (low + high) // 2
    found |= {number: f"RTMIN+{number - low}" for number in range(low + 1, middle + 1)}
    found |= {number: f"RTMAX-{high - number}" for number in range(middle + 1, high)}
    return found


def forwardable() -> set[int]:
    """Signals that --sig-proxy passes on."""
    return set(names()) - {getattr(_signal, name) for name in _KEPT}


class SignalPipe:
    """Within its block, `numbers` arrive at `fileno` instead of acting on this process."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = set(numbers)
        self._saved: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old = _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._saved[number] = _signal.signal(number, _ignore)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._saved.items():
            _signal.signal(number, _signal.SIG_DFL if handler is None else handler)
        _signal.set_wakeup_fd(self._old)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def received(self) -> list[int]:
        """Numbers that arrived since the last call."""
        try:
            data = os.read(self._read, 512)
        except BlockingIOError:
            return []
        return [number for number in data if number in self._numbers]


def _ignore(number: int, frame: object) -> None:
    """The wakeup descriptor tells the loop."""
