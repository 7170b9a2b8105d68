"""Go's time.Time as templates print it; times are RFC 3339 texts as the daemon sends them."""

from __future__ import annotations

_MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()  # noqa: SIM905
_LAYOUT = (
    "January", "Jan", "Monday", "Mon", "MST", "2006", "-07:00", "-0700", "-07", "Z07:00", "Z0700",
    "01", "02", "03", "04", "05", "06", "15", "PM", "pm", "_2", "1", "2", "3", "4", "5",
)  # fmt: skip
"""Go's reference time; the longest of two that begin alike stands first."""


class _Parts:
    def __init__(self, text: str) -> None:
        day, _, clock = text.partition("T")
        at = next((place for place, char in enumerate(clock) if char in "Zz+-"), len(clock))
        time, zone = clock[:at], clock[at:]
        whole, _, fraction = time.partition(".")
        self.day = day
        self.clock = whole
        self.fraction = fraction.rstrip("0")
        self.offset = "+0000" if zone in ("", "Z", "z") else zone.replace(":", "")
        self.zone = "UTC" if self.offset == "+0000" else self.offset


def time_text(text: str) -> str:
    """time.Time.String: "2026-01-02 15:04:05.5 +0000 UTC"."""
    if "T" not in text:
        return text
    parts = _Parts(text)
    fraction = "." + parts.fraction if parts.fraction else ""
    return f"{parts.day} {parts.clock}{fraction} {parts.offset} {parts.zone}"


def format_time(text: str, layout: str) -> str:
    """time.Time.Format."""
    parts = _Parts(text)
    if "T" not in text or len(parts.day) != 10 or len(parts.clock) != 8:
        return text
    year, month, day = parts.day.split("-")
    hour, minute, second = parts.clock.split(":")
    out: list[str] = []
    at = 0
    while at < len(layout):
        if layout[at] in ".," and layout[at + 1 : at + 2] in ("0", "9") and out:
            end = at + 1
            while layout[end : end + 1] == layout[at + 1]:
                end += 1
            digits = parts.fraction.ljust(end - at - 1, "0")[: end - at - 1]
            digits = digits if layout[at + 1] == "0" else digits.rstrip("0")
            out.append(layout[at] + digits if digits else "")
            at = end
            continue
        word = next((known for known in _LAYOUT if layout.startswith(known, at)), "")
        out.append(_field(word, parts, year, month, day, hour, minute, second) if word else layout[at])
        at += len(word) or 1
    return "".join(out)


def _field(word: str, parts: _Parts, year: str, month: str, day: str, hour: str, minute: str, second: str) -> str:
    import datetime as dt

    half = str((int(hour) + 11) % 12 + 1)
    afternoon = int(hour) >= 12
    colon = parts.offset[:3] + ":" + parts.offset[3:]
    weekday = _DAYS[dt.date(int(year), int(month), int(day)).weekday()]
    values = {
        "January": _MONTHS[int(month) - 1],
        "Jan": _MONTHS[int(month) - 1][:3],
        "Monday": weekday,
        "Mon": weekday[:3],
        "MST": parts.zone,
        "2006": year,
        "06": year[2:],
        "-07:00": colon,
        "-0700": parts.offset,
        "-07": parts.offset[:3],
        "Z07:00": "Z" if parts.offset == "+0000" else colon,
        "Z0700": "Z" if parts.offset == "+0000" else parts.offset,
        "01": month,
        "1": month.lstrip("0"),
        "02": day,
        "2": day.lstrip("0"),
        "_2": day.lstrip("0").rjust(2),
        "15": hour,
        "03": half.rjust(2, "0"),
        "3": half,
        "04": minute,
        "4": minute.lstrip("0") or "0",
        "05": second,
        "5": second.lstrip("0") or "0",
        "PM": "PM" if afternoon else "AM",
        "pm": "pm" if afternoon else "am",
    }
    return values[word]
