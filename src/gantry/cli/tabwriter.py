"""Go's text/tabwriter with Docker's settings, on any text: cells end at tabs, a column's block ends where a line
has no cell in it."""

from __future__ import annotations

_LEAST, _PADDING = 10, 3


def align(text: str, *, least: int = _LEAST, padding: int = _PADDING) -> str:
    """`text` with its tab-terminated cells padded by blanks."""
    lines = [line.split("\t") for line in text.split("\n")]
    _columns(lines, 0, len(lines), 0, least, padding)
    return "\n".join("".join(cells) for cells in lines)


def _columns(lines: list[list[str]], start: int, end: int, column: int, least: int, padding: int) -> None:
    """Pad `column` in the blocks of lines start..end that have it, and what is right of it in each block."""
    at = start
    while at < end:
        if len(lines[at]) <= column + 1:
            at += 1
            continue
        last = at
        width = least
        while last < end and len(lines[last]) > column + 1:
            width = max(width, len(lines[last][column]) + padding)
            last += 1
        _columns(lines, at, last, column + 1, least, padding)
        for line in lines[at:last]:
            line[column] = line[column].ljust(width)
        at = last
