"""Capabilities and `--security-opt` of a container."""

from collections.abc import Sequence

import msgspec

from gantry.errors import InvalidArgument
from gantry.linux.capabilities import NAMES
from gantry.runtime import defaults


class SecurityOptions(msgspec.Struct, frozen=True):
    """`seccomp` is "" for the built-in filter, "unconfined", or a profile's JSON text."""

    seccomp: str = ""
    apparmor: str = ""
    no_new_privileges: bool = False
    system_paths_unconfined: bool = False
    writable_cgroups: bool = False


def parse_security_options(options: Sequence[str]) -> SecurityOptions:
    """Raises InvalidArgument ("invalid --security-opt 2: …") for what is unknown. SELinux labels are accepted."""
    found: dict[str, str | bool] = {}
    for option in options:
        if option == "no-new-privileges":
            found["no_new_privileges"] = True
            continue
        separator = "=" if "=" in option else ":"  # the colon is an old spelling
        key, used, value = option.partition(separator)
        if not used:
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        match key:
            case "label":
                continue
            case "apparmor":
                found["apparmor"] = value
            case "seccomp":
                found["seccomp"] = "" if value == "builtin" else value
            case "no-new-privileges":
                found["no_new_privileges"] = _boolean(option, value)
            case "writable-cgroups":
                found["writable_cgroups"] = _boolean(option, value)
            case "systempaths" if value == "unconfined":
                found["system_paths_unconfined"] = True
            case _:
                raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
    return msgspec.convert(found, SecurityOptions)


def _boolean(option: str, value: str) -> bool:
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise InvalidArgument(f'invalid --security-opt 2: "{option}"')


def capabilities(
    *, privileged: bool, add: Sequence[str] | None, drop: Sequence[str] | None, available: Sequence[str]
) -> tuple[str, ...]:
    """The capabilities of a container's processes, in the kernel's order, never more than are `available`."""
    added, dropped = _normal("CapAdd", add), _normal("CapDrop", drop)
    if privileged:
        wanted = set(available)
    elif "ALL" in added:
        wanted = set(available) - set(dropped) if "ALL" not in dropped else set(available)
    elif "ALL" in dropped:
        wanted = set(added)
    else:
        wanted = (set(defaults.CAPABILITIES) - set(dropped)) | set(added)
    return tuple(name for name in available if name in wanted)


def _normal(field: str, names: Sequence[str] | None) -> list[str]:
    result = []
    for given in names or ():
        name = given.strip().upper()
        if name != "ALL":
            name = name if name.startswith("CAP_") else "CAP_" + name
            if name not in NAMES:
                raise InvalidArgument(f'invalid {field}: unknown capability: "{name}"')
        result.append(name)
    return result
