"""The `/build` operations of the Engine API."""

import re
from time import monotonic

import msgspec
from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.query import boolean, filters, integer, json_body
from gantry.api.routing import Route
from gantry.api.stream import JSONStream
from gantry.build.builder import Builder
from gantry.build.errors import code_of
from gantry.build.options import BuildOptions
from gantry.errors import GantryError, InvalidArgument, Unavailable, Unsupported
from gantry.model.container import HostConfig
from gantry.model.identity import new_id
from gantry.model.platform import Platform
from gantry.wire import build as wire

_PRUNE_FILTERS = frozenset({"until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private"})
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|m|s|ms))+")
_SECRETS_LIMIT = 8 << 20  # bytes of JSON
_SECRETS_WAITING, _SECRETS_SECONDS = 64, 60.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def routes(builder: Builder) -> list[Route]:
    handlers = _Handlers(builder)
    return [
        Route("POST", "/build", handlers.build),
        Route("POST", "/build/prune", handlers.prune),
        Route("POST", "/build/cancel", handlers.cancel),
        Route("POST", "/_gantry/build/secrets", handlers.secrets),
    ]


class _Handlers:
    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._secrets: dict[str, tuple[float, dict[str, bytes]]] = {}

    async def secrets(self, request: web.Request) -> web.StreamResponse:
        """Leave secrets, `{"id": "base64"}`, for one build that names the answer's `ID` within a minute."""
        values = wire.decode_secrets(await json_body(request, _SECRETS_LIMIT))
        now = monotonic()
        self._secrets = {key: kept for key, kept in self._secrets.items() if kept[0] > now}
        if len(self._secrets) >= _SECRETS_WAITING:
            raise Unavailable("too many builds that have left secrets have not begun")
        key = new_id()
        self._secrets[key] = now + _SECRETS_SECONDS, values
        return json_answer({"ID": key}, status=201)

    def _take_secrets(self, key: str) -> dict[str, bytes]:
        until, values = self._secrets.pop(key, (0.0, {}))
        if key and until <= monotonic():
            raise InvalidArgument("the secrets of this build are not here any more: send them again")
        return values

    async def build(self, request: web.Request) -> web.StreamResponse:
        """Docker's progress messages; `progress=vertex` asks for `vertex`, `status` and `log` objects instead."""
        options = _options(request)
        secrets = self._take_secrets(request.query.get("secrets", ""))
        options = msgspec.structs.replace(options, secrets=secrets)
        if call := request.query.get("call", ""):
            return await self._check(call, options, request)
        stream = JSONStream(request)
        vertexes = request.query.get("progress") == "vertex"
        try:
            await self._builder.build(options, request.content.readany, stream, vertexes=vertexes)
        except GantryError as error:
            if (vertexes or boolean(request, "explain")) and (where := wire.failure_body(error)):
                stream({"source": where})
            await stream.fail(error, code_of(error))
        return await stream.finish()

    async def _check(self, call: str, options: BuildOptions, request: web.Request) -> web.StreamResponse:
        """`call=check`: nothing is built; the answer is one object with the findings and the Dockerfile."""
        if call != "check":
            raise InvalidArgument(f'unsupported call "{call[:64]}": it is check')
        report, name, source = await self._builder.check(options, request.content.readany)
        return json_answer(wire.check_body(report.findings, name, source, failing=report.failing))

    async def prune(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        if unknown := sorted(wanted.keys() - _PRUNE_FILTERS):
            raise InvalidArgument(f"invalid filter '{unknown[0]}'")
        unused = 0.0
        for text in (*wanted.get("until", ()), *wanted.get("unused-for", ())):
            unused = max(unused, _seconds(text))
        keys, reclaimed = await self._builder.prune(unused_for=int(unused), keys=wanted.get("id", ()))
        return json_answer(wire.prune_body(keys, reclaimed))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """A build ends with its connection here; BuildKit's builds alone are cancelled by name."""
        if not request.query.get("id"):
            raise InvalidArgument("build ID not provided")
        return web.Response(status=204)


def _seconds(text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f'time: invalid duration "{text[:64]}"')
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(h|ms|m|s)", text))


def _options(request: web.Request) -> BuildOptions:
    """Raises InvalidArgument and Unsupported for what this builder does not do."""
    query = request.query
    version = query.get("version", "1")
    if version == "2":
        raise InvalidArgument(
            "this daemon has the classic builder and not yet BuildKit's: build with DOCKER_BUILDKIT=0"
        )
    if version not in ("", "1"):
        raise InvalidArgument(f'invalid version "{version}"')
    if boolean(request, "squash"):
        raise InvalidArgument("squash is only supported with experimental mode")
    if query.get("outputs"):
        raise Unsupported("outputs are only supported with BuildKit: build with DOCKER_BUILDKIT=0 and without --output")
    if query.get("isolation", "default") not in ("", "default"):
        raise InvalidArgument(f'unsupported isolation: "{query["isolation"]}"')
    network = query.get("networkmode", "") or "default"
    if network.startswith("container:"):
        raise Unsupported("a build cannot join the network of a container")
    platform = query.get("platform", "")
    labels = wire.decode_map(query.get("labels", ""), "labels")
    wire.decode_list(query.get("cachefrom", ""), "cache-from")
    return BuildOptions(
        tags=tuple(tag for tag in query.getall("t", []) if tag),
        dockerfile=query.get("dockerfile", ""),
        remote=query.get("remote", ""),
        target=query.get("target", ""),
        build_args=wire.decode_map(query.get("buildargs", ""), "build args"),
        labels={key: value or "" for key, value in labels.items()},
        no_cache=boolean(request, "nocache"),
        no_cache_stages=tuple(wire.decode_list(query.get("nocachefilter", ""), "no-cache-filter")),
        pull=boolean(request, "pull"),
        quiet=boolean(request, "q"),
        remove=boolean(request, "rm", default=True),
        force_remove=boolean(request, "forcerm"),
        platform=Platform.parse(platform) if platform else None,
        network="default" if network == "bridge" else network,
        host_config=_host_config(request),
        host_ca=boolean(request, "hostca"),
        contexts=_texts(wire.decode_map(query.get("contexts", ""), "contexts")),
        agents=_texts(wire.decode_map(query.get("ssh", ""), "ssh")),
        auths=wire.decode_registry_config(request.headers.get("X-Registry-Config", "")),
    )


def _texts(found: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in found.items() if value}


def _host_config(request: web.Request) -> HostConfig:
    """Limits of the RUN steps."""
    memory = integer(request, "memory")
    return HostConfig(
        memory=memory,
        memory_swap=integer(request, "memswap"),
        cpu_shares=integer(request, "cpushares"),
        cpu_period=integer(request, "cpuperiod"),
        cpu_quota=integer(request, "cpuquota"),
        cpuset_cpus=request.query.get("cpusetcpus", ""),
        cpuset_mems=request.query.get("cpusetmems", ""),
        shm_size=integer(request, "shmsize"),
        cgroup_parent=request.query.get("cgroupparent", ""),
        ulimits=wire.decode_ulimits(request.query.get("ulimits", "")),
        extra_hosts=list(request.query.getall("extrahosts", [])) or None,
        security_opt=list(request.query.getall("securityopt", [])) or None,
    )
