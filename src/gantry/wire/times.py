"""Times in requests: seconds since the epoch with a fraction, RFC 3339, or a duration before now."""

import re

from gantry.errors import InvalidArgument
from gantry.model import timestamp

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h30m`; raises InvalidArgument."""
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f'time: invalid duration "{text}"')
    return sum(int(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))


def moment(text: str) -> int:
    """Nanoseconds since the epoch of what a client sent; raises InvalidArgument."""
    whole, _, fraction = text.partition(".")
    if whole.isdecimal() and (not fraction or fraction.isdecimal()):
        return int(whole) * 10**9 + int((fraction + "0" * 9)[:9])
    if _DURATION.fullmatch(text):
        return timestamp.now() - duration(text)
    try:
        return timestamp.parse_rfc3339(text)
    except ValueError as error:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from error
