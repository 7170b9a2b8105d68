"""The user's terminal: raw mode, size, detach keys."""

from __future__ import annotations

import os

from gantry.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_NAMED = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}
DEFAULT_DETACH_KEYS = bytes((16, 17))
"""ctrl-p, ctrl-q."""


def is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def size(descriptor: int = 1) -> tuple[int, int]:
    """(rows, columns), (0, 0) where there is no terminal."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns


def require_terminal(*, attach_stdin: bool, tty: bool) -> None:
    """Raises CommandError where a terminal is wanted and standard input is none."""
    if attach_stdin and tty and not is_terminal(0):
        raise CommandError("the input device is not a TTY")


def detach_keys(text: str) -> bytes:
    """Bytes of "ctrl-p,ctrl-q" or "a,b"; raises ValueError."""
    result = bytearray()
    for key in text.split(","):
        if len(key) == 1 and key.isascii():
            result.append(ord(key))
            continue
        letter = key.lower().removeprefix("ctrl-")
        if key.lower().startswith("ctrl-") and len(letter) == 1:
            if "a" <= letter <= "z":
                result.append(ord(letter) - ord("a") + 1)
                continue
            if letter in _NAMED:
                result.append(_NAMED[letter])
                continue
        raise ValueError(f"Unknown character: '{key}'")
    return bytes(result)


class RawMode:
    """Within its block the terminal on standard input passes every key on unread, unechoed."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and is_terminal(0)

    def __enter__(self) -> Self:
        if self._enabled:
            import termios

            self._saved = termios.tcgetattr(0)
            mode = termios.tcgetattr(0)
            mode[0] &= ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            mode[1] &= ~termios.OPOST
            mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
            mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            mode[6][termios.VMIN] = 1
            mode[6][termios.VTIME] = 0
            termios.tcsetattr(0, termios.TCSANOW, mode)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            import termios

            termios.tcsetattr(0, termios.TCSANOW, self._saved)


class EscapeProxy:
    """Watches typed bytes for the detach keys; a beginning of them is held back until it is none."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """What to pass on; `detached` is set when the keys were typed, and nothing that comes later is passed on."""
        if self.detached:
            return b""
        result = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self.detached = True
                    return bytes(result)
                continue
            result += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
            else:
                result.append(byte)
        return bytes(result)
