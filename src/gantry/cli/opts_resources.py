"""Values of resource and device options: ulimits, block devices, devices, GPUs, CPUs."""

from __future__ import annotations

from gantry.cli.errors import StartError
from gantry.cli.flags import csv_fields, quote
from gantry.cli.units import ram_in_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ULIMITS = (
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()  # noqa: SIM905
)
_SYSCTLS = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)


def ulimit(text: str) -> dict[str, Any]:
    """`name=soft[:hard]`, -1 for unlimited; raises ValueError in go-units' words."""
    name, equals, rest = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = rest.split(":")
    if len(parts) > 2:
        raise ValueError(f"too many limit value arguments - {rest}, can only have up to two, `soft[:hard]`")
    numbers = [_limit(part) for part in parts]
    soft, hard = numbers[0], numbers[-1]
    if hard != -1:
        if soft == -1:
            raise ValueError(
                f"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            )
        if soft > hard:
            raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Soft": soft, "Hard": hard}


def _limit(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    return int(text)


def cpus(text: str) -> int:
    """Billionths of a CPU: "1.5", "1/2"; raises ValueError."""
    from fractions import Fraction

    try:
        nano = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    return int(nano)


def weight_device(text: str) -> dict[str, Any]:
    """`/dev/sda:500`."""
    path, number = _device_value(text)
    if not number.isdecimal() or not (int(number) == 0 or 10 <= int(number) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(number)}


def rate_bytes(text: str) -> dict[str, Any]:
    """`/dev/sda:1mb`."""
    path, number = _device_value(text)
    try:
        rate = ram_in_bytes(number)
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None
    return {"Path": path, "Rate": rate}


def rate_operations(text: str) -> dict[str, Any]:
    """`/dev/sda:1000`."""
    path, number = _device_value(text)
    if not (number.isascii() and number.isdecimal()):
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(number)}


def _device_value(text: str) -> tuple[str, str]:
    path, colon, number = text.partition(":")
    if not colon or not path or ":" in number:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, number


def cgroup_rule(text: str) -> str:
    """`c 1:3 rwm`; raises ValueError."""
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    good = kind in ("a", "b", "c") and colon and 1 <= len(access) <= 3 and all(letter in "rwm" for letter in access)
    if not good or not all(number == "*" or number.isdecimal() for number in (major, minor)):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def gpus(text: str) -> dict[str, Any]:
    """A DeviceRequest from --gpus; raises ValueError in Docker's words."""
    request: dict[str, Any] = {}
    seen: set[str] = set()
    for field in csv_fields(text):
        key, equals, rest = field.partition("=")
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not equals:
            seen.add("count")
            request["Count"] = _count(key)
        elif key == "driver":
            request["Driver"] = rest
        elif key == "count":
            request["Count"] = _count(rest)
        elif key == "device":
            request["DeviceIDs"] = rest.split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*rest.split(","), "gpu"]]
        elif key == "options":
            request["Options"] = dict(option.partition("=")[::2] for option in csv_fields(rest))
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "count" not in seen and "DeviceIDs" not in request:
        request["Count"] = 1
    request.setdefault("Options", {})
    request.setdefault("Capabilities", [["gpu"]])
    return request


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return int(text)
    except ValueError:
        words = f'invalid count ({text}): value must be either "all" or an integer: invalid syntax'
        raise ValueError(words) from None


def devices(texts: Sequence[str]) -> tuple[list[dict[str, str]], list[str]]:
    """(Devices, qualified CDI names) of --device; raises StartError."""
    plain: list[dict[str, str]] = []
    named: list[str] = []
    for text in texts:
        if _is_cdi_name(text):
            named.append(text)
        else:
            plain.append(_device(text))
    return plain, named


def _is_cdi_name(text: str) -> bool:
    kind, equals, name = text.partition("=")
    vendor, slash, group = kind.partition("/")
    return bool(vendor and slash and group and equals and name) and "/" not in group and ":" not in kind


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise StartError(f"bad format for path: {text}")
    source, target, access = parts[0], parts[0], "rwm"
    if len(parts) == 2:
        if _is_access(parts[1]):
            access = parts[1]
        else:
            target = parts[1]
    elif len(parts) == 3:
        target, access = parts[1], parts[2]
        if not _is_access(access):
            raise StartError(f"bad mode specified: {access}")
    if not target.startswith("/"):
        raise StartError(f"{target} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access}


def _is_access(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and set(text) <= set("rwm")


def sysctl(text: str) -> str:
    """`name=value` of a namespaced setting; raises ValueError."""
    name, equals, _ = text.partition("=")
    if equals and (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed")
