"""What a template works on: JSON values, and views of them under Go's struct types.

A plain JSON value is Go's `interface {}`: dict is `map[string]interface {}`, list `[]interface {}`. `Typed` is a
value of a known Go type, where absent fields have their zero values; `Record` is a list command's row.
"""

from __future__ import annotations

from gantry.cli.format import Method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_OMIT_EMPTY = ("v1.DockerOCIImageConfig",)
"""Structs that Go writes without their empty fields, whatever the daemon sent."""
ZERO_TIME = "0001-01-01T00:00:00Z"


class _Invalid:
    """Go's zero reflect.Value: what a map gives for a key that it has not."""

    def __repr__(self) -> str:
        return "<no value>"


INVALID = _Invalid()


class JSONNumber(str):
    """A number as the daemon wrote it (json.Number), a string to Go."""

    __slots__ = ()


class Typed:
    """`value` (JSON) as the Go type `type`; scalars are never wrapped, except durations and times."""

    __slots__ = ("type", "value")

    def __init__(self, type: str, value: Any) -> None:  # noqa: A002
        self.type = type
        self.value = value

    @property
    def base(self) -> str:
        return self.type.removeprefix("*")


class Record:
    """A row: fields by name; a callable value is called when its field is asked for.

    An `open` one, a table's headings, has no value for fields that it does not name.
    """

    __slots__ = ("fields", "open", "type")

    def __init__(self, fields: Mapping[str, Any], type: str, *, open: bool = False) -> None:  # noqa: A002
        self.fields = fields
        self.type = type
        self.open = open


def structs() -> dict[str, dict[str, tuple[str, str]]]:
    """Struct types: field -> (JSON key, type)."""
    from gantry.cli.gotemplate_types import STRUCTS

    return STRUCTS


def layout(name: str) -> list[tuple[str, str, str]]:
    """A struct's fields in order: (field, JSON key, type); an embedded struct has no key."""
    from gantry.cli.gotemplate_types import LAYOUTS

    return LAYOUTS[name]


_INTEGERS = frozenset(("int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64"))


def typed(value: Any, name: str) -> Any:
    """The view of JSON `value` as Go type `name`."""
    if name == "interface {}":
        return value
    if name == "string":
        return value if isinstance(value, str) else ""
    if name in _INTEGERS:
        return value if isinstance(value, int) else 0
    if name == "bool":
        return value is True
    if name[0] == "*":
        if value is None:
            return Typed(name, None)
        inner = typed(value, name[1:])
        return Typed(name, inner.value) if isinstance(inner, Typed) else inner
    if name == "time.Time":
        return Typed(name, value or ZERO_TIME)
    if name == "time.Duration":
        return Typed(name, value or 0)
    if name[0] == "[" or name.startswith("map["):
        return Typed(name, value)
    if name in structs():
        return Typed(name, value if isinstance(value, dict) else {})
    return "" if value is None else value


def element_type(name: str) -> str:
    """T of `[]T`, `[n]T` and `map[K]T`."""
    return name.partition("]")[2]


def type_name(value: Any) -> str:
    if isinstance(value, (Typed, Record)):
        return value.type
    if isinstance(value, JSONNumber):
        return "json.Number"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return "<nil>"


def kind(value: Any) -> str:
    """invalid, nil (an empty interface), bool, int, float, string, map, slice, struct, pointer (a nil one)."""
    if value is INVALID:
        return "invalid"
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "map"
    if isinstance(value, list):
        return "slice"
    if isinstance(value, Typed):
        if value.type[0] == "*" and value.value is None:
            return "pointer"
        base = value.base
        if base[0] == "[":
            return "slice"
        if base.startswith("map["):
            return "map"
        return "int" if base == "time.Duration" else "struct"
    return "struct"


def is_nil(value: Any) -> bool:
    """Whether Go calls it nil: an empty interface, pointer, map or slice."""
    return value is None or value is INVALID or (isinstance(value, Typed) and value.value is None)


def length(value: Any) -> int:
    """Of a string (bytes), map or slice."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    inner = value.value if isinstance(value, Typed) else value
    return len(inner or ())


def elements(value: Any) -> Iterator[tuple[Any, Any]]:
    """(index or key, element) of a slice or map; keys in order."""
    inner = value.value if isinstance(value, Typed) else value
    name = element_type(value.base) if isinstance(value, Typed) else "interface {}"
    pairs = sorted(inner.items()) if isinstance(inner, dict) else enumerate(inner or ())
    for key, item in pairs:
        yield key, typed(item, name)


def truth(value: Any) -> bool:
    """Go templates' idea of truth: not the zero value, not empty."""
    what = kind(value)
    if what in ("invalid", "nil", "pointer"):
        return False
    if what in ("map", "slice", "string"):
        return length(value) > 0
    if what == "struct":
        return True
    return bool(number(value))


def number(value: Any) -> int | float:
    return value.value if isinstance(value, Typed) else value  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------- to JSON


def to_json(value: Any) -> str:
    """As the `json` function writes it: maps by key, no HTML escapes; rows escape HTML as Go's Marshal does."""
    if isinstance(value, Record):
        from gantry.client.jsontext import encode_text

        rows = {
            name: plain(field_of(value, name)) for name in sorted(value.fields) if not _takes_arguments(value, name)
        }
        text = encode_text(rows)
        return _marked(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
    return _marked(_encode(plain(value)))


def _takes_arguments(record: Record, name: str) -> bool:
    return isinstance(record.fields[name], Method)


def _marked(text: str) -> str:
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _encode(value: Any) -> str:
    if isinstance(value, JSONNumber):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_encode(str(key))}:{_encode(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_encode, value)) + "]"
    from gantry.client.jsontext import encode_text

    return encode_text(value)


def plain(value: Any) -> Any:
    """A value as data for JSON: typed structs keep their order, maps are sorted."""
    if isinstance(value, Typed):
        inner = value.value
        if value.base in structs():
            if inner is None:
                return None
            bare = value.base in _OMIT_EMPTY
            return {
                key: plain(typed(inner[key], of))
                for key, of in structs()[value.base].values()
                if key in inner and (inner[key] or not bare)
            }
        if isinstance(inner, (dict, list)):
            items = elements(value)
            return (
                {key: plain(item) for key, item in items} if isinstance(inner, dict) else [plain(i) for _, i in items]
            )
        return inner
    if isinstance(value, dict):
        return {key: plain(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if value is INVALID else value


def field_of(record: Record, name: str) -> Any:
    value = record.fields[name]
    return value() if callable(value) else value


def numbers_as_written(value: Any) -> Any:
    """The same JSON with every number a JSONNumber, as Go's decoder leaves them under UseNumber."""
    if isinstance(value, dict):
        return {key: numbers_as_written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers_as_written(item) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return JSONNumber(_encode(value))
    return value
