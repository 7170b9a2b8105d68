"""Times: nanoseconds since the epoch inside, RFC 3339 with nanoseconds outside, as Go writes them."""

import datetime as dt
import time

ZERO = "0001-01-01T00:00:00Z"


def now() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def rfc3339(nanoseconds: int) -> str:
    """Go's RFC3339Nano in UTC: trailing zeros of the fraction dropped; 0 is Go's zero time."""
    if not nanoseconds:
        return ZERO
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{whole}.{digits}Z" if digits else f"{whole}Z"


def rfc3339_fixed(nanoseconds: int) -> str:
    """RFC 3339 with nine digits of the fraction always, as log lines carry it."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time with any fraction; raises ValueError."""
    if text == ZERO:
        return 0
    head, dot, tail = text.partition(".")
    fraction = ""
    if dot:
        end = next((i for i, c in enumerate(tail) if not c.isdecimal()), len(tail))
        fraction, zone = tail[:end], tail[end:]
        head += zone
    moment = dt.datetime.fromisoformat(head.replace("Z", "+00:00").replace("z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return int(moment.timestamp()) * 1_000_000_000 + int((fraction + "0" * 9)[:9])
