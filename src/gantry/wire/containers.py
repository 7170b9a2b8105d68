"""Containers in the Engine API's JSON: requests in, summaries and inspections out."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from gantry.errors import InvalidArgument
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, MountPoint, Phase
from gantry.model.network import Endpoint, EndpointSettings, Sandbox

_HEALTHLESS = "none"


def plain_object(data: bytes) -> dict[str, Any]:
    """A JSON object without its nulls; raises InvalidArgument with Docker's words."""
    if not data.strip():
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument("invalid JSON: a JSON object is expected")
    cleaned: dict[str, Any] = _without_nulls(value)
    return cleaned


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def convert(value: Any, kind: Any, what: str = "") -> Any:
    """Plain JSON into a struct; raises InvalidArgument that names the field."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidArgument(f"invalid JSON: {what + ': ' if what else ''}{error}") from error


def decode_create(data: bytes) -> tuple[ContainerConfig, HostConfig, dict[str, EndpointSettings]]:
    """The body of `POST /containers/create`."""
    body = plain_object(data)
    host_plain = body.pop("HostConfig", {})
    networking = convert(body.pop("NetworkingConfig", {}), dict[str, Any], "NetworkingConfig")
    mac = body.pop("MacAddress", "")
    for name in ("Cmd", "Entrypoint", "Shell"):
        if isinstance(body.get(name), str):
            body[name] = [body[name]] if body[name] else None
    config: ContainerConfig = convert({k: v for k, v in body.items() if v is not None}, ContainerConfig)
    if isinstance(host_plain, dict) and host_plain.get("MemorySwappiness") == -1:
        host_plain.pop("MemorySwappiness")
    for legacy in ("Links", "ConsoleSize"):
        if isinstance(host_plain, dict) and not host_plain.get(legacy):
            host_plain.pop(legacy, None)
    host: HostConfig = convert(host_plain, HostConfig, "HostConfig")
    endpoints: dict[str, EndpointSettings] = convert(
        networking.get("EndpointsConfig", {}), dict[str, EndpointSettings], "NetworkingConfig"
    )
    if mac:
        mode = host.network_mode or "default"
        wanted = endpoints.get(mode, EndpointSettings())
        endpoints = {**endpoints, mode: msgspec.structs.replace(wanted, mac_address=wanted.mac_address or mac)}
    return config, host, endpoints


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
        "Image": container.image_ref,
        "ImageID": container.image_id,
        "Command": " ".join((container.path, *container.args)),
        "Created": container.created_at // 1_000_000_000,
        "Ports": _ports(endpoints, container.config.exposed_ports or {}) if container.status.running else [],
        "Labels": container.config.labels or {},
        "State": str(container.status.phase),
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": container.host_config.network_mode},
        "NetworkSettings": {"Networks": _endpoints(container, endpoints)},
        "Mounts": [mount_point(mount) for mount in container.mounts],
    }
    if container.host_config.annotations and version >= (1, 46):
        answer["HostConfig"]["Annotations"] = container.host_config.annotations
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


def _endpoints(container: Container, endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
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
        found[name] = plain
    return found


def _bindings(endpoints: Mapping[str, Endpoint], exposed: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(exposed)
    for endpoint in endpoints.values():
        for port in endpoint.ports:
            key = f"{port.container_port}/{port.protocol}"
            found[key] = [*(found.get(key) or []), {"HostIp": port.host_ip, "HostPort": str(port.host_port)}]
    return found


def inspect(
    container: Container,
    endpoints: Mapping[str, Endpoint],
    sandbox: Sandbox | None,
    exec_ids: list[str],
    version: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """`GET /containers/{id}/json`."""
    status = container.status
    running = status.running
    state: dict[str, Any] = {
        "Status": str(status.phase),
        "Running": running,
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
    files = container.log_path.rpartition("/")[0]
    config: dict[str, Any] = msgspec.to_builtins(container.config)
    config["Image"] = container.image_ref
    config["Env"] = config["Env"] or []
    for name in ("Healthcheck", "StopSignal", "StopTimeout", "Shell", "ArgsEscaped", "NetworkDisabled", "ExposedPorts"):
        if not config[name]:
            config.pop(name)
    networks = _endpoints(container, endpoints)
    exposed = container.config.exposed_ports or {}
    settings: dict[str, Any] = {
        "SandboxID": container.id if running else "",
        "SandboxKey": sandbox.path if sandbox else "",
        "Ports": _bindings(endpoints, exposed) if running else {},
        "Networks": networks,
    }
    if version < (1, 52):
        bridge = networks.get("bridge", {})
        settings |= {
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
    answer: dict[str, Any] = {
        "Id": container.id,
        "Created": timestamp.rfc3339(container.created_at),
        "Path": container.path,
        "Args": list(container.args),
        "State": state,
        "Image": container.image_id,
        "ResolvConfPath": f"{files}/resolv.conf",
        "HostnamePath": f"{files}/hostname",
        "HostsPath": f"{files}/hosts",
        "LogPath": container.log_path,
        "Name": f"/{container.name}",
        "RestartCount": status.restart_count,
        "Driver": container.driver,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": exec_ids or None,
        "HostConfig": _host_config(container.host_config),
        "GraphDriver": {"Name": container.driver, "Data": {}},
        "Mounts": [mount_point(mount) for mount in container.mounts],
        "Config": config,
        "NetworkSettings": settings,
    }
    if size is not None:
        answer["SizeRw"], answer["SizeRootFs"] = size
    return answer


_EMPTY_LISTS = ("Dns", "DnsOptions", "DnsSearch", "BlkioWeightDevice", "Devices")


def _host_config(host: HostConfig) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(host)
    plain["PortBindings"] = plain["PortBindings"] or {}
    plain["ConsoleSize"] = plain["ConsoleSize"] or [0, 0]
    plain["LogConfig"]["Config"] = plain["LogConfig"]["Config"] or {}
    for name in _EMPTY_LISTS:
        plain[name] = plain[name] or []
    for name in ("Annotations", "StorageOpt", "Sysctls", "Tmpfs", "Mounts", "Init"):
        if not plain[name]:
            plain.pop(name)
    return plain
