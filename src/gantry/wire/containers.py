"""Containers in the Engine API's JSON: summaries, inspections, statistics."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gantry.model import timestamp
from gantry.model.container import Container, HostConfig, MountPoint, Phase
from gantry.model.defaults import MASKED_PATHS, READONLY_PATHS
from gantry.model.network import Endpoint

_HEALTHLESS = "none"
_ALIASES_ALONE = (1, 45)
_MANIFEST_SINCE = (1, 48)
_PREDEFINED = ("bridge", "host", "none")


def human_duration(seconds: float) -> str:
    """Docker's words for a length of time."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def status_text(container: Container) -> str:
    """The STATUS column of `ps`."""
    status = container.status
    now = timestamp.now()
    if status.phase == Phase.CREATED:
        return "Created"
    if status.phase == Phase.REMOVING:
        return "Removal In Progress"
    if status.phase == Phase.DEAD:
        return "Dead"
    if status.phase == Phase.RESTARTING:
        return f"Restarting ({status.exit_code}) {human_duration((now - status.finished_at) / 1e9)} ago"
    if status.phase == Phase.EXITED:
        return f"Exited ({status.exit_code}) {human_duration((now - status.finished_at) / 1e9)} ago"
    up = f"Up {human_duration((now - status.started_at) / 1e9)}"
    if status.phase == Phase.PAUSED:
        return up + " (Paused)"
    health = (status.health or {}).get("Status", "")
    if health == "starting":
        return up + " (health: starting)"
    return f"{up} ({health})" if health not in ("", _HEALTHLESS) else up


