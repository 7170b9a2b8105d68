"""Two engines' answers to the same step, and what differs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_MESSAGE = "message"


@dataclass(frozen=True)
class Answer:
    """What one engine said, normalised. `fields` are compared by value, `document` by its keys and types."""

    fields: dict[str, Any] = field(default_factory=dict)
    document: Any = None


@dataclass(frozen=True)
class Difference:
    """Where (a field, or a path in the JSON), and what each engine has there."""

    where: str
    peer: Any
    gantry: Any

    def __str__(self) -> str:
        return f"{self.where}\n    docker: {self.peer!r}\n    gantry: {self.gantry!r}"


ABSENT = "(absent)"


def differences(peer: Answer, gantry: Answer, *, values: bool = False) -> Iterator[Difference]:
    """Everything that is not the same."""
    for key in {**peer.fields, **gantry.fields}:
        one, other = peer.fields.get(key, ABSENT), gantry.fields.get(key, ABSENT)
        if one != other:
            yield Difference(key, one, other)
    yield from _documents("", peer.document, gantry.document, values)


def _documents(path: str, one: Any, other: Any, values: bool) -> Iterator[Difference]:
    if _kind(one) != _kind(other):
        yield Difference(path or "/", _kind(one) if not values else one, _kind(other) if not values else other)
    elif isinstance(one, dict):
        for key in {**one, **other}:
            here = f"{path}/{key}"
            if key not in other:
                yield Difference(here, _kind(one[key]), ABSENT)
            elif key not in one:
                yield Difference(here, ABSENT, _kind(other[key]))
            else:
                yield from _documents(here, one[key], other[key], values)
    elif isinstance(one, list):
        if len(one) != len(other):
            yield Difference(path or "/", one, other)
        for number, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from _documents(f"{path}/{number}", left, right, values)
    elif (values or path == f"/{_MESSAGE}") and one != other:
        yield Difference(path or "/", one, other)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]
