"""The `/images` operations of the Engine API, but for `/build`."""

import base64
import fnmatch
from typing import Any

import msgspec
from aiohttp import web

from gantry.api.archive import written
from gantry.api.query import boolean, filters
from gantry.api.routing import Route, api_version
from gantry.api.stream import JSONStream
from gantry.engine.images import Images
from gantry.errors import GantryError, InvalidArgument, NotFound
from gantry.model.container import ContainerConfig
from gantry.model.image import Image
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.wire import images as wire

_LIST_FILTERS = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})
_PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})
_CHUNK = 1 << 18


def routes(images: Images) -> list[Route]:
    handlers = _Handlers(images)
    return [
        Route("GET", "/images/json", handlers.list),
        Route("POST", "/images/create", handlers.create),
        Route("POST", "/images/load", handlers.load),
        Route("POST", "/images/prune", handlers.prune),
        Route("GET", "/images/get", handlers.save),
        Route("GET", "/images/{name:.+}/get", handlers.save),
        Route("GET", "/images/{name:.+}/json", handlers.inspect),
        Route("GET", "/images/{name:.+}/history", handlers.history),
        Route("POST", "/images/{name:.+}/tag", handlers.tag),
        Route("DELETE", "/images/{name:.+}", handlers.remove),
    ]


class _Handlers:
    def __init__(self, images: Images) -> None:
        self._images = images

    async def list(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        _known(wanted, _LIST_FILTERS)
        if name := request.query.get("filter"):  # before API 1.25's filters
            wanted.setdefault("reference", []).append(name)
        everything = boolean(request, "all")
        found = await self._images.all(intermediate=everything)
        dangling = _dangling(wanted)
        before = [await self._images.get(name) for name in wanted.get("before", ())]
        since = [await self._images.get(name) for name in wanted.get("since", ())]
        answer = []
        for image in found:
            if dangling is not None and dangling != (not image.repo_tags):
                continue
            if before and not all(image.created < other.created for other in before):
                continue
            if since and not all(image.created > other.created for other in since):
                continue
            if not _labels_match(image, wanted):
                continue
            if (patterns := wanted.get("reference")) and not _named(image, patterns):
                continue
            if not _older(image, wanted):
                continue
            answer.append(wire.summary(image))
        return web.json_response(answer)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        platform = _platform(request)
        image = await self._images.get(request.match_info["name"], platform)
        graph = {"Name": "overlay2", "Data": {}}
        return web.json_response(wire.inspect(image, graph, api_version(request)))

    async def history(self, request: web.Request) -> web.StreamResponse:
        image = await self._images.get(request.match_info["name"], _platform(request))
        infos = await self._images.layer_infos(image)
        return web.json_response(wire.history(image, {info.digest: info.size for info in infos}))

    async def tag(self, request: web.Request) -> web.StreamResponse:
        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        await self._images.tag(request.match_info["name"], f"{repository}:{tag}" if tag else repository)
        return web.Response(status=201)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        answer = await self._images.remove(
            request.match_info["name"], force=boolean(request, "force"), prune=not boolean(request, "noprune")
        )
        return web.json_response(answer)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        _known(wanted, _PRUNE_FILTERS)
        dangling = _dangling(wanted)
        deleted, freed = await self._images.prune(
            dangling=dangling is not False,
            keep=lambda image: not (_labels_match(image, wanted) and _older(image, wanted)),
        )
        return web.json_response({"ImagesDeleted": deleted or None, "SpaceReclaimed": freed})

    async def load(self, request: web.Request) -> web.StreamResponse:
        stream = JSONStream(request)
        messages: list[dict[str, Any]] = []
        await self._images.load(request.content.iter_chunked(_CHUNK), messages.append)
        await stream.start()
        for message in messages:
            stream(message)
        return await stream.finish()

    async def create(self, request: web.Request) -> web.StreamResponse:
        if source := request.query.get("fromSrc"):
            return await self._import(request, source)
        name, tag = request.query.get("fromImage", ""), request.query.get("tag", "")
        if not name:
            raise InvalidArgument("invalid reference format")
        reference = f"{name}@{tag}" if ":" in tag else f"{name}:{tag}" if tag else name
        Reference.parse(reference)
        stream = JSONStream(request)
        try:
            await self._images.pull(reference, _platform(request), stream, _auth(request))
        except GantryError as error:
            await stream.fail(error)
        return await stream.finish()

    async def _import(self, request: web.Request, source: str) -> web.StreamResponse:
        if source != "-":
            raise InvalidArgument(f"import from {source!r} is not possible: send the archive with fromSrc=-")
        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        config = wire.apply_changes(ContainerConfig(), request.query.getall("changes", []))
        image = await self._images.import_tar(
            request.content.iter_chunked(_CHUNK),
            f"{repository}:{tag}" if tag else repository,
            config=config,
            message=request.query.get("message", ""),
            platform=_platform(request),
        )
        stream = JSONStream(request)
        await stream.start()
        stream({"status": image.id})
        return await stream.finish()

    async def save(self, request: web.Request) -> web.StreamResponse:
        names = [request.match_info["name"]] if "name" in request.match_info else request.query.getall("names", [])
        for name in names:
            await self._images.get(name)
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(request)
        async for chunk in written(lambda out: self._images.save(names, out)):
            await response.write(chunk)
        await response.write_eof()
        self._images.saved(names)
        return response


def _known(wanted: dict[str, list[str]], known: frozenset[str]) -> None:
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")


def _dangling(wanted: dict[str, list[str]]) -> bool | None:
    values = wanted.get("dangling")
    if not values:
        return None
    if values[-1] in ("1", "true"):
        return True
    if values[-1] in ("0", "false"):
        return False
    raise InvalidArgument(f"invalid filter 'dangling={values}'")


def _labels_match(image: Image, wanted: dict[str, list[str]]) -> bool:
    labels = image.config.labels or {}

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(has(text) for text in wanted.get("label", ())) and not any(has(t) for t in wanted.get("label!", ()))


def _named(image: Image, patterns: "list[str]") -> bool:
    names = [*image.repo_tags, *image.repo_digests]
    return any(
        fnmatch.fnmatchcase(form, pattern)
        for pattern in patterns
        for name in names
        for form in (name, name.partition("@")[0], name.rpartition(":")[0], Reference.parse(name).repository)
    )


def _older(image: Image, wanted: dict[str, list[str]]) -> bool:
    values = wanted.get("until")
    if not values:
        return True
    from gantry.wire.times import moment

    return wire.created_seconds(image.created) * 1_000_000_000 < moment(values[-1])


def _platform(request: web.Request) -> Platform | None:
    text = request.query.get("platform", "")
    if not text:
        return None
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text, type=Platform)
        except msgspec.DecodeError as error:
            raise InvalidArgument(f"failed to parse platform: {error}") from error
    return Platform.parse(text)


def _auth(request: web.Request) -> str:
    """The decoded X-Registry-Auth header, JSON, or ""."""
    header = request.headers.get("X-Registry-Auth", "")
    try:
        return base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)).decode() if header else ""
    except ValueError as error:
        raise NotFound(f"invalid X-Registry-Auth header: {error}") from error
