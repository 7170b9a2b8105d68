"""Patterns of repositories, tags and accounts: `*` within one part of a path, `**` across parts, `?` one character."""

import re
from collections.abc import Iterable


class Patterns:
    """Matches when one of its patterns does."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._expression = re.compile("|".join(_translate(pattern) for pattern in patterns) or r"(?!)")

    def __contains__(self, text: str) -> bool:
        return self._expression.fullmatch(text) is not None


def _translate(pattern: str) -> str:
    out = []
    for part in re.findall(r"\*+|\?|[^*?]+", pattern):
        if part[0] == "*":
            out.append("[^/]*" if len(part) == 1 else ".*")
        else:
            out.append("[^/]" if part == "?" else re.escape(part))
    return "".join(out)