def _ports(endpoints: Mapping[str, Endpoint], exposed: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    published: set[str] = set()
    for endpoint in endpoints.values():
        for port in endpoint.ports:
            published.add(f"{port.container_port}/{port.protocol}")
            listed.append(
                {
                    "IP": port.host_ip,
                    "PrivatePort": port.container_port,
                    "PublicPort": port.host_port,
                    "Type": port.protocol,
                }
            )
    for name in exposed:
        number, _, protocol = name.partition("/")
        if name not in published and number.isdecimal():
            listed.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
    return listed


def summary(
    container: Container,
    endpoints: Mapping[str, Endpoint],
    version: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """One line of `GET /containers/json`."""
    answer: dict[str, Any] = {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": container.image_ref or container.image_id,
        "ImageID": container.image_id,
        "Command": " ".join((container.path, *(f"'{word}'" if " " in word else word for word in container.args))),
        "Created": container.created_at // 1_000_000_000,
        "Ports": _ports(endpoints, container.config.exposed_ports or {}) if endpoints else [],
        "Labels": container.config.labels or {},
        "State": str(container.status.phase),
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": container.host_config.network_mode},
        "NetworkSettings": {"Networks": _endpoints(container, endpoints, _ALIASES_ALONE)},
        "Mounts": [mount_point(mount) for mount in container.mounts],
    }
    if container.host_config.annotations and version >= (1, 46):
        answer["HostConfig"]["Annotations"] = container.host_config.annotations
    if container.image_manifest and version >= _MANIFEST_SINCE:
        answer["ImageManifestDescriptor"] = container.image_manifest
    if version >= (1, 52):
        health = container.status.health or {}
        answer["Health"] = {
            "Status": health.get("Status", _HEALTHLESS), "FailingStreak": health.get("FailingStreak", 0)
        }  # fmt: skip
    if size is not None:
        answer["SizeRw"], answer["SizeRootFs"] = size
    return answer


def mount_point(mount: MountPoint) -> dict[str, Any]:
    answer: dict[str, Any] = {"Type": mount.type}
    if mount.name:
        answer["Name"] = mount.name
    return answer | {
        "Source": mount.source,
        "Destination": mount.destination,
        **({"Driver": mount.driver} if mount.driver else {}),
        "Mode": mount.mode,
        "RW": mount.read_write,
        "Propagation": mount.propagation,
    }


def _endpoints(container: Container, endpoints: Mapping[str, Endpoint], version: tuple[int, int]) -> dict[str, Any]:
    """By network; before API 1.45 the container's id and host name are among its aliases."""
    found: dict[str, Any] = {}
    for name, settings in container.networks.items():
        plain: dict[str, Any] = msgspec.to_builtins(settings)
        if (made := endpoints.get(name)) is not None:
            plain |= {
                "NetworkID": made.network_id,
                "EndpointID": made.endpoint_id,
                "Gateway": made.gateway,
                "IPAddress": made.ip_address,
                "IPPrefixLen": made.ip_prefix_len,
                "IPv6Gateway": made.ipv6_gateway,
                "GlobalIPv6Address": made.ipv6_address,
                "GlobalIPv6PrefixLen": made.ipv6_prefix_len,
                "MacAddress": made.mac_address,
            }
            if name not in _PREDEFINED:
                own = [container.id[:12], *([container.config.hostname] if container.config.hostname else [])]
                names = list(dict.fromkeys((*(settings.aliases or ()), *own)))
                plain["DNSNames"] = list(dict.fromkeys((container.name, *names)))
                if version < _ALIASES_ALONE:
                    plain["Aliases"] = names
        found[name] = plain
    return found


def _bindings(endpoints: Mapping[str, Endpoint], exposed: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {(name if "/" in name else f"{name}/tcp"): None for name in exposed}
    for endpoint in endpoints.values():
        for port in endpoint.ports:
            key = f"{port.container_port}/{port.protocol}"
            found[key] = [*(found.get(key) or []), {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")}]
    return found


def _state(container: Container) -> dict[str, Any]:
    status = container.status
    state: dict[str, Any] = {
        "Status": str(status.phase),
        "Running": status.running,
        "Paused": status.phase == Phase.PAUSED,
        "Restarting": status.phase == Phase.RESTARTING,
        "OOMKilled": status.oom_killed,
        "Dead": status.phase == Phase.DEAD,
        "Pid": status.pid if status.phase in (Phase.RUNNING, Phase.PAUSED) else 0,
        "ExitCode": status.exit_code,
        "Error": status.error,
        "StartedAt": timestamp.rfc3339(status.started_at),
        "FinishedAt": timestamp.rfc3339(status.finished_at),
    }
    if status.health is not None:
        state["Health"] = status.health
    return state


def _network_settings(
    container: Container, endpoints: Mapping[str, Endpoint], version: tuple[int, int]
) -> dict[str, Any]:
    live = container.status.phase in (Phase.RUNNING, Phase.PAUSED)
    networks = _endpoints(container, endpoints, version)
    settings: dict[str, Any] = {
        "SandboxID": container.id if live and container.sandbox is not None else "",
        "SandboxKey": container.sandbox.path if live and container.sandbox is not None else "",
        "Ports": _bindings(endpoints, container.config.exposed_ports or {}) if live and endpoints else {},
        "Networks": networks,
    }
    if version >= (1, 52):
        return settings
    bridge = networks.get("bridge", {})
    return settings | {
        "Bridge": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": bridge.get("EndpointID", ""),
        "Gateway": bridge.get("Gateway", ""),
        "GlobalIPv6Address": bridge.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": bridge.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": bridge.get("IPAddress", ""),
        "IPPrefixLen": bridge.get("IPPrefixLen", 0),
        "IPv6Gateway": bridge.get("IPv6Gateway", ""),
        "MacAddress": bridge.get("MacAddress", ""),
    }


# Left out where they say nothing, as Docker leaves them out.
_OMITTED_CONFIG = (
    "Healthcheck", "StopSignal", "StopTimeout", "Shell", "ArgsEscaped", "NetworkDisabled", "ExposedPorts",
)  # fmt: skip
_OMITTED_HOST = ("Annotations", "StorageOpt", "Sysctls", "Tmpfs", "Mounts")


def inspect(
    container: Container,
    endpoints: Mapping[str, Endpoint],
    exec_ids: list[str],
    version: tuple[int, int],
    size: tuple[int, int] | None = None,
    *,
    directory: str,
    graph: Mapping[str, str],
    apparmor: str = "",
) -> dict[str, Any]:
    """`GET /containers/{id}/json`; `directory` is the container's own, `graph` tells of its snapshot's.

    `apparmor` is the profile that confines it.
    """
    config: dict[str, Any] = msgspec.to_builtins(container.config)
    config["Image"] = container.image_ref
    for name in _OMITTED_CONFIG:
        if not config[name] and not (name == "StopTimeout" and config[name] == 0):
            config.pop(name)
    answer: dict[str, Any] = {
        "Id": container.id,
        "Created": timestamp.rfc3339(container.created_at),
        "Path": container.path,
        "Args": list(container.args),
        "State": _state(container),
        "Image": container.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
        "LogPath": container.log_path if container.host_config.log_config.type == "json-file" else "",
        "Name": f"/{container.name}",
        "RestartCount": container.status.restart_count,
        "Driver": container.driver,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": apparmor,
        "ExecIDs": exec_ids or None,
        "HostConfig": _host_config(container.host_config),
        "GraphDriver": {"Name": container.driver, "Data": dict(graph)},
        "Mounts": [mount_point(mount) for mount in container.mounts],
        "Config": config,
        "NetworkSettings": _network_settings(container, endpoints, version),
    }
    if container.image_manifest and version >= _MANIFEST_SINCE:
        answer["ImageManifestDescriptor"] = container.image_manifest
    if size is not None:
        answer["SizeRw"], answer["SizeRootFs"] = size
    return answer


def _host_config(host: HostConfig) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(host)
    plain["ConsoleSize"] = plain["ConsoleSize"] or [0, 0]
    plain["LogConfig"]["Config"] = plain["LogConfig"]["Config"] or {}
    if not host.privileged:
        if host.masked_paths is None:
            plain["MaskedPaths"] = list(MASKED_PATHS)
        if host.readonly_paths is None:
            plain["ReadonlyPaths"] = list(READONLY_PATHS)
    for name in _OMITTED_HOST:
        if not plain[name]:
            plain.pop(name)
    if plain["Init"] is None:
        plain.pop("Init")
    return plain


_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_NO_BLOCKS = dict.fromkeys(
    f"{name}_recursive"
    for name in (
        "io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time",
        "sectors",
    )
)  # fmt: skip


def stats(container: Container, numbers: Mapping[str, Any], at: int) -> dict[str, Any]:
    """One sample of `GET /containers/{id}/stats`; `numbers` is empty where nothing runs, `at` nanoseconds."""
    return {
        "name": f"/{container.name}",
        "id": container.id,
        "os_type": "linux",
        "read": timestamp.rfc3339(at) if numbers else timestamp.ZERO,
        "preread": timestamp.ZERO,
        "pids_stats": {},
        "blkio_stats": _NO_BLOCKS,
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _NO_CPU,
        "precpu_stats": _NO_CPU,
        "memory_stats": {},
        **numbers,
    }
