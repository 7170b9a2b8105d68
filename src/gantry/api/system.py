"""`/_ping`, `/version`, `/info`, `/events`, `/auth`, and Gantry's own `/_gantry/*`."""

from typing import Any

import msgspec
from aiohttp import web

from gantry import __version__
from gantry.api.answers import json_answer
from gantry.api.event_filter import EventFilter
from gantry.api.query import filters
from gantry.api.routing import Route, api_version
from gantry.engine.system import Info, System
from gantry.errors import InvalidArgument, Unsupported
from gantry.ports import Events
from gantry.wire import system as wire

_PING_HEADERS = {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}
_SEQUENCE, _LINES = "application/json-seq", ("application/jsonl", "application/x-ndjson")
_NO_PLUGINS: dict[str, Any] = {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": None}


_IMAGE_CREATE = (1, 46)  # the first API version with the event of a built image


def routes(system: System, events: Events, log_drivers: tuple[str, ...] = ("json-file",)) -> list[Route]:
    handlers = _Handlers(system, events, log_drivers)
    return [
        Route("GET", "/_ping", handlers.ping),
        Route("HEAD", "/_ping", handlers.ping),
        Route("GET", "/version", handlers.version),
        Route("GET", "/info", handlers.info),
        Route("GET", "/events", handlers.events),
        Route("POST", "/auth", handlers.auth),
        Route("GET", "/_gantry/traces", handlers.traces),
        Route("GET", "/_gantry/check", handlers.check),
    ]


class _Handlers:
    def __init__(self, system: System, events: Events, log_drivers: tuple[str, ...]) -> None:
        self._system = system
        self._events = events
        self._log_drivers = log_drivers

    async def ping(self, request: web.Request) -> web.Response:
        text = "" if request.method == "HEAD" else "OK"
        return web.Response(text=text, headers=_PING_HEADERS)

    async def version(self, _: web.Request) -> web.Response:
        host = self._system.host
        components = [(part.name, part.version, part.details) for part in await self._system.components()]
        return json_answer(wire.version(host.architecture, host.kernel_version, components))

    async def info(self, request: web.Request) -> web.Response:
        return json_answer(_info(await self._system.info(), self._log_drivers, api_version(request)))

    async def auth(self, _: web.Request) -> web.Response:
        raise Unsupported("login is not supported: this daemon has no registry client yet")

    async def traces(self, _: web.Request) -> web.Response:
        return json_answer(
            [
                wire.trace(
                    found.name,
                    found.ended - found.began,
                    [(span.name, span.start, span.duration, span.depth) for span in found.spans],
                )
                for found in self._system.traces()
            ]
        )

    async def check(self, _: web.Request) -> web.Response:
        return json_answer({"parts": await self._system.check()})

    async def events(self, request: web.Request) -> web.StreamResponse:
        since, until = _moment(request, "since"), _moment(request, "until")
        if since and until and since > until:
            raise InvalidArgument(
                f"`since` time ({request.query['since']}) cannot be after `until` time ({request.query['until']})"
            )
        wanted = EventFilter(filters(request))
        kind, before, after = _form(request)
        response = web.StreamResponse(headers={"Content-Type": kind})
        async with self._events.subscribe(since, until) as found:
            await response.prepare(request)
            await response.write(b"")
            version = api_version(request)
            async for event in found:
                if wanted(event) and (version >= _IMAGE_CREATE or (event.type, event.action) != ("image", "create")):
                    await response.write(before + msgspec.json.encode(wire.event(event, version)) + after)
        await response.write_eof()
        return response


def _form(request: web.Request) -> tuple[str, bytes, bytes]:
    """Content type, and what stands around each event; from API 1.52 on the client chooses."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("Accept", "").split(",")]
    if _SEQUENCE in accepted:
        return _SEQUENCE, b"\x1e", b"\n"
    for kind in _LINES:
        if kind in accepted:
            return kind, b"", b"\n"
    return ("application/json" if api_version(request) < (1, 52) else _LINES[0]), b"", b"\n"


def _moment(request: web.Request, name: str) -> int:
    """A Unix time with an optional fraction, as nanoseconds; 0 where it is not given."""
    text = request.query.get(name, "")
    if not text:
        return 0
    seconds, _, fraction = text.partition(".")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 12 and (not fraction or fraction.isdigit())):
        raise InvalidArgument(f'strconv.ParseInt: parsing "{seconds}": invalid syntax')
    # 0 is a moment as well, but means "none" inside
    return int(seconds) * 1_000_000_000 + int((fraction + "0" * 9)[:9]) or 1


def _info(info: Info, log_drivers: tuple[str, ...], version: tuple[int, int]) -> dict[str, Any]:
    host, settings = info.host, info.settings
    default = info.runtimes.get(info.default_runtime)
    document: dict[str, Any] = {
        "ID": settings.id,
        "Containers": info.running + info.paused + info.stopped,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", host.backing_filesystem], ["Supports d_type", "true"]],
        "Plugins": {**_NO_PLUGINS, "Log": list(log_drivers)},
        "MemoryLimit": host.memory_limit,
        "SwapLimit": host.swap_limit,
        "CpuCfsPeriod": host.cpu_cfs,
        "CpuCfsQuota": host.cpu_cfs,
        "CPUShares": host.cpu_shares,
        "CPUSet": host.cpuset,
        "PidsLimit": host.pids_limit,
        "OomKillDisable": host.oom_kill_disable,
        "IPv4Forwarding": info.ipv4_forwarding,
        "Debug": settings.debug,
        "NFd": info.descriptors,
        "NGoroutines": info.tasks,
        "SystemTime": info.now,
        "LoggingDriver": settings.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": host.cgroup_version,
        "NEventsListener": info.listeners,
        "KernelVersion": host.kernel_version,
        "OperatingSystem": host.operating_system,
        "OSVersion": host.os_version,
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": host.ncpu,
        "MemTotal": host.mem_total,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": wire.registry_config(settings.insecure_registries, settings.registry_mirrors),
        "GenericResources": None,
        "DockerRootDir": settings.data_root,
        "HttpProxy": settings.http_proxy,
        "HttpsProxy": settings.https_proxy,
        "NoProxy": settings.no_proxy,
        "Name": host.name,
        "Labels": list(settings.labels),
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": wire.runtimes(
            {
                name: (found.path, found.args, found.version, found.problem)
                for name, found in info.runtimes.items()
                if found.path
            }
        ),
        "DefaultRuntime": info.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": settings.live_restore,
        "Isolation": "",
        "InitBinary": host.init_binary,
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": (default.commit or default.version) if default else ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": list(host.security_options),
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": list(settings.cdi_spec_dirs),
        "Warnings": list(info.warnings) or None,
    }
    if settings.address_pools:
        document["DefaultAddressPools"] = [{"Base": base, "Size": size} for base, size in settings.address_pools]
    if info.devices and version >= (1, 50):
        document["DiscoveredDevices"] = [{"Source": "cdi", "ID": device} for device in info.devices]
    if version < (1, 49):
        del document["FirewallBackend"]
    if version < (1, 44):
        del document["CDISpecDirs"]
    return document
