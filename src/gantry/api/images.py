"""The `/images` operations of the Engine API, but for push and search."""

import base64
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import msgspec
from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.archive import written
from gantry.api.image_filters import ImageFilter, PruneFilter
from gantry.api.query import boolean, filters
from gantry.api.routing import Route, api_version
from gantry.api.stream import JSONStream
from gantry.engine.distribution import Distribution
from gantry.engine.images import Images, chain_ids, taggable
from gantry.errors import Internal, InvalidArgument
from gantry.model.container import ContainerConfig
from gantry.model.image import Image
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.wire import images as wire


def routes(images: Images, distribution: Distribution | None = None) -> list[Route]:
    """`distribution` fetches what is imported from an address."""
    handlers = _Handlers(images, distribution)
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
    def __init__(self, images: Images, distribution: Distribution | None) -> None:
        self._images = images
        self._distribution = distribution

    # ------------------------------------------------------------------------------------------ reads

    async def list(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        if name := request.query.get("filter"):  # before API 1.41
            wanted.setdefault("reference", []).append(name)
        chosen = ImageFilter(wanted)
        await chosen.resolve(self._images)
        found = await self._images.all(intermediate=boolean(request, "all"))
        shared = await self._shared(found) if boolean(request, "shared-size") else {}
        version = api_version(request)
        manifests = boolean(request, "manifests") and version >= (1, 47)
        answer = []
        for image in found:
            if (shown := chosen(image)) is None:
                continue
            users = len(self._images.containers_using(image.id)) if shared else -1
            found_manifests = await self._images.manifests(image) if manifests else None
            answer.append(wire.summary(shown, users, shared.get(image.id, -1), version, manifests=found_manifests))
        return json_answer(answer)

    async def _shared(self, images: Sequence[Image]) -> dict[str, int]:
        """The bytes of each image's layers that other images have too."""
        sizes = {}
        for image in images:
            infos = await self._images.layer_infos(image)
            sizes[image.id] = dict(zip(chain_ids(image.diff_ids), (info.unpacked_size for info in infos), strict=True))
        users = Counter(chain for layers in sizes.values() for chain in layers)
        return {
            image_id: sum(size for chain, size in layers.items() if users[chain] > 1)
            for image_id, layers in sizes.items()
        }

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        image = await self._images.get(request.match_info["name"], platform(request))
        version = api_version(request)
        wanted = boolean(request, "manifests") and version >= (1, 48)
        manifests = await self._images.manifests(image) if wanted else None
        return json_answer(wire.inspect(image, version, manifests=manifests))

    async def history(self, request: web.Request) -> web.StreamResponse:
        image = await self._images.get(request.match_info["name"], platform(request))
        return json_answer(wire.history(await self._images.history(image)))

    async def save(self, request: web.Request) -> web.StreamResponse:
        names = [request.match_info["name"]] if "name" in request.match_info else request.query.getall("names", [])
        wanted = platform(request)
        await self._images.check_names(names, wanted)
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(request)
        async for chunk in written(lambda out: self._images.save(names, out, wanted)):
            await response.write(chunk)
        await response.write_eof()
        await self._images.saved(names)
        return response

    # ----------------------------------------------------------------------------------------- changes

    async def tag(self, request: web.Request) -> web.StreamResponse:
        reference = _reference(request.query.get("repo", ""), request.query.get("tag", ""))
        await self._images.tag(request.match_info["name"], reference)
        return web.Response(status=201)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        answer = await self._images.remove(
            request.match_info["name"], force=boolean(request, "force"), prune=not boolean(request, "noprune")
        )
        return json_answer(answer)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        kept = PruneFilter(filters(request))
        deleted, freed = await self._images.prune(dangling=kept.dangling, keep=kept)
        return json_answer({"ImagesDeleted": deleted or None, "SpaceReclaimed": freed})

    async def load(self, request: web.Request) -> web.StreamResponse:
        stream = JSONStream(request)
        await stream.start()  # as Docker does, a bad archive is told in the stream of an answer 200
        await self._images.load(
            request.content.iter_any(), stream, quiet=boolean(request, "quiet"), platform=platform(request)
        )
        return await stream.finish()

    async def create(self, request: web.Request) -> web.StreamResponse:
        if source := request.query.get("fromSrc"):
            return await self._import(request, source)
        name, tag = request.query.get("fromImage", ""), request.query.get("tag", "")
        reference = f"{name}@{tag}" if ":" in tag else _reference(name, tag)
        parsed = Reference.parse(reference, default_tag=False)
        stream = JSONStream(request)
        if not parsed.tag and not parsed.digest:
            await self._images.pull_all(reference, platform(request), stream, registry_auth(request))
            return await stream.finish()
        await self._images.pull(reference, platform(request), stream, registry_auth(request))
        return await stream.finish()

    async def _import(self, request: web.Request, source: str) -> web.StreamResponse:
        if source != "-" and self._distribution is None:
            raise InvalidArgument(f"import from {source!r} is not possible: send the archive with fromSrc=-")
        repository = request.query.get("repo", "")
        reference = _reference(repository, request.query.get("tag", "")) if repository else ""
        if reference:
            taggable(reference)
        config = wire.apply_changes(ContainerConfig(), request.query.getall("changes", []))
        wanted = platform(request)
        stream = JSONStream(request)
        try:
            async with AsyncExitStack() as stack:
                chunks: AsyncIterator[bytes] = request.content.iter_any()
                if source != "-" and self._distribution is not None:
                    stream({"status": f"Downloading from {source}"})
                    chunks = await stack.enter_async_context(self._distribution.download(source))
                image = await self._images.import_tar(
                    chunks,
                    reference,
                    config=config,
                    message=request.query.get("message", "") or f"Imported from {source}",
                    platform=wanted,
                )
        except InvalidArgument as error:
            raise Internal(error.message) from error  # Docker's status for an archive that is none
        stream({"status": image.id})
        return await stream.finish()


def _reference(repository: str, tag: str) -> str:
    """Repository and tag as one text; raises InvalidArgument with Docker's words for each."""
    if not tag:
        return repository
    Reference.parse(repository)
    try:
        Reference.parse(f"{repository}:{tag}")
    except InvalidArgument:
        raise InvalidArgument("invalid tag format") from None
    return f"{repository}:{tag}"


def platform(request: web.Request) -> Platform | None:
    text = request.query.get("platform", "")
    if not text:
        return None
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text, type=Platform)
        except msgspec.DecodeError as error:
            raise InvalidArgument(f"failed to parse platform: {error}") from error
    return Platform.parse(text)


def registry_auth(request: web.Request) -> str:
    """The decoded X-Registry-Auth header, JSON, or ""."""
    header = request.headers.get("X-Registry-Auth", "")
    try:
        return base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)).decode() if header else ""
    except ValueError as error:
        raise InvalidArgument(f"invalid X-Registry-Auth header: {error}") from error
