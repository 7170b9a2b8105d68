"""The Engine API's error document, and Docker's words for a body that is not the JSON it should be."""

import re
from typing import Any, TypeVar

import msgspec

from gantry.errors import InvalidArgument

T = TypeVar("T")

_GO_KINDS = {"object": "object", "array": "array", "str": "string", "int": "number", "float": "number", "bool": "bool"}
_GO_TYPES = {"str": "string", "int": "int64", "float": "float64", "bool": "bool", "array": "[]string"}
_GO_STRUCTS = {
    "Healthcheck": "container.HealthConfig",
    "ExposedPorts": "nat.PortSet",
    "HostConfig": "container.HostConfig",
    "LogConfig": "container.LogConfig",
    "NetworkingConfig": "network.NetworkingConfig",
    "PortBindings": "nat.PortMap",
    "RestartPolicy": "container.RestartPolicy",
}
_MISMATCH = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")


def error_body(message: str) -> bytes:
    """`ErrorResponse`, with the newline that Docker writes."""
    return msgspec.json.encode({"message": message}) + b"\n"


def decode(data: bytes, kind: type[T], name: str = "") -> T:
    """Decode a request body; `null` anywhere means that the field was not given.

    Raises InvalidArgument, which says the Go type's `name`, `volume.CreateOptions`, where it is given.
    """
    try:
        return _decode(data, kind)
    except InvalidArgument as error:
        if not name:
            raise
        message = error.message.replace("Go struct field .", f"Go struct field {name.rpartition('.')[2]}.")
        raise InvalidArgument(message.replace("Go value of type object", f"Go value of type {name}")) from error


def _decode(data: bytes, kind: type[T]) -> T:
    if not data:
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        pass  # perhaps only a null where Go has a zero value; the slower path below decides
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise invalid_json(error, data) from error
    try:
        return msgspec.convert(without_nulls(msgspec.json.decode(data)), type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise invalid_json(error, data) from error


def without_nulls(value: Any) -> Any:
    """Drop object members that are null: Go leaves the zero value there."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(member) for member in value]
    return value


def invalid_json(error: Exception, data: bytes) -> InvalidArgument:
    """What Docker says of the same body."""
    text = " ".join(str(error).split())
    if isinstance(error, RecursionError):
        return InvalidArgument("invalid JSON: exceeded max depth")
    if isinstance(error, msgspec.ValidationError):
        return InvalidArgument(f"invalid JSON: {_mismatch(text)}")
    if "trailing characters" in text:
        return InvalidArgument("unexpected content after JSON")
    if "truncated" in text:
        return InvalidArgument("invalid JSON: unexpected EOF")
    head = data.lstrip()[:1].decode("utf-8", "replace")
    if head and head not in '{["-0123456789tfn':
        return InvalidArgument(f"invalid JSON: invalid character '{head}' looking for beginning of value")
    return InvalidArgument(f"invalid JSON: {text.removeprefix('JSON is malformed: ')}")


def _mismatch(text: str) -> str:
    found = _MISMATCH.search(text)
    if not found:
        return text
    expected, got, where = found.groups()
    wanted = expected.split(" | ")[0]
    kind = _GO_KINDS.get(got, got)
    if not where:
        return f"json: cannot unmarshal {kind} into Go value of type {_GO_TYPES.get(wanted, wanted)}"
    place = re.sub(r"\[(\d+|\.\.\.)\]", lambda index: f".{index[1]}" if index[1].isdecimal() else "", where)
    name = place.rpartition(".")[2]
    if wanted == "object":
        wanted = _GO_STRUCTS.get(name, "map[string]string")
    return f"json: cannot unmarshal {kind} into Go struct field .{place} of type {_GO_TYPES.get(wanted, wanted)}"
