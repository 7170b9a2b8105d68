"""The functions of a template: Go's own and those that Docker adds."""

from __future__ import annotations

from gantry.cli.gotemplate_print import show, sprint, sprintf, sprintln
from gantry.cli.gotemplate_values import (
    INVALID,
    JSONNumber,
    Typed,
    element_type,
    elements,
    is_nil,
    kind,
    length,
    number,
    to_json,
    truth,
    type_name,
    typed,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class FunctionError(Exception):
    """A function's own error; the template's error names the function."""


class Function:
    """`parameters` are "any", "value" (any, but no untyped nil), "string", "int" or "[]string"; `rest` is the type
    of further arguments, "" where there are none."""

    __slots__ = ("call", "parameters", "rest")

    def __init__(self, call: Callable[..., Any], *parameters: str, rest: str = "") -> None:
        self.call = call
        self.parameters = parameters
        self.rest = rest


# ---------------------------------------------------------------------------------- comparison


def _basic(value: Any) -> str:
    what = kind(value)
    return what if what in ("bool", "int", "float", "string") else ""


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("missing argument for comparison")
    for other in others:
        one, two = _basic(first), _basic(other)
        if one != two:
            if INVALID not in (first, other) and first is not None and other is not None:
                raise FunctionError("incompatible types for comparison")
            continue
        if one:
            if number(first) == number(other):
                return True
            continue
        if is_nil(first) or is_nil(other):
            if is_nil(first) == is_nil(other):
                return True
            continue
        for value in (first, other):
            if kind(value) in ("map", "slice") and not _is_pointer(value):
                raise FunctionError(f"non-comparable type {show(value)}: {type_name(value)}")
        if type_name(first) == type_name(other) and _same(first, other):
            return True
    return False


def _is_pointer(value: Any) -> bool:
    return isinstance(value, Typed) and value.type[0] == "*"


def _same(first: Any, other: Any) -> bool:
    one = first.value if isinstance(first, Typed) else first
    two = other.value if isinstance(other, Typed) else other
    return one is two if _is_pointer(first) else bool(one == two)


def _ne(first: Any, other: Any) -> bool:
    return not _eq(first, other)


def _lt(first: Any, other: Any) -> bool:
    one, two = _basic(first), _basic(other)
    if not one or not two:
        raise FunctionError("invalid type for comparison")
    if one != two:
        raise FunctionError("incompatible types for comparison")
    if one == "bool":
        raise FunctionError("invalid type for comparison")
    return bool(number(first) < number(other))


def _le(first: Any, other: Any) -> bool:
    return _lt(first, other) or _eq(first, other)


def _gt(first: Any, other: Any) -> bool:
    return not _le(first, other)


def _ge(first: Any, other: Any) -> bool:
    return not _lt(first, other)


# --------------------------------------------------------------------------------- collections


def _len(value: Any) -> int:
    what = kind(value)
    if what in ("invalid", "nil"):
        raise FunctionError("reflect: call of reflect.Value.Type on zero Value")
    if what == "pointer":
        raise FunctionError("len of nil pointer")
    if what in ("map", "slice", "string"):
        return length(value)
    raise FunctionError(f"len of type {type_name(value)}")


def _index(value: Any, *indexes: Any) -> Any:
    for index in indexes:
        what = kind(value)
        if what in ("invalid", "nil"):
            raise FunctionError("index of untyped nil")
        if what == "pointer":
            raise FunctionError("index of nil pointer")
        if what in ("slice", "string"):
            value = _element(value, _position(index, length(value), strict=True))
        elif what == "map":
            if not isinstance(index, str):
                if is_nil(index):
                    raise FunctionError("value is nil; should be of type string")
                raise FunctionError(f"value has type {type_name(index)}; should be string")
            if isinstance(value, Typed):
                value = typed((value.value or {}).get(index), element_type(value.base))
            else:
                value = value.get(index)
        else:
            raise FunctionError(f"can't index item of type {type_name(value)}")
    return value


def _element(value: Any, position: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")[position]
    if isinstance(value, Typed):
        return typed(value.value[position], element_type(value.base))
    return value[position]


def _position(index: Any, size: int, *, strict: bool) -> int:
    if is_nil(index):
        raise FunctionError("cannot index slice/array with nil")
    if kind(index) != "int":
        raise FunctionError(f"cannot index slice/array with type {type_name(index)}")
    position = int(number(index))
    if position < 0 or (position >= size if strict else position > size):
        raise FunctionError(f"index out of range: {position}")
    return position


def _slice(value: Any, *indexes: Any) -> Any:
    what = kind(value)
    if what in ("invalid", "nil"):
        raise FunctionError("slice of untyped nil")
    if len(indexes) > 3:
        raise FunctionError(f"too many slice indexes: {len(indexes)}")
    if what == "string":
        if len(indexes) == 3:
            raise FunctionError("cannot 3-index slice a string")
    elif what != "slice":
        raise FunctionError(f"can't slice item of type {type_name(value)}")
    size = length(value)
    bounds = [0, size]
    for place, index in enumerate(indexes[:2]):
        bounds[place] = _position(index, size, strict=False)
    if len(indexes) == 3:
        _position(indexes[2], size, strict=False)
    if bounds[0] > bounds[1]:
        raise FunctionError(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")[bounds[0] : bounds[1]].decode("utf-8", "surrogateescape")
    if isinstance(value, Typed):
        return Typed(value.type, (value.value or [])[bounds[0] : bounds[1]])
    return value[bounds[0] : bounds[1]]


def _call(*_: Any) -> Any:
    raise FunctionError("non-function of no callable type")


# --------------------------------------------------------------------------------------- texts


def _texts(args: Sequence[Any]) -> str:
    return args[0] if len(args) == 1 and isinstance(args[0], str) else sprint(args)


def _html(*args: Any) -> str:
    text = _texts(args).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&#34;").replace("'", "&#39;").replace("\0", "\ufffd")


_SCRIPT = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _js(*args: Any) -> str:
    return "".join(_SCRIPT.get(char) or (char if char >= " " else f"\\u{ord(char):04X}") for char in _texts(args))


def _urlquery(*args: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_texts(args).encode("utf-8", "surrogateescape"))


def _title(text: str) -> str:
    parts = []
    previous = " "
    for char in text:
        starts = not (previous.isalnum() or previous in "_'")
        parts.append(char.upper() if starts and len(char.upper()) == 1 else char)
        previous = char
    return "".join(parts)


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, size: int) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) < size:
        return text
    if size < 0:
        raise FunctionError(f"runtime error: slice bounds out of range [:{size}]")
    return raw[:size].decode("utf-8", "surrogateescape")


def _split(text: str, separator: str) -> Typed:
    return Typed("[]string", text.split(separator) if separator else list(text))


def _join(items: Any, separator: str) -> str:
    return separator.join(str(item) for _, item in elements(items))


FUNCTIONS: dict[str, Function] = {
    "and": Function(_call, "any", rest="any"),
    "or": Function(_call, "any", rest="any"),
    "not": Function(lambda value: not truth(value), "any"),
    "call": Function(_call, "any", rest="any"),
    "html": Function(_html, rest="any"),
    "js": Function(_js, rest="any"),
    "urlquery": Function(_urlquery, rest="any"),
    "index": Function(_index, "any", rest="any"),
    "slice": Function(_slice, "any", rest="any"),
    "len": Function(_len, "any"),
    "print": Function(lambda *args: sprint(args), rest="any"),
    "printf": Function(lambda form, *args: sprintf(form, args), "string", rest="any"),
    "println": Function(lambda *args: sprintln(args), rest="any"),
    "eq": Function(_eq, "any", rest="any"),
    "ne": Function(_ne, "any", "any"),
    "lt": Function(_lt, "any", "any"),
    "le": Function(_le, "any", "any"),
    "gt": Function(_gt, "any", "any"),
    "ge": Function(_ge, "any", "any"),
    "json": Function(to_json, "any"),
    "split": Function(_split, "string", "string"),
    "join": Function(_join, "[]string", "string"),
    "title": Function(_title, "string"),
    "lower": Function(str.lower, "string"),
    "upper": Function(str.upper, "string"),
    "pad": Function(_pad, "string", "int", "int"),
    "truncate": Function(_truncate, "string", "int"),
}


def _shown(value: Any) -> str:
    return show(value)


HEADER_FUNCTIONS: dict[str, Function] = {
    **FUNCTIONS,
    "json": Function(_shown, "any"),
    "title": Function(_shown, "any"),
    "lower": Function(_shown, "any"),
    "upper": Function(_shown, "any"),
    "truncate": Function(lambda value, _: _shown(value), "any", "int"),
}
"""In a table's heading the functions leave the column's name as it is."""


def accepts(value: Any, wanted: str) -> bool:
    """Whether a value may be given for a parameter of type `wanted`."""
    if wanted == "any":
        return True
    if wanted == "string":
        return isinstance(value, str) and not isinstance(value, JSONNumber)
    if wanted == "int":
        return kind(value) == "int" and not isinstance(value, Typed)
    return isinstance(value, Typed) and value.type == wanted
