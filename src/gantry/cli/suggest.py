"""The command that a mistyped word probably means."""

from __future__ import annotations

from gantry.cli import tree


def closest(word: str, group: str) -> str:
    """A listed command of `group` at most two edits from `word`, "" where there is none."""
    names = [name for name, _ in tree.listed(group)]
    if not group:
        names += list(tree.GROUPS)
    distance, name = min((_edits(word, name), name) for name in names)
    return name if distance <= 2 and distance < len(word) else ""


def _edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (left != right))
    return row[-1]
