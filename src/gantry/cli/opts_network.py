"""Values of --network and the options that belong to the first network."""

from __future__ import annotations

from gantry.cli.errors import StartError
from gantry.cli.flags import csv_fields, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments

_PREDEFINED = ("default", "bridge", "host", "none")
_HEX = "0123456789abcdefABCDEF"


def network(text: str) -> dict[str, Any]:
    """One --network as {"Target", and endpoint settings}; raises ValueError in Docker's words.

    The long notation is `name=NET,alias=A,ip=1.2.3.4,driver-opt=k=v,...`.
    """
    if not _is_long(text):
        return {"Target": text}
    result: dict[str, Any] = {"Target": ""}
    for field in csv_fields(text):
        key, equals, rest = field.lower().partition("=")
        key, rest = key.strip(), rest.strip()
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        if key == "name":
            result["Target"] = rest
        elif key == "alias":
            result.setdefault("Aliases", []).append(rest)
        elif key == "ip":
            result["IPv4Address"] = rest
        elif key == "ip6":
            result["IPv6Address"] = rest
        elif key == "mac-address":
            result["MacAddress"] = rest
        elif key == "link-local-ip":
            result.setdefault("LinkLocalIPs", []).append(rest)
        elif key == "driver-opt":
            option, mark, given = rest.partition("=")
            if not mark or not option:
                raise ValueError("invalid key value pair format in driver options")
            result.setdefault("DriverOpts", {})[option.strip().lower()] = given.strip()
        elif key == "gw-priority":
            result["GwPriority"] = _priority(rest)
        else:
            raise ValueError(f"invalid field key {key}")
    if not result["Target"]:
        raise ValueError("network name/id is not specified")
    return result


def _is_long(text: str) -> bool:
    """Whether a word character stands on both sides of some equals sign."""
    place = text.find("=")
    while place >= 0:
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        if (before.isalnum() or before == "_") and (after.isalnum() or after == "_"):
            return True
        place = text.find("=", place + 1)
    return False


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"invalid gw-priority ({text}): invalid syntax") from None


def user_defined(mode: str) -> bool:
    return mode not in _PREDEFINED and not mode.startswith("container:")


def mode(args: Arguments) -> str:
    """HostConfig.NetworkMode: the first network."""
    networks = args["network"] or args["net"]
    return networks[0]["Target"] if networks else "default"


def endpoints(args: Arguments) -> dict[str, dict[str, Any]]:
    """NetworkingConfig.EndpointsConfig; raises StartError for options that do not go together."""
    networks = [dict(entry) for entry in [*args["network"], *args["net"]]] or [{"Target": "default"}]
    _apply_container_options(networks[0], args)
    result: dict[str, dict[str, Any]] = {}
    for entry in networks:
        target = entry["Target"]
        if target in result:
            raise StartError(f"network {quote(target)} is specified multiple times")
        result[target] = _endpoint(entry)
    if len({user_defined(name) for name in result}) > 1:
        raise StartError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return result


def _apply_container_options(entry: dict[str, Any], args: Arguments) -> None:
    for key, given, option, own in (
        ("Aliases", args.strings("network-alias") + args.strings("net-alias"), "--network-alias", "alias"),
        ("IPv4Address", args.string("ip"), "--ip", "IPv4 address"),
        ("IPv6Address", args.string("ip6"), "--ip6", "IPv6 address"),
        ("MacAddress", args.string("mac-address"), "--mac-address", "MAC address"),
        ("LinkLocalIPs", args.strings("link-local-ip"), "--link-local-ip", "link-local IP addresses"),
    ):
        if given:
            if entry.get(key):
                raise StartError(f"conflicting options: cannot specify both {option} and per-network {own}")
            entry[key] = given
    if user_defined(entry["Target"]) and args["link"]:
        entry["Links"] = args.strings("link")


def _endpoint(entry: dict[str, Any]) -> dict[str, Any]:
    target = entry["Target"]
    if not target.strip():
        raise StartError("no name set for network")
    if not user_defined(target):
        if entry.get("Aliases"):
            raise StartError("network-scoped aliases are only supported for user-defined networks")
        if entry.get("Links"):
            raise StartError("links are only supported for user-defined networks")
    settings = {key: entry[key] for key in ("Aliases", "DriverOpts", "Links", "GwPriority") if entry.get(key)}
    ipam = {key: entry[key] for key in ("IPv4Address", "IPv6Address", "LinkLocalIPs") if entry.get(key)}
    if ipam:
        settings["IPAMConfig"] = ipam
    if entry.get("MacAddress"):
        settings["MacAddress"] = check_mac(entry["MacAddress"])
    return settings


def check_mac(text: str) -> str:
    """A hardware address as Go's net.ParseMAC takes it; raises StartError."""
    text = text.strip()
    for mark, size in ((":", 2), ("-", 2), (".", 4)):
        parts = text.split(mark)
        if len(parts) * size // 2 in (6, 8, 20) and all(len(p) == size and all(c in _HEX for c in p) for p in parts):
            return text
    raise StartError(f"{text} is not a valid mac address")
