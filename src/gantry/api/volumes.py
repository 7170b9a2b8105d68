"""The `/volumes` operations of the Engine API."""

from collections.abc import Callable

from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.networks import labels_match, named
from gantry.api.query import boolean, filters, json_body
from gantry.api.routing import Route, api_version
from gantry.engine.volumes import VolumeCases
from gantry.errors import InvalidArgument, Unavailable
from gantry.model.volume import Volume
from gantry.wire import volumes as wire
from gantry.wire.errors import decode

_LIST = frozenset({"dangling", "driver", "label", "name"})
_PRUNE = frozenset({"label", "label!", "all"})
_GO_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_GO_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_PRUNE_NAMED_BEFORE = (1, 42)  # older versions prune named volumes as well


def routes(volumes: VolumeCases) -> list[Route]:
    h = _Handlers(volumes)
    return [
        Route("GET", "/volumes", h.all),
        Route("POST", "/volumes/create", h.create),
        Route("POST", "/volumes/prune", h.prune),
        Route("GET", "/volumes/{name:.+}", h.inspect),
        Route("PUT", "/volumes/{name:.+}", h.update),
        Route("DELETE", "/volumes/{name:.+}", h.remove),
    ]


class _Handlers:
    def __init__(self, volumes: VolumeCases) -> None:
        self._volumes = volumes

    async def all(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = filters(request)
        except InvalidArgument as error:
            raise InvalidArgument(f"error reading volume filters: {error.message}") from None
        matches = _list_filter(wanted, self._volumes)
        shown = [wire.volume(volume) for volume in await self._volumes.list() if matches(volume)]
        return json_answer({"Volumes": shown, "Warnings": None})

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        return json_answer(wire.volume(await self._volumes.get(request.match_info["name"])))

    async def create(self, request: web.Request) -> web.StreamResponse:
        asked = decode(await json_body(request) or b"{}", wire.VolumeCreate, "volume.CreateOptions")
        volume = await self._volumes.create(asked.name, asked.driver, asked.driver_opts, asked.labels)
        return json_answer(wire.volume(volume), status=201)

    async def update(self, _: web.Request) -> web.StreamResponse:
        raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")

    async def remove(self, request: web.Request) -> web.StreamResponse:
        await self._volumes.remove(request.match_info["name"], force=boolean(request, "force"))
        return web.Response(status=204)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        _check_keys(wanted, _PRUNE)
        everything = _all(wanted) or api_version(request) < _PRUNE_NAMED_BEFORE

        def keep(volume: Volume) -> bool:
            return not labels_match(volume.labels, wanted) or not (everything or volume.anonymous)

        pruned = await self._volumes.prune(keep)
        return json_answer({"VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.size})


def _list_filter(wanted: dict[str, list[str]], volumes: VolumeCases) -> Callable[[Volume], bool]:
    _check_keys(wanted, _LIST)
    values = wanted.get("dangling", [])
    if values and (len(values) > 1 or values[0] not in ("1", "true", "0", "false")):
        raise InvalidArgument(f"invalid filter 'dangling=[{' '.join(values)}]'")
    dangling = values[0] in ("1", "true") if values else None

    def matches(volume: Volume) -> bool:
        return (
            named(wanted.get("name"), volume.name)
            and (not wanted.get("driver") or volume.driver in wanted["driver"])
            and labels_match(volume.labels, wanted)
            and (dangling is None or dangling == volumes.dangling(volume))
        )

    return matches


def _all(wanted: dict[str, list[str]]) -> bool:
    values = wanted.get("all", [])
    if len(values) > 1:
        raise InvalidArgument(f"invalid filter 'all': only one value is expected, got {len(values)}")
    for value in values:
        if value not in _GO_TRUE | _GO_FALSE:
            raise InvalidArgument(f"invalid filter 'all': strconv.ParseBool: parsing \"{value}\": invalid syntax")
    return any(value in _GO_TRUE for value in values)


def _check_keys(wanted: dict[str, list[str]], known: frozenset[str]) -> None:
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")
