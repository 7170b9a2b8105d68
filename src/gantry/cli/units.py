"""Sizes and durations, read and written as Docker's command line does (go-units, Go's time)."""

from __future__ import annotations

from gantry.cli.flags import quote

_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_DECIMAL_NAMES = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_DURATIONS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def ram_in_bytes(text: str) -> int:
    """Bytes of "512m", "1.5GiB" (powers of 1024); raises ValueError in go-units' words."""
    return _size(text, _BINARY)


def from_human_size(text: str) -> int:
    """Bytes of "512MB", "10k" (powers of 1000); raises ValueError in go-units' words."""
    return _size(text, _DECIMAL)


def memory_swap(text: str) -> int:
    return -1 if text == "-1" else ram_in_bytes(text)


def _size(text: str, units: dict[str, int]) -> int:
    end = max(text.rfind(char) for char in "0123456789. ")
    if end < 0:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = text[: end + (text[end] != " ")], text[end + 1 :].lower()
    try:
        if not number or number != number.strip() or "_" in number:
            raise ValueError(number)  # noqa: TRY301 - the same end as float's own
        size = float(number)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(number)}: invalid syntax") from None
    if size < 0:
        raise ValueError(f"invalid size: '{text}'")
    if not suffix or suffix == "b":
        return int(size)
    if suffix[0] not in units or suffix[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(size * units[suffix[0]])


def human_size(size: float, precision: int = 4) -> str:
    """ "4.26MB": `precision` significant digits, powers of 1000."""
    return _human(size, precision, 1000.0, _DECIMAL_NAMES)


def bytes_size(size: float) -> str:
    """ "4.064MiB": four significant digits, powers of 1024."""
    return _human(size, 4, 1024.0, _BINARY_NAMES)


def _human(size: float, precision: int, base: float, names: tuple[str, ...]) -> str:
    place = 0
    while size >= base and place < len(names) - 1:
        size /= base
        place += 1
    return go_float(size, precision) + names[place]


def go_float(value: float, precision: int) -> str:
    """Go's %.<precision>g."""
    text = f"{value:.{precision}g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{exponent}" if e else text


def human_duration(seconds: float) -> str:
    """ "3 hours", "About a minute": go-units' HumanDuration."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def parse_duration(text: str) -> int:
    """Nanoseconds of "1h30m", "1.5s", "-2ms", "0": Go's time.ParseDuration; raises ValueError in its words."""
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"time: invalid duration {quote(text)}")
    total = 0
    while rest:
        place = 0
        while place < len(rest) and (rest[place] in "0123456789."):
            place += 1
        number, rest = rest[:place], rest[place:]
        if not number.strip(".") or number.count(".") > 1:
            raise ValueError(f"time: invalid duration {quote(text)}")
        place = 0
        while place < len(rest) and rest[place] not in "0123456789.":
            place += 1
        unit, rest = rest[:place], rest[place:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _DURATIONS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        whole, _, fraction = number.partition(".")
        scale = _DURATIONS[unit]
        total += int(whole or "0") * scale + int(fraction or "0") * scale // 10 ** len(fraction)
    if total >= 1 << 63:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return -total if text[0] == "-" else total


def format_duration(nanoseconds: int) -> str:
    """Go's Duration.String: "1h30m0s", "1.5s", "0s"."""
    if nanoseconds == 0:
        return "0s"
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if value < 10**9:
        for unit, scale in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
            if value < scale * 1000:
                return f"{sign}{_decimal(value, scale)}{unit}"
    minutes, rest = divmod(value, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, 10**9) + "s"
    if hours:
        text = f"{hours}h{minutes}m{text}"
    elif minutes:
        text = f"{minutes}m{text}"
    return sign + text


def _decimal(value: int, scale: int) -> str:
    whole, fraction = divmod(value, scale)
    digits = str(fraction).rjust(len(str(scale)) - 1, "0").rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
