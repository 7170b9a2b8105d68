"""`.dockerignore`: which paths of a build context stay behind (Go's path matching with `**` and `!`).

Order decides: the last pattern that matches a path, or one of its parents, wins.
"""

import posixpath
import re
from collections.abc import Iterable

from gantry.errors import InvalidArgument


def parse_ignore(text: str) -> list[str]:
    """The patterns of a `.dockerignore` file, cleaned; comments and empty lines are dropped."""
    patterns = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        if negated or pattern:
            patterns.append("!" + pattern if negated else pattern)
    return patterns


class IgnoreMatcher:
    """Compiled patterns. Raises InvalidArgument for a malformed one.

    Paths are relative, slash-separated, without `./` in front.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [_Pattern(text) for text in map(str.strip, patterns) if text]
        self.has_exceptions = any(pattern.negated for pattern in self._patterns)

    def excludes(self, path: str) -> bool:
        """Whether `path` stays behind: a pattern matches it or a directory above it."""
        return self.match(path)[0]

    def match(self, path: str, above: tuple[bool, ...] | None = None) -> tuple[bool, tuple[bool, ...]]:
        """Like `excludes`, for a walk from the top: `above` is the second result for the parent directory.

        A pattern that was passed over for the parent, because the parent was excluded already, is not
        looked at again through it: the official client's walk answers the same.
        """
        excluded = False
        results: list[bool] = []
        for index, pattern in enumerate(self._patterns):
            matched = above is not None and above[index]
            if not matched and pattern.negated == excluded:
                matched = pattern.match(path) or (above is None and any(map(pattern.match, _parents(path))))
            results.append(matched)
            if matched:
                excluded = not pattern.negated
        return excluded, tuple(results)

    def may_hold_exceptions(self, directory: str) -> bool:
        """Whether an excluded directory must be walked all the same, because a `!` pattern names a path in it."""
        prefix = directory + "/"
        return any(pattern.negated and (pattern.text + "/").startswith(prefix) for pattern in self._patterns)


class _Pattern:
    def __init__(self, text: str) -> None:
        original = text
        text = _clean(text)
        self.negated = text.startswith("!")
        if self.negated:
            text = text[1:]
            if not text:
                raise InvalidArgument('illegal exclusion pattern: "!"')
        self.text = text
        try:
            self._regex = re.compile(_translate(text))
        except (re.error, _BadPatternError):
            raise InvalidArgument(f"syntax error in pattern: {original}") from None

    def match(self, path: str) -> bool:
        return self._regex.fullmatch(path) is not None


class _BadPatternError(Exception):
    pass


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned


def _parents(path: str) -> Iterable[str]:
    position = path.find("/")
    while position > 0:
        yield path[:position]
        position = path.find("/", position + 1)


def _translate(pattern: str) -> str:
    """A regular expression for a whole path."""
    if pattern.startswith("**") and not set(pattern[2:]) & set("*?[\\"):
        tail = pattern[2:]  # a plain ending: "**/x" matches "x" too, "**x" any path that ends so
        return f"(?s:.*{re.escape(tail)}|{re.escape(tail.removeprefix('/'))})"
    parts = []
    position, end = 0, len(pattern)
    while position < end:
        char = pattern[position]
        position += 1
        if pattern.startswith("*", position) and char == "*":
            position += 1
            if pattern.startswith("/", position):
                position += 1
            parts.append("(?s:.*)" if position == end else "(?s:.*/)?")
        elif char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "\\":
            if position == end:
                raise _BadPatternError
            parts.append(re.escape(pattern[position]))
            position += 1
        elif char == "[":
            text, position = _character_class(pattern, position)
            parts.append(text)
        else:
            parts.append(re.escape(char))
    return "".join(parts)


def _character_class(pattern: str, position: int) -> tuple[str, int]:
    """Translate `[^a-z\\]]` from behind its bracket; returns the expression and the position after it."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while not ranges or not pattern.startswith("]", position):
        low, position = _class_char(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_char(pattern, position + 1)
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    members = "".join(ranges)
    if not members:
        return ("(?s:.)" if negated else "(?!)"), position + 1
    return f"[{'^' if negated else ''}{members}]", position + 1


def _class_char(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    elif char in ("-", "]"):
        raise _BadPatternError
    if not char:
        raise _BadPatternError
    return char, position + 1
