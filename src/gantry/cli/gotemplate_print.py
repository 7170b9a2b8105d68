"""Go's fmt package, as far as templates reach it: %v of any value, Sprint, Sprintln and Sprintf."""

from __future__ import annotations

from gantry.cli.flags import quote
from gantry.cli.gotemplate_time import time_text
from gantry.cli.gotemplate_values import (
    INVALID,
    JSONNumber,
    Record,
    Typed,
    elements,
    field_of,
    kind,
    layout,
    type_name,
    typed,
)
from gantry.cli.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_SIZE_LIMIT = 1 << 20
"""The widest field that a template may ask for, in characters."""
_EXPONENT_FROM = 6
"""%g shows floats from this power of ten on with an exponent."""


def show(value: Any, *, top: bool = False) -> str:
    """%v; `top` is for what an action prints itself: pointers are followed, nil is "<no value>"."""
    if value is INVALID or (top and value is None):
        return "<no value>"
    return _show(value, "", 0 if not top else -1)


def _show(value: Any, flags: str, depth: int) -> str:
    if value is None or value is INVALID:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    what = kind(value)
    if what == "pointer":
        return "<nil>"
    if what == "map":
        return "map[" + " ".join(f"{key}:{_show(item, flags, 1)}" for key, item in elements(value)) + "]"
    if what == "slice":
        return "[" + " ".join(_show(item, flags, 1) for _, item in elements(value)) + "]"
    if isinstance(value, Record):
        items = [(name, field_of(value, name)) for name in value.fields if not hasattr(value.fields[name], "header")]
        return _struct(items, flags)
    if isinstance(value, Typed):
        if value.base == "time.Time":
            return time_text(value.value)
        if value.base == "time.Duration":
            return format_duration(value.value)
        if value.type[0] == "*" and depth > 0:
            return "0xc000000000"  # Go shows an address here
        items = _fields_of(value)
        return ("&" if value.type[0] == "*" and depth == 0 else "") + _struct(items, flags)
    return str(value)


def _fields_of(value: Typed) -> list[tuple[str, Any]]:
    return [
        (name, typed(value.value.get(key), of) if key else Typed(of, value.value))
        for name, key, of in layout(value.base)
    ]


def _struct(items: Sequence[tuple[str, Any]], flags: str) -> str:
    if "+" in flags:
        return "{" + " ".join(f"{name}:{_show(item, flags, 1)}" for name, item in items) + "}"
    return "{" + " ".join(_show(item, flags, 1) for _, item in items) + "}"


