"""How the classic builder words a step in an image's history."""

import json
from collections.abc import Iterable, Sequence

from gantry.build.instructions import Healthcheck

DEFAULT_SHELL = ("/bin/sh", "-c")


def nop(shell: Sequence[str], text: str) -> str:
    return f"{' '.join(shell)} #(nop)  {text}"


def run(args: Sequence[str], build_args: Sequence[str]) -> str:
    command = " ".join(args)
    return f"|{len(build_args)} {' '.join(build_args)} {command}" if build_args else command


def quoted(words: Iterable[str]) -> str:
    """Go's `%q` of a list of strings."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def plain(words: Iterable[str]) -> str:
    return "[" + " ".join(words) + "]"


def pairs(items: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{key}={value}" for key, value in items)


def healthcheck(check: Healthcheck) -> str:
    durations = " ".join(
        go_duration(value) for value in (check.interval, check.timeout, check.start_period, check.start_interval)
    )
    return f"HEALTHCHECK &{{{plain(check.test)} {durations} {check.retries}}}"


def go_duration(nanoseconds: int) -> str:
    """Go's `time.Duration` as text."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return f"{_trim(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_trim(rest, 1_000_000_000)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _trim(value: int, size: int) -> str:
    whole, part = divmod(value, size)
    digits = f"{part:0{len(str(size)) - 1}d}".rstrip("0") if size > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)
