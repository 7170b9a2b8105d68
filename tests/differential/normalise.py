"""What differs from run to run, replaced by what it is: IDs, times, addresses, sizes of a terminal's columns."""

import re
from typing import Any

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d)?(?: [A-Z]{3,4})?"), "TIME"),
    (re.compile(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d (?:\d\d:\d\d| \d{4})\b"), "DATE"),
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"\b(?:10|172|192)(?:\.\d{1,3}){3}(?=\b|/)"), "ADDRESS"),
    (re.compile(r"\b(?:Less than a second|About a minute|\d+ (?:second|minute|hour)s?)\b"), "DURATION"),
    (re.compile(r"\bv1\.\d\d/"), "VERSION/"),
    (re.compile(r"\bpid [0-9]+\b"), "pid NUMBER"),
    (re.compile(r"\b0x[0-9a-f]{4,}\b"), "HEX"),
)
_ID = re.compile(r"\b(?:[0-9a-f]{64}|(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{12})\b")
_GAPS = re.compile(r"[ \t]{2,}")
_RULED = re.compile(r"-{4,}")


class Normaliser:
    """One for each answer: the same ID gets the same number wherever it is seen in it."""

    def __init__(self, prefix: str, replaced: dict[str, str]) -> None:
        self._prefix = prefix + "-"
        self._replaced = sorted(replaced.items(), key=lambda pair: -len(pair[0]))
        self._ids: list[str] = []

    def text(self, text: str) -> str:
        """One text with all that is accidental replaced."""
        for found, name in self._replaced:
            text = text.replace(found, name)
        text = text.replace(self._prefix, "@")
        for pattern, name in _RULES:
            text = pattern.sub(name, text)
        text = _ID.sub(self._id, text)
        return _RULED.sub("----", _GAPS.sub("  ", text))

    def value(self, value: Any) -> Any:
        """A JSON value with its texts normalised, keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(each) for key, each in value.items()}
        return value

    def _id(self, found: re.Match[str]) -> str:
        short = found[0][:12]
        if short not in self._ids:
            self._ids.append(short)
        return f"ID{self._ids.index(short) + 1}"
