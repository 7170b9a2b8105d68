"""The log format that conmon writes: `TIME stdout|stderr P|F DATA`, one entry to a line.

F ends a line of the process's output, P is a part of one: what the process wrote is the data of all entries,
with a newline after each F.
"""

import datetime as dt
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from gantry.ports import LogEntry

LINE_LIMIT = 16 << 10  # a longer line is passed on in parts, as Docker does
_BLOCK = 64 << 10
_LOOK_BACK = 1 << 20  # how far the first part of a line is looked for
_STREAMS = {b"stdout": 1, b"stderr": 2}


class Parser:
    """Turns the file's lines into entries: parts are joined to whole lines, up to LINE_LIMIT."""

    def __init__(self) -> None:
        self._parts: dict[int, list[bytes]] = {1: [], 2: []}
        self._sizes = {1: 0, 2: 0}
        self._times = {1: 0, 2: 0}
        self._second = self._zone = b""
        self._second_value = 0

    @property
    def pending(self) -> bool:
        """Whether parts of an unfinished line are held."""
        return any(self._parts.values())

    def feed(self, lines: Iterable[bytes]) -> list[LogEntry]:
        """Entries of complete file lines (without their newline); what is no entry is left out."""
        # Some millions of lines come through here when a large log is read: each operation in the loop counts.
        entries: list[LogEntry] = []
        all_parts = self._parts
        for line in lines:
            try:
                moment, name, kind, data = line.split(b" ", 3)
                stream = _STREAMS[name]
            except (ValueError, KeyError):
                continue
            parts = all_parts[stream]
            if kind != b"F":
                parts.append(data)
                self._sizes[stream] += len(data)
                self._times[stream] = self._time(moment)
                if self._sizes[stream] >= LINE_LIMIT:
                    entries.append(self._flush(stream))
            elif parts:
                parts += (data, b"\n")
                entries.append(LogEntry(stream, self._time(moment), b"".join(parts)))
                parts.clear()
                self._sizes[stream] = 0
            else:
                entries.append(LogEntry(stream, self._time(moment), data + b"\n"))
        return entries

    def end(self) -> Iterator[LogEntry]:
        """What is left when the process has ended without a newline, in order of time."""
        for stream in sorted((1, 2), key=self._times.__getitem__):
            if self._parts[stream]:
                yield self._flush(stream)

    def _flush(self, stream: int) -> LogEntry:
        data = b"".join(self._parts[stream])
        self._parts[stream].clear()
        self._sizes[stream] = 0
        return LogEntry(stream, self._times[stream], data)

    def _time(self, text: bytes) -> int:
        """Nanoseconds since the epoch of `2026-11-24T02:26:38.123456789+00:00`; 0 for anything else."""
        second, zone = text[:19], text[29:]
        if second != self._second or zone != self._zone:
            try:
                moment = dt.datetime.fromisoformat((second + zone).decode("ascii"))
            except ValueError:
                return 0
            self._second, self._zone, self._second_value = second, zone, int(moment.timestamp()) * 1_000_000_000
        fraction = text[20:29]
        return self._second_value + (int(fraction) if fraction.isdigit() else 0)


def tail_position(file: BinaryIO, lines: int) -> tuple[int, int, int]:
    """Where to read for the last `lines` lines of output, how many entries to leave out there first, and how many
    lines that makes.

    Reads backwards, only as far as needed (blocking). An unfinished last line of a stream counts as one.
    """
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end, 0, 0
    start = end
    counted = passed = skip = 0
    wanted: dict[int, bool] = {}  # stream -> whether the line that its parts belong to is wanted
    sizes = {1: 0, 2: 0}
    for offset, line in _backwards(file, end):
        fields = line.split(b" ", 3)
        if len(fields) < 4 or (stream := _STREAMS.get(fields[1])) is None:
            continue
        if fields[2] == b"F" or stream not in wanted:
            wanted[stream] = counted < lines
            sizes[stream] = 0
            counted += wanted[stream]
            passed += not wanted[stream]
        else:
            sizes[stream] += len(fields[3])
            if sizes[stream] >= LINE_LIMIT:
                wanted[stream] = False
        if wanted[stream]:
            start, skip = offset, passed
        elif counted == lines and not any(wanted.values()):
            break
        if counted == lines and start - offset > _LOOK_BACK:
            break
    return start, skip, counted


def _backwards(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Offset and text of each complete line, from the last to the first."""
    rest = b""
    position = end
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size) + rest
        lines = block.split(b"\n")
        rest = lines[0]
        offset = position + len(block)
        for line in reversed(lines[1:]):
            offset -= len(line)
            if line:
                yield offset, line
            offset -= 1
    if rest:
        yield 0, rest
