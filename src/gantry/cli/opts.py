"""Option types that several commands share: filters, durations, sizes, environment and label files."""

from __future__ import annotations

import os

from gantry.cli.errors import CommandError, StartError
from gantry.cli.flags import Flag, boolean, quote, string, strings, value
from gantry.cli.units import format_duration, memory_swap, parse_duration, ram_in_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT_HELP = (
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template."
)


def format_flag() -> Flag:
    """--format of the commands that print tables."""
    return string("format", "", FORMAT_HELP)


def inspect_format_flag() -> Flag:
    """--format of the inspect commands."""
    return string(
        "format",
        "f",
        "Format output using a custom template:\n"
        "'json':             Print in JSON format\n"
        "'TEMPLATE':         Print output using the given Go template.",
    )


def filter_flag(help: str = "Filter output based on conditions provided") -> Flag:  # noqa: A002
    """--filter: "name=value" texts, for `filters`."""
    return value("filter", "f", help, _filter, metavar="filter", default=[], repeats=True)


def _filter(text: str) -> str:
    name, equals, rest = text.partition("=")
    if text and not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return f"{name.strip().lower()}={rest.strip()}" if text else ""


def filters(texts: Sequence[str]) -> dict[str, dict[str, bool]] | None:
    """The `filters` query parameter, None for none."""
    result: dict[str, dict[str, bool]] = {}
    for text in texts:
        if text:
            name, _, rest = text.partition("=")
            result.setdefault(name, {})[rest] = True
    return result or None


def duration(name: str, short: str = "", help: str = "", *, default: int = 0) -> Flag:  # noqa: A002
    """A Go duration, in nanoseconds."""
    shown = format_duration(default) if default else ""
    return value(name, short, help, parse_duration, metavar="duration", default=default, shown=shown)


def size(name: str, short: str = "", help: str = "", *, hidden: bool = False) -> Flag:  # noqa: A002
    """Bytes, written with binary suffixes (512m, 2g)."""
    return value(name, short, help, ram_in_bytes, metavar="bytes", default=0, hidden=hidden)


def swap_size(name: str, short: str = "", help: str = "") -> Flag:  # noqa: A002
    """As `size`, with -1 for unlimited."""
    return value(name, short, help, memory_swap, metavar="bytes", default=0)


def detach_keys() -> Flag:
    return string("detach-keys", "", "Override the key sequence for detaching a container")


def force(help: str) -> Flag:  # noqa: A002
    return boolean("force", "f", help)


def timestamp(name: str, text: str) -> str | None:
    """The query value of --since and --until: seconds of a duration back from now, a date, or Unix seconds.

    None where nothing is given; raises CommandError.
    """
    if not text:
        return None
    import time

    try:
        nanoseconds = time.time_ns() - parse_duration(text)
    except ValueError:
        pass
    else:
        return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
    whole, _, fraction = text.partition(".")
    if whole.isdecimal() and (fraction or "0").isdecimal():
        return text
    date = _date(text)
    if date is None:
        raise CommandError(f"invalid value for {quote(name)}: failed to parse value as time or duration: {quote(text)}")
    return date


def _date(text: str) -> str | None:
    """Unix seconds of `2006-01-02[T15[:04[:05[.999]]]][Z|+01:00]`; without a zone it is local time."""
    from datetime import datetime

    zone = "+00:00" if text.endswith("Z") else ""
    body, mark, rest = text.removesuffix("Z").partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    body += rest[len(digits) :]
    if len(body) == 10 and zone:
        body += "T00"
    try:
        moment = datetime.fromisoformat(body + zone)
    except ValueError:
        return None
    if mark and not digits:
        return None
    return f"{int(moment.timestamp())}.{digits[:9]:0<9}"


def env_flags() -> tuple[Flag, ...]:
    return (
        strings("env", "e", "Set environment variables", check=_env),
        strings("env-file", "", "Read in a file of environment variables"),
    )


def _env(text: str) -> str:
    if not text or text[0] == "=":
        raise ValueError(f"invalid environment variable: {text}")
    return text


def label(text: str) -> str:
    """A label of --label; raises ValueError."""
    if not text or text[0] == "=":
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def labels(texts: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE texts as a mapping; later ones win, a key alone has an empty value."""
    return {key: rest for key, _, rest in (text.partition("=") for text in texts)}


def read_key_values(files: Sequence[str], overrides: Sequence[str], environ: Mapping[str, str] | None) -> list[str]:
    """Lines of KEY=VALUE files, then `overrides`; a key alone takes its value from `environ`.

    Where it has none (or there is no `environ`, for labels) a file's line is left out. Raises StartError.
    """
    lines: list[str] = []
    for name in files:
        lines += _key_value_file(name, environ)
    for text in overrides:
        if environ is None or "=" in text:
            lines.append(text)
        elif text in environ:
            lines.append(f"{text}={environ[text]}")
        else:
            lines.append(text)  # the daemon removes the image's variable of that name
    return lines


def _key_value_file(name: str, environ: Mapping[str, str] | None) -> list[str]:
    try:
        with open(name, "rb") as file:
            data = file.read(1 << 24)
    except OSError as error:
        raise StartError(f"open {name}: {os.strerror(error.errno or 0).lower()}") from error
    lines = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            line = raw.decode().lstrip()
        except UnicodeDecodeError:
            raise StartError(f"invalid env file ({name}): invalid utf8 bytes at line {number}: {raw!r}") from None
        if not line or line[0] == "#":
            continue
        key, equals, rest = line.partition("=")
        key = key.lstrip()
        if not key:
            raise StartError(f"invalid env file ({name}): no variable name on line '{line}'")
        if any(char in key for char in " \t\n\v\f\r\x85\xa0"):
            raise StartError(f"invalid env file ({name}): variable '{key}' contains whitespaces")
        if equals:
            lines.append(f"{key}={rest}")
        elif environ is not None and key in environ:
            lines.append(f"{key}={environ[key]}")
    return lines
