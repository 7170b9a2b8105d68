"""What the Engine API asks of registries: `/auth`, `/images/search`, `/images/{name}/push`, `/distribution`."""

import msgspec
from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.images import platform, registry_auth
from gantry.api.query import body, filters
from gantry.api.routing import Route, api_version
from gantry.api.stream import JSONStream
from gantry.engine.distribution import Distribution
from gantry.engine.images import Images
from gantry.errors import InvalidArgument
from gantry.model.reference import Reference
from gantry.wire import images as wire

_AUTH_LIMIT = 1 << 20
_SEARCH = 25


def routes(distribution: Distribution, images: Images) -> list[Route]:
    handlers = _Handlers(distribution, images)
    return [
        Route("POST", "/auth", handlers.auth),
        Route("GET", "/images/search", handlers.search),
        Route("POST", "/images/{name:.+}/push", handlers.push),
        Route("GET", "/distribution/{name:.+}/json", handlers.inspect),
    ]


class _Handlers:
    def __init__(self, distribution: Distribution, images: Images) -> None:
        self._distribution = distribution
        self._images = images

    async def auth(self, request: web.Request) -> web.StreamResponse:
        text = (await body(request, _AUTH_LIMIT)).decode("utf-8", "replace")
        token = await self._distribution.login(text)
        return json_answer({"Status": "Login Succeeded", "IdentityToken": token})

    async def search(self, request: web.Request) -> web.StreamResponse:
        text = request.query.get("limit", "")
        try:
            limit = int(text) if text else _SEARCH
        except ValueError:
            raise InvalidArgument(f'strconv.Atoi: parsing "{text}": invalid syntax') from None
        wanted = wire.SearchFilter(filters(request))
        found = await self._distribution.search(request.query.get("term", ""), registry_auth(request), limit)
        return json_answer([result for each in found if wanted(result := wire.search_result(each))])

    async def push(self, request: web.Request) -> web.StreamResponse:
        name, tag = request.match_info["name"], request.query.get("tag", "")
        reference = Reference.parse(f"{name}:{tag}" if tag else name, default_tag=False)
        if reference.digest:
            raise InvalidArgument("cannot push a digest reference")
        self._images.check_push(reference)
        stream = JSONStream(request)
        wanted = platform(request) if api_version(request) >= (1, 46) else None
        await self._images.push(reference, wanted, stream, registry_auth(request))
        return await stream.finish()

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        reference = Reference.parse(request.match_info["name"])
        descriptor, platforms = await self._distribution.inspect(reference, registry_auth(request))
        return json_answer({"Descriptor": msgspec.to_builtins(descriptor), "Platforms": platforms})
