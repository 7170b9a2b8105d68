"""Columns aligned as Go's tabwriter does for Docker: three spaces between, ten characters at least."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PADDING = 3


def render(rows: Sequence[Sequence[str]], *, least: int = 10) -> str:
    """Rows of the same length (the first one holds the headers) as lines; the last column is not padded."""
    if not rows:
        return ""
    widths = [max(least, *(len(row[place]) + _PADDING for row in rows)) for place in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("".join(cells) + row[-1] + "\n")
    return "".join(lines)


def ellipsis(text: str, limit: int) -> str:
    """At most `limit` characters, the last of them an ellipsis where text was cut."""
    if len(text) <= limit:
        return text
    return text[: limit - 1] + "…" if limit > 1 else text[:limit]
