"""`/version`, `/info`, `/events` and `/_gantry/*` as JSON documents."""

import platform
from typing import Any

from gantry import API_VERSION, MIN_API_VERSION, __version__
from gantry.model.event import Event

# What a client before API 1.52 finds beside `Actor`: `status`, `id`, `from`.
_MODERN_EVENTS = (1, 52)
_LEGACY_TYPES = ("container", "image")


def version(architecture: str, kernel: str, components: list[tuple[str, str, dict[str, str]]]) -> dict[str, Any]:
    """`SystemVersion`; the first component is the engine itself."""
    python = f"python{platform.python_version()}"
    engine = {
        "Name": "Engine",
        "Version": __version__,
        "Details": {
            "ApiVersion": API_VERSION,
            "Arch": architecture,
            "BuildTime": "",
            "Experimental": "false",
            "GitCommit": "",
            "GoVersion": python,
            "KernelVersion": kernel,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
        },
    }
    return {
        "Platform": {"Name": "Gantry"},
        "Components": [
            engine,
            *({"Name": name, "Version": release, "Details": details} for name, release, details in components),
        ],
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": python,
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": kernel,
        "BuildTime": "",
    }


def registry_config(insecure: tuple[str, ...], mirrors: tuple[str, ...]) -> dict[str, Any]:
    """`RegistryServiceConfig`: loopback is always insecure, networks stand apart from names."""
    networks = [entry for entry in insecure if "/" in entry and "://" not in entry]
    names = [entry.rpartition("://")[2] for entry in insecure if entry not in networks]
    configs = {name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False} for name in names}
    configs["docker.io"] = {"Name": "docker.io", "Mirrors": list(mirrors), "Secure": True, "Official": True}
    return {
        "IndexConfigs": configs,
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *networks],
        "Mirrors": list(mirrors) or None,
    }


def runtimes(found: dict[str, tuple[str, tuple[str, ...], str, str]]) -> dict[str, Any]:
    """`Runtimes` of (path, arguments, version, problem) by name."""
    answer: dict[str, Any] = {}
    for name, (path, arguments, release, problem) in found.items():
        status = {"io.gantry.version": release} | ({"io.gantry.problem": problem} if problem else {})
        answer[name] = {"path": path} | ({"runtimeArgs": list(arguments)} if arguments else {}) | {"status": status}
    return answer


def event(found: Event, api_version: tuple[int, int]) -> dict[str, Any]:
    """`EventMessage`."""
    message: dict[str, Any] = {
        "Type": found.type,
        "Action": found.action,
        "Actor": {"ID": found.actor_id, "Attributes": found.attributes},
        "scope": found.scope,
        "time": found.time // 1_000_000_000,
        "timeNano": found.time,
    }
    if api_version >= _MODERN_EVENTS or found.type not in _LEGACY_TYPES:
        return message
    legacy = {"status": found.action, "id": found.actor_id}
    if found.type == "container" and (image := found.attributes.get("image")):
        legacy["from"] = image
    return legacy | message


def trace(name: str, duration: int, spans: list[tuple[str, int, int, int]]) -> dict[str, Any]:
    """One trace of (name, start, duration, depth) spans in nanoseconds, as microseconds."""
    return {
        "name": name,
        "duration_us": duration // 1000,
        "spans": [
            {"name": span, "start_us": start // 1000, "duration_us": length // 1000, "depth": depth}
            for span, start, length, depth in spans
        ],
    }
