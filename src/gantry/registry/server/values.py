"""Values of the configuration: Go's durations and sizes with units."""

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ns|us|µs|μs|ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,3}))? ?([kmgtp]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def duration(text: str) -> float:
    """Seconds of `1h30m`, `15s`, `7d` (days are ours); raises ValueError."""
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise ValueError(f"invalid duration {text[:64]!r}: write 90s, 15m, 1h30m or 7d")
        total += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    if not text:
        raise ValueError("invalid duration '': write 90s, 15m, 1h30m or 7d")
    return total


def size(text: str) -> int:
    """Bytes of `500`, `10MB`, `1.5GiB`: powers of 1000, or of 1024 with an i; raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"invalid size {text[:64]!r}: write 500MB, 10GB or 2GiB")
    whole, fraction, unit, binary = match.groups()
    base: int = (1024 if binary else 1000) ** _POWERS[unit.lower()]
    return int(whole) * base + (int(fraction) * base // 10 ** len(fraction) if fraction else 0)
