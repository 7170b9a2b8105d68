"""System call filters: Docker's profile format, and the default list, become the runtime's `linux.seccomp`.

A profile's entries may depend on capabilities, architecture and kernel version (`includes`, `excludes`);
what remains after deciding them is what the OCI runtime specification knows.
"""

import functools
import json
from collections.abc import Collection
from typing import Any

from gantry.errors import InvalidArgument
from gantry.model.gojson import json_error
from gantry.runtime import seccomp_default

_MAX_PROFILE = 4 << 20
_PASSED_ON = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")


@functools.cache
def default_filter(architecture: str, kernel: tuple[int, int], capabilities: frozenset[str]) -> dict[str, Any]:
    """The built-in profile for a container with these capabilities on this machine."""
    calls: list[dict[str, Any]] = [{"names": seccomp_default.ALWAYS.split(), "action": "SCMP_ACT_ALLOW"}]
    for rule in seccomp_default.RULES:
        if (
            not capabilities.issuperset(rule.capabilities)
            or capabilities.intersection(rule.without)
            or (rule.architectures and architecture not in rule.architectures)
            or architecture in rule.not_architectures
            or (rule.min_kernel and kernel < _version(rule.min_kernel))
        ):
            continue
        call: dict[str, Any] = {"names": rule.calls.split(), "action": "SCMP_ACT_ALLOW"}
        if rule.errno:
            call.update(action="SCMP_ACT_ERRNO", errnoRet=rule.errno)
        if rule.argument:
            index, operator, value, second = rule.argument
            call["args"] = [{"index": index, "op": "SCMP_CMP_" + operator, "value": value, "valueTwo": second}]
        calls.append(call)
    names = seccomp_default.ARCHITECTURES.get(architecture, ())
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_" + name for name in names],
        "syscalls": calls,
    }


def compile_profile(
    text: str, architecture: str, kernel: tuple[int, int], capabilities: Collection[str]
) -> dict[str, Any] | None:
    """A user's profile (JSON, Docker's or the runtime specification's form) for this machine.

    None where it is empty; raises InvalidArgument with Docker's words.
    """
    profile = _decode(text)
    if not profile:
        return None
    result = {key: profile[key] for key in _PASSED_ON if profile.get(key) is not None}
    if "defaultAction" not in result:
        raise InvalidArgument("Decoding seccomp profile failed: defaultAction is missing")
    result["architectures"] = _architectures(profile, architecture)
    result["syscalls"] = [
        call
        for entry in _list(profile, "syscalls")
        if (call := _call(entry, architecture, kernel, capabilities)) is not None
    ]
    return result


def _decode(text: str) -> dict[str, Any]:
    if len(text) > _MAX_PROFILE:
        raise InvalidArgument("Decoding seccomp profile failed: the profile is too large")
    try:
        profile = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {json_error(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(profile, dict):
        raise InvalidArgument("Decoding seccomp profile failed: not a JSON object")
    return profile


def _architectures(profile: dict[str, Any], architecture: str) -> list[str]:
    plain, mapped = _list(profile, "architectures"), _list(profile, "archMap")
    if plain and mapped:
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    if plain:
        return [str(name) for name in plain]
    native = "SCMP_ARCH_" + next(iter(seccomp_default.ARCHITECTURES.get(architecture, ("",))))
    for entry in mapped:
        if isinstance(entry, dict) and entry.get("architecture") == native:
            return [native, *(str(name) for name in entry.get("subArchitectures") or ())]
    return []


def _call(
    entry: Any, architecture: str, kernel: tuple[int, int], capabilities: Collection[str]
) -> dict[str, Any] | None:
    if not isinstance(entry, dict):
        raise InvalidArgument("Decoding seccomp profile failed: an entry of syscalls is not an object")
    names = [str(name) for name in _list(entry, "names")]
    if single := entry.get("name"):
        if names:
            raise InvalidArgument(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
            )
        names = [str(single)]
    if not _applies(entry, architecture, kernel, capabilities):
        return None
    call: dict[str, Any] = {"names": names, "action": entry.get("action", "")}
    if entry.get("errnoRet") is not None:
        call["errnoRet"] = entry["errnoRet"]
    if arguments := _list(entry, "args"):
        call["args"] = arguments
    return call


def _applies(entry: dict[str, Any], architecture: str, kernel: tuple[int, int], capabilities: Collection[str]) -> bool:
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    if not isinstance(includes, dict) or not isinstance(excludes, dict):
        raise InvalidArgument("Decoding seccomp profile failed: includes and excludes are objects")
    if architecture in _list(excludes, "arches") or any(name in capabilities for name in _list(excludes, "caps")):
        return False
    if (bound := excludes.get("minKernel")) and kernel >= _version(bound):
        return False
    if (wanted := _list(includes, "arches")) and architecture not in wanted:
        return False
    if any(name not in capabilities for name in _list(includes, "caps")):
        return False
    bound = includes.get("minKernel")
    return not bound or kernel >= _version(bound)


def _list(record: dict[str, Any], key: str) -> list[Any]:
    value = record.get(key) or []
    if not isinstance(value, list):
        raise InvalidArgument(f"Decoding seccomp profile failed: {key} is not a list")
    return value


def _version(text: Any) -> tuple[int, int]:
    parts = str(text).split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InvalidArgument(f"Decoding seccomp profile failed: invalid kernel version: {text}")
    return int(parts[0]), int(parts[1])
