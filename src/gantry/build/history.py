"""How the classic builder words a step in an image's history."""

import json
from collections.abc import Iterable, Sequence

from gantry.build.instructions import Healthcheck
from gantry.model.golang import go_duration

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
