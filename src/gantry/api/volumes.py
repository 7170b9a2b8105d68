"""The `/volumes` operations of the Engine API."""

import re
from typing import Any

from aiohttp import web

from gantry.api.query import boolean, filters, json_body
from gantry.api.routing import Route, api_version
from gantry.engine.volumes import VolumeCases
from gantry.errors import InvalidArgument
from gantry.model.volume import Volume
from gantry.wire.containers import convert, plain_object

_LIST = frozenset({"dangling", "driver", "label", "name"})
_PRUNE = frozenset({"all", "label", "label!"})


def routes(volumes: VolumeCases) -> list[Route]:
    h = _Handlers(volumes)
    return [
        Route("GET", "/volumes", h.all),
        Route("POST", "/volumes/create", h.create),
        Route("POST", "/volumes/prune", h.prune),
        Route("GET", "/volumes/{name}", h.inspect),
        Route("DELETE", "/volumes/{name}", h.remove),
    ]


class _Handlers:
    def __init__(self, volumes: VolumeCases) -> None:
        self._volumes = volumes

    async def all(self, request: web.Request) -> web.StreamResponse:
        wanted = _known(filters(request), _LIST)
        found = [volume for volume in await self._volumes.all() if self._matches(volume, wanted)]
        return web.json_response({"Volumes": [_encode(volume) for volume in found], "Warnings": None})

    def _matches(self, volume: Volume, wanted: dict[str, list[str]]) -> bool:
        if dangling := wanted.get("dangling"):
            if dangling[-1] not in ("0", "1", "true", "false"):
                raise InvalidArgument(f"invalid filter 'dangling={dangling}'")
            if (dangling[-1] in ("1", "true")) == bool(self._volumes.users(volume.name)):
                return False
        names = wanted.get("name")
        if names and not any(value in volume.name or _search(value, volume.name) for value in names):
            return False
        if wanted.get("driver") and volume.driver not in wanted["driver"]:
            return False
        return _labels(volume, wanted)

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        plain = plain_object(body) if body.strip() else {}
        made = await self._volumes.create(
            convert(plain.get("Name", ""), str, "Name"),
            convert(plain.get("Driver", ""), str, "Driver"),
            convert(plain.get("DriverOpts", {}), dict[str, str], "DriverOpts"),
            convert(plain.get("Labels", {}), dict[str, str], "Labels"),
        )
        return web.json_response(_encode(made), status=201)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(_encode(await self._volumes.get(request.match_info["name"])))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        await self._volumes.remove(request.match_info["name"], force=boolean(request, "force"))
        return web.Response(status=204)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        wanted = _known(filters(request), _PRUNE)
        # From API 1.42 on, volumes with a name stay unless `all` is given.
        everything = api_version(request) < (1, 42) or (wanted.get("all") or ["0"])[-1] in ("1", "true")
        removed = await self._volumes.prune(
            lambda volume: not _labels(volume, wanted) or not (everything or volume.anonymous)
        )
        return web.json_response({"VolumesDeleted": removed or None, "SpaceReclaimed": 0})


def _known(wanted: dict[str, list[str]], known: frozenset[str]) -> dict[str, list[str]]:
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")
    return wanted


def _labels(volume: Volume, wanted: dict[str, list[str]]) -> bool:
    labels = volume.labels or {}

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(has(text) for text in wanted.get("label", ())) and not any(has(t) for t in wanted.get("label!", ()))


def _search(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _encode(volume: Volume) -> dict[str, Any]:
    return {
        "CreatedAt": volume.created_at.partition(".")[0].removesuffix("Z") + "Z",
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": volume.scope,
    }
