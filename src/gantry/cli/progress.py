"""Shows a stream of progress messages (pull, push, load, build), as Docker's client does.

On a terminal each id has a line that is updated in place; elsewhere a line is printed per change of status.
"""

from __future__ import annotations

from gantry.cli.units import format_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TextIO

_BAR = 50
_WIDE = 110
"""Columns from which on there is room for a bar."""


def show(
    messages: Iterable[Mapping[str, Any]],
    out: TextIO,
    *,
    terminal: bool,
    columns: int = 0,
    on_aux: Callable[[Any], None] | None = None,
) -> None:
    """Print messages as they come; `aux` values go to `on_aux`. Errors are raised by the messages' source."""
    places: dict[str, int] = {}
    for message in messages:
        if "aux" in message:
            if on_aux is not None:
                on_aux(message["aux"])
            continue
        name = str(message.get("id") or "")
        up = 0
        if name and message.get("progressDetail") is not None:
            if name not in places:
                places[name] = len(places)
                if terminal:
                    out.write("\n")
            up = len(places) - places[name]
            if terminal and up:
                out.write(f"\x1b[{up}A")
        else:
            places.clear()
        out.write(_line(message, name, terminal=terminal, columns=columns))
        if terminal and up:
            out.write(f"\x1b[{up}B")
        out.flush()


def _line(message: Mapping[str, Any], name: str, *, terminal: bool, columns: int) -> str:
    progress = message.get("progressDetail")
    stream = str(message.get("stream") or "")
    shown = bar(progress, columns) if progress else ""
    start, end = "", "\n"
    if terminal and not stream and progress is not None:
        start, end = "\x1b[2K\r", "\r"
    elif shown:
        return ""
    if name:
        start += f"{name}: "
    if message.get("from"):
        start += f"(from {message['from']}) "
    if stream:
        return start + stream
    status = str(message.get("status") or "")
    return f"{start}{status} {shown}{end}" if progress is not None and terminal else f"{start}{status}\n"


def bar(progress: Mapping[str, Any], columns: int) -> str:
    """`[====>    ]  12.3MB/45MB`: "" where nothing is known."""
    current, total = int(progress.get("current") or 0), int(progress.get("total") or 0)
    unit = str(progress.get("units") or "")
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{current} {unit}" if unit else f"{human_size(current):>8}"
    filled = min(_BAR, int(current / total * 100) // 2)
    box = f"[{'=' * filled}>{' ' * (_BAR - filled)}] " if columns > _WIDE else ""
    if progress.get("hidecounts"):
        numbers = ""
    elif unit:
        numbers = f"{current}/{total} {unit}" if current <= total else f"{current} {unit}"
    elif current > total:
        numbers = f"{human_size(current):>8}"
    else:
        numbers = f"{human_size(current):>8}/{human_size(total)}"
    return box + numbers + _remaining(progress, current, total, filled)


def _remaining(progress: Mapping[str, Any], current: int, total: int, filled: int) -> str:
    start = int(progress.get("start") or 0)
    if current <= 0 or start <= 0 or filled >= _BAR:
        return ""
    import time

    left = (total - current) * (time.time() - start) / current
    return " " + format_duration(round(left) * 10**9)
