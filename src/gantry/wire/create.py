"""Requests about containers: the bodies of create, update, commit and exec, as each API version spells them."""

from typing import Any, NamedTuple, TypeVar

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import ContainerConfig, HostConfig
from gantry.model.network import EndpointSettings
from gantry.wire.errors import invalid_json, without_nulls
from gantry.wire.versions import Version

T = TypeVar("T")

_INT64 = 1 << 63
_STRINGS = ("Cmd", "Entrypoint", "Shell")  # older clients send a string where a list is meant
_UNSIGNED_MEMBERS = (
    ("BlkioWeightDevice", "Weight", "uint16", 1 << 16),
    ("BlkioDeviceReadBps", "Rate", "uint64", 1 << 64),
    ("BlkioDeviceWriteBps", "Rate", "uint64", 1 << 64),
    ("BlkioDeviceReadIOps", "Rate", "uint64", 1 << 64),
    ("BlkioDeviceWriteIOps", "Rate", "uint64", 1 << 64),
    ("ConsoleSize", "", "uint", 1 << 64),
)
_MAC_WARNING = (
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
)


class CreateRequest(NamedTuple):
    """`warnings` are those about the request's form."""

    config: ContainerConfig
    host: HostConfig
    endpoints: dict[str, EndpointSettings]
    warnings: list[str]


def plain_object(data: bytes, name: str = "map[string]any") -> dict[str, Any]:
    """A JSON object without its nulls; raises InvalidArgument with Docker's words, `name` being the Go type's."""
    if not data.strip():
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        value = msgspec.json.decode(data)
        cleaned: Any = without_nulls(value)
        _check_numbers(cleaned)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise invalid_json(error, data) from error
    if cleaned is None:
        return {}
    if not isinstance(cleaned, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(cleaned), "number")
        raise InvalidArgument(f"invalid JSON: json: cannot unmarshal {kind} into Go value of type {name}")
    return cleaned


def _check_numbers(value: Any) -> None:
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise InvalidArgument(f"invalid JSON: json: cannot unmarshal number {value} into Go value of type int64")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(item)


def convert(value: Any, kind: type[T], where: str = "") -> T:
    """Plain JSON into a struct; names match in any case, as Go's do. Raises InvalidArgument that names the field."""
    if isinstance(value, dict):
        value = _fold(value, kind)
    try:
        return msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, ValueError) as error:
        raise invalid_json(_located(error, where), b"") from error


def _located(error: Exception, where: str) -> Exception:
    """The same error, with its path counted from the whole body's root."""
    if not where:
        return error
    text = str(error)
    moved = text.replace("at `$", f"at `$.{where}") if "at `$" in text else f"{text} - at `$.{where}`"
    return msgspec.ValidationError(moved)


def _fold(value: dict[str, Any], kind: Any) -> dict[str, Any]:
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return value
    names = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    unknown = [key for key in value if key not in names]
    if not unknown:
        return value
    folded = {name.lower(): name for name in names}
    found = {key: item for key, item in value.items() if key in names}
    for key in unknown:
        if (name := folded.get(key.lower())) is not None:
            found.setdefault(name, value[key])
    return found


def decode_config(body: dict[str, Any]) -> ContainerConfig:
    """A `ContainerConfig`; strings stand for lists where older clients send them."""
    body = _fold(body, ContainerConfig)
    for name in _STRINGS:
        if isinstance(body.get(name), str):
            body = {**body, name: [body[name]]}
    return convert(body, ContainerConfig)


def decode_create(data: bytes, version: Version = (1, 55)) -> CreateRequest:
    """The body of `POST /containers/create`."""
    body = plain_object(data, "container.CreateRequest")
    named = {key.lower(): key for key in body}
    host_plain, networking, mac = (
        body.pop(named.get(name.lower(), name), default)
        for name, default in (("HostConfig", {}), ("NetworkingConfig", {}), ("MacAddress", ""))
    )
    config = decode_config(body)
    host = _for_version(decode_host(host_plain, "HostConfig"), version)
    if not isinstance(networking, dict):
        raise InvalidArgument(
            "invalid JSON: json: cannot unmarshal into Go struct field .NetworkingConfig of type "
            "network.NetworkingConfig"
        )
    endpoints = convert(
        networking.get("EndpointsConfig", {}), dict[str, EndpointSettings], "NetworkingConfig.EndpointsConfig"
    )
    if version < (1, 44) and len(endpoints) > 1:
        raise InvalidArgument(
            f"Container cannot be created with multiple network endpoints: {', '.join(sorted(endpoints))}"
        )
    warnings = []
    if mac:
        if not isinstance(mac, str):
            raise InvalidArgument(
                "invalid JSON: json: cannot unmarshal into Go struct field .MacAddress of type string"
            )
        endpoints = _with_mac(endpoints, host.network_mode, mac)
        if version >= (1, 44):
            warnings.append(_MAC_WARNING)
    return CreateRequest(config, host, endpoints, warnings)


def decode_host(plain: Any, where: str = "") -> HostConfig:
    """A `HostConfig`, or a part of one."""
    if isinstance(plain, dict):
        plain = _fold(plain, HostConfig)
        _check_unsigned(plain, where)
        if isinstance(plain.get("ConsoleSize"), list) and not plain["ConsoleSize"]:
            plain = {key: value for key, value in plain.items() if key != "ConsoleSize"}
    return convert(plain, HostConfig, where)


def _check_unsigned(plain: dict[str, Any], where: str) -> None:
    """Numbers that Go keeps without a sign, or in sixteen bits; raises InvalidArgument."""
    found: list[tuple[str, Any, str, int]] = [("BlkioWeight", plain.get("BlkioWeight"), "uint16", 1 << 16)]
    for name, member, kind, end in _UNSIGNED_MEMBERS:
        for index, item in enumerate(plain[name] if isinstance(plain.get(name), list) else ()):
            value = item.get(member) if member and isinstance(item, dict) else item
            found.append((f"{name}.{index}.{member}".rstrip("."), value, kind, end))
    for place, value, kind, end in found:
        if isinstance(value, int) and not 0 <= value < end:
            place = f"{where}.{place}" if where else place
            raise InvalidArgument(
                f"invalid JSON: json: cannot unmarshal number {value} into Go struct field .{place} of type {kind}"
            )


def _for_version(host: HostConfig, version: Version) -> HostConfig:
    """What older API versions leave out, or mean where they say nothing."""
    changes: dict[str, Any] = {}
    if version < (1, 40) and not host.ipc_mode:
        changes["ipc_mode"] = "shareable"
    if version < (1, 41) and not host.cgroupns_mode:
        changes["cgroupns_mode"] = "host"
    if version < (1, 43):
        changes["annotations"] = None
    return msgspec.structs.replace(host, **changes) if changes else host


def _with_mac(endpoints: dict[str, EndpointSettings], mode: str, mac: str) -> dict[str, EndpointSettings]:
    """The older, container-wide address belongs to the network that the mode names."""
    if mode in ("", "default", "bridge"):
        mode = next((name for name in ("default", "bridge") if name in endpoints), "bridge")
    if mode in ("host", "none") or mode.startswith("container:"):
        raise InvalidArgument("conflicting options: mac-address and the network mode")
    wanted = endpoints.get(mode, EndpointSettings())
    if wanted.mac_address and wanted.mac_address != mac:
        raise InvalidArgument(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or "
            "be left empty"
        )
    return {**endpoints, mode: msgspec.structs.replace(wanted, mac_address=mac)}
