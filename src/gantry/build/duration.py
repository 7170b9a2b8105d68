"""Go's durations ("1m30s") in nanoseconds."""

import re
from fractions import Fraction

from gantry.build.errors import DockerfileError

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")
_MAX = (1 << 63) - 1


def parse_duration(text: str, line: int) -> int:
    """Nanoseconds; raises DockerfileError with Go's words."""

    def bad(reason: str) -> DockerfileError:
        return DockerfileError(f"time: {reason}", line=line)

    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest or len(rest) > 64 or not rest.isprintable():
        raise bad(f'invalid duration "{text[:64]}"')
    total = Fraction(0)
    at = 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None or not match.group().isprintable():
            raise bad(f'invalid duration "{text}"')
        number, unit = match.groups()
        if not unit:
            raise bad(f'missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise bad(f'unknown unit "{unit}" in duration "{text}"')
        total += Fraction(number.rstrip(".") if number != "." else "0") * _UNITS[unit]
        at = match.end()
    if total > _MAX:
        raise bad(f'invalid duration "{text}"')
    return -int(total) if text.startswith("-") else int(total)