def float_text(value: float) -> str:
    """strconv's shortest 'g'."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if repr(value)[0] == "-" else "0"
    text = _scientific(value)
    return repr(value).removesuffix(".0") if -4 <= int(text.partition("e")[2]) < _EXPONENT_FROM else text


def _scientific(value: float) -> str:
    digits = repr(value)
    mantissa, _, exponent = digits.partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    mantissa = mantissa.lstrip("-")
    whole, _, fraction = mantissa.partition(".")
    shift = int(exponent or 0)
    everything = (whole + fraction).lstrip("0")
    lead = len(whole + fraction) - len(everything)
    power = len(whole) - 1 - lead + shift
    everything = everything.rstrip("0") or "0"
    head, tail = everything[0], everything[1:]
    return f"{sign}{head}{'.' + tail if tail else ''}e{'-' if power < 0 else '+'}{abs(power):02d}"


# -------------------------------------------------------------------------------------- Sprint


def sprint(args: Sequence[Any]) -> str:
    """Values in a row, a blank between two that are no strings."""
    parts: list[str] = []
    previous_string = True
    for position, arg in enumerate(args):
        is_string = isinstance(arg, str)
        if position and not is_string and not previous_string:
            parts.append(" ")
        parts.append(_show(arg, "", 0))
        previous_string = is_string
    return "".join(parts)


def sprintln(args: Sequence[Any]) -> str:
    return " ".join(_show(arg, "", 0) for arg in args) + "\n"


def sprintf(form: str, args: Sequence[Any]) -> str:
    """fmt.Sprintf, its complaints included: %!d(string=x), %!d(MISSING), %!(EXTRA int=1)."""
    return _Printer(form, args).run()


class _Printer:
    def __init__(self, form: str, args: Sequence[Any]) -> None:
        self.form = form
        self.args = args
        self.at = 0
        self.next = 0
        self.reordered = False

    def run(self) -> str:
        out: list[str] = []
        form = self.form
        while self.at < len(form):
            mark = form.find("%", self.at)
            if mark < 0:
                out.append(form[self.at :])
                break
            out.append(form[self.at : mark])
            self.at = mark + 1
            out.append(self._directive())
        if not self.reordered and self.next < len(self.args):
            extra = ", ".join(
                "<nil>" if arg is None else f"{type_name(arg)}={show(arg)}" for arg in self.args[self.next :]
            )
            out.append(f"%!(EXTRA {extra})")
        return "".join(out)

    def _directive(self) -> str:
        form = self.form
        flags = ""
        while self.at < len(form) and form[self.at] in "#0+- ":
            flags += form[self.at]
            self.at += 1
        good = self._index()
        width, problem = self._size()
        if width is not None and width < 0:
            width, flags = -width, flags + "-"
        precision = None
        if form.startswith(".", self.at):
            self.at += 1
            good = self._index() and good
            precision, bad = self._size()
            problem += bad.replace("WIDTH", "PREC")
            precision = 0 if precision is None else precision
        good = self._index() and good
        if self.at >= len(form):
            return problem + "%!(NOVERB)"
        verb = form[self.at]
        self.at += 1
        if verb == "%":
            return problem + "%"
        if not good:
            return f"{problem}%!{verb}(BADINDEX)"
        if self.next >= len(self.args):
            return f"{problem}%!{verb}(MISSING)"
        arg = self.args[self.next]
        self.next += 1
        return problem + _format(arg, verb, flags, width, precision)

    def _index(self) -> bool:
        """`[n]` chooses the argument; False where there is no such one."""
        if not self.form.startswith("[", self.at):
            return True
        self.reordered = True
        end = self.form.find("]", self.at)
        if end < 0:
            self.at += 1
            return False
        digits = self.form[self.at + 1 : end]
        self.at = end + 1
        if not digits.isdecimal() or not digits.isascii() or not 1 <= int(digits[:9]) <= len(self.args):
            return False
        self.next = int(digits) - 1
        return True

    def _size(self) -> tuple[int | None, str]:
        form = self.form
        if form.startswith("*", self.at):
            self.at += 1
            value = self.args[self.next] if self.next < len(self.args) else None
            self.next += 1
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _SIZE_LIMIT:
                return value, ""
            return None, "%!(BADWIDTH)"
        start = self.at
        while self.at < len(form) and "0" <= form[self.at] <= "9":
            self.at += 1
        digits = form[start : self.at]
        if not digits:
            return None, ""
        return (int(digits[:8]), "") if int(digits[:8]) <= _SIZE_LIMIT else (None, "%!(BADWIDTH)")


def _bad(value: Any, verb: str) -> str:
    if value is None or value is INVALID:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({type_name(value)}={show(value)})"


def _format(value: Any, verb: str, flags: str, width: int | None, precision: int | None) -> str:
    if verb == "T":
        return _pad(type_name(value), flags, width)
    if value is None or value is INVALID:
        return _pad("<nil>", flags, width) if verb == "v" else _bad(value, verb)
    if isinstance(value, Typed) and value.base == "time.Time" and verb in "vsqxX":
        value = time_text(value.value)
    if isinstance(value, Typed) and value.base == "time.Duration":
        value = format_duration(value.value) if verb in "vs" else value.value
    if verb == "v" and "#" in flags:
        return _pad(_go_syntax(value), flags, width)
    what = kind(value)
    if what == "slice" and verb != "v" and not isinstance(value, str):
        return "[" + " ".join(_format(item, verb, flags, width, precision) for _, item in elements(value)) + "]"
    if what == "map" and verb != "v":
        pairs = (
            f"{_format(key, verb, flags, width, precision)}:{_format(item, verb, flags, width, precision)}"
            for key, item in elements(value)
        )
        return "map[" + " ".join(pairs) + "]"
    if isinstance(value, bool):
        return _pad("true" if value else "false", flags, width) if verb in "tv" else _bad(value, verb)
    if isinstance(value, str):
        return _string(value, verb, flags, width, precision)
    if isinstance(value, float):
        return _float(value, verb, flags, width, precision)
    if isinstance(value, int):
        return _integer(value, verb, flags, width, precision)
    if verb == "v":
        return _pad(_show(value, flags, 0), flags, width)
    if what == "struct" and isinstance(value, Typed):
        fields = (item for _, item in _fields_of(value))
        mark = "&" if value.type[0] == "*" else ""
        return mark + "{" + " ".join(_format(item, verb, flags, width, precision) for item in fields) + "}"
    return _bad(value, verb)


def _pad(text: str, flags: str, width: int | None, *, zero: bool = False) -> str:
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    if zero and "0" in flags:
        sign = text[:1] if text[:1] in ("+", "-") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _string(value: str, verb: str, flags: str, width: int | None, precision: int | None) -> str:
    text = str(value)
    if precision is not None and verb in "svqxX":
        text = text[:precision]
    if verb in "sv":
        return _pad(text, flags, width, zero=True)
    if verb == "q":
        bare = "#" in flags and "`" not in text and text.replace("\t", " ").isprintable()
        return _pad(f"`{text}`" if bare else quote(text), flags, width)
    if verb in "xX":
        digits = text.encode("utf-8", "surrogateescape").hex(*((" ",) if " " in flags else ()))
        return _pad(digits.upper() if verb == "X" else digits, flags, width)
    return _bad(value, verb)


def _integer(value: int, verb: str, flags: str, width: int | None, precision: int | None) -> str:
    if verb in "dv":
        digits = str(abs(value))
    elif verb in "xX":
        digits = f"{abs(value):{verb}}"
        prefix = "0" + verb if "#" in flags else ""
        digits = prefix + digits
    elif verb == "o":
        digits = ("0" if "#" in flags else "") + f"{abs(value):o}"
    elif verb == "O":
        digits = f"0o{abs(value):o}"
    elif verb == "b":
        digits = f"{abs(value):b}"
    elif verb in "cqU":
        char = chr(value) if 0 <= value < 0xD800 or 0xDFFF < value <= 0x10FFFF else "\ufffd"
        shown = {"c": char, "q": "'" + quote(char)[1:-1] + "'", "U": f"U+{value & 0xFFFFFFFF:04X}"}[verb]
        return _pad(shown, flags, width)
    else:
        return _bad(value, verb)
    if precision is not None:
        digits = digits.rjust(precision, "0")
        flags = flags.replace("0", "")
    sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    return _pad(sign + digits, flags, width, zero=True)


def _float(value: float, verb: str, flags: str, width: int | None, precision: int | None) -> str:
    if verb not in "vgGeEfF":
        return _bad(value, verb)
    if verb in "vgG" and precision is None:
        text = float_text(value)
        text = text.upper() if verb == "G" else text
    else:
        text = f"{value:.{6 if precision is None else precision}{'g' if verb == 'v' else verb}}"
    if value >= 0 and "+" in flags:
        text = "+" + text.removeprefix("+")
    elif value >= 0 and " " in flags:
        text = " " + text
    return _pad(text, flags, width, zero=True)


def _go_syntax(value: Any) -> str:
    """%#v."""
    if value is None or value is INVALID:
        return "<nil>"
    if isinstance(value, str) and not isinstance(value, JSONNumber):
        return quote(value)
    what = kind(value)
    if what == "map":
        return type_name(value) + "{" + ", ".join(f"{quote(k)}:{_go_syntax(i)}" for k, i in elements(value)) + "}"
    if what == "slice":
        return type_name(value) + "{" + ", ".join(_go_syntax(item) for _, item in elements(value)) + "}"
    return quote(value) if isinstance(value, str) else _show(value, "", 0)
