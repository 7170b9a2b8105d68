"""Values of --mount, --volume and --tmpfs."""

from __future__ import annotations

import os

from gantry.cli.errors import StartError
from gantry.cli.flags import csv_fields, to_bool
from gantry.cli.units import ram_in_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_BARE = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
_RECURSIVE = {
    "enabled": "",
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}


def mount(text: str) -> dict[str, Any]:
    """A Mount of the Engine API from one --mount; raises ValueError in Docker's words."""
    if not text:
        raise ValueError("EOF")
    result: dict[str, Any] = {"Type": "volume"}
    for field in csv_fields(text):
        key, equals, rest = field.partition("=")
        key = key.lower()
        if not equals and key not in _BARE:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        _set_field(result, key, rest if equals else "true", field)
    _check(result)
    return result


def _set_field(result: dict[str, Any], key: str, text: str, field: str) -> None:
    if key == "type":
        result["Type"] = text.lower()
    elif key in ("source", "src"):
        result["Source"] = os.path.abspath(text) if text == "." or text.startswith("./") else text
    elif key in ("target", "dst", "destination"):
        result["Target"] = text
    elif key in ("readonly", "ro"):
        result["ReadOnly"] = _boolean(key, text)
    elif key == "consistency":
        result["Consistency"] = text.lower()
    elif key.startswith("bind-"):
        _bind(result, key, text, field)
    elif key.startswith("volume-"):
        _volume(result, key, text, field)
    elif key == "image-subpath":
        result.setdefault("ImageOptions", {})["Subpath"] = text
    elif key == "tmpfs-size":
        try:
            result.setdefault("TmpfsOptions", {})["SizeBytes"] = ram_in_bytes(text)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {text}") from None
    elif key == "tmpfs-mode":
        if not text or any(char not in "01234567" for char in text) or int(text, 8) >= 1 << 32:
            raise ValueError(f"invalid value for {key}: {text}")
        result.setdefault("TmpfsOptions", {})["Mode"] = int(text, 8)
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _boolean(key: str, text: str) -> bool:
    try:
        return to_bool(text)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {text}") from None


def _bind(result: dict[str, Any], key: str, text: str, field: str) -> None:
    options = result.setdefault("BindOptions", {})
    if key == "bind-propagation":
        options["Propagation"] = text.lower()
    elif key == "bind-nonrecursive":
        options["NonRecursive"] = _boolean(key, text)
    elif key == "bind-recursive":
        if text not in _RECURSIVE:
            raise ValueError(
                f'invalid value for {key}: {text} (must be "enabled", "disabled", "writable", or "readonly")'
            )
        if _RECURSIVE[text]:
            options[_RECURSIVE[text]] = True
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _volume(result: dict[str, Any], key: str, text: str, field: str) -> None:
    options = result.setdefault("VolumeOptions", {})
    name, _, rest = text.partition("=")
    if key == "volume-subpath":
        options["Subpath"] = text
    elif key == "volume-nocopy":
        options["NoCopy"] = _boolean(key, text)
    elif key == "volume-label":
        if name:
            options.setdefault("Labels", {})[name] = rest
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = text
    elif key == "volume-opt":
        if name:
            options.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = rest
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _check(result: dict[str, Any]) -> None:
    kind = result["Type"]
    if not kind:
        raise ValueError("type is required")
    if not result.get("Target"):
        raise ValueError("target is required")
    for prefix in ("volume", "bind", "image", "tmpfs"):
        if prefix.capitalize() + "Options" in result and kind != prefix:
            raise ValueError(f"cannot mix '{prefix}-*' options with mount type '{kind}'")
    bind = result.get("BindOptions") or {}
    if bind.get("ReadOnlyNonRecursive") and not result.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive"):
        if not result.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )


def volumes(texts: Sequence[str]) -> tuple[list[str], dict[str, object]]:
    """(Binds, Volumes) of --volume: what has a source is a bind, the rest are anonymous volumes."""
    binds: list[str] = []
    anonymous: dict[str, object] = {}
    for text in texts:
        source = _volume_source(text)
        if not source:
            anonymous[text] = {}
        elif source[0] == ".":
            binds.append(os.path.abspath(source) + text[len(source) :])
        else:
            binds.append(text)
    return list(dict.fromkeys(binds)), anonymous


def _volume_source(text: str) -> str:
    """The part before the first colon, "" where there is none; raises StartError for empty or further parts."""
    if not text:
        raise StartError("invalid empty volume spec")
    if len(text) <= 2:
        return ""
    parts = text.split(":")
    if len(parts) > 1 and len(parts[0]) == 1 and parts[0].isalpha():  # Docker takes one letter for a Windows drive
        parts[:2] = [":".join(parts[:2])]
    if "" in parts:
        raise StartError(f"invalid spec: {text}: empty section between colons")
    if len(parts) > 3:
        raise StartError(f"invalid spec: {text}: too many colons")
    return parts[0] if len(parts) > 1 else ""


def tmpfs(texts: Sequence[str]) -> dict[str, str]:
    return {path: options for path, _, options in (text.partition(":") for text in texts)}
