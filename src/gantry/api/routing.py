"""How a file of this room offers its routes: `def routes(…) -> list[Route]`.

Paths use aiohttp's syntax without the version prefix: `/containers/{id}/json`, `/images/{name:.+}/json`.
The dispatcher strips `/v1.NN`; a handler finds the version with `api_version(request)`.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API_VERSION_KEY: web.RequestKey[tuple[int, int]] = web.RequestKey("api_version", tuple)


class Route(NamedTuple):
    method: str
    path: str
    handler: Handler


def api_version(request: web.Request) -> tuple[int, int]:
    """The API version that the client asked for: (1, 24) to (1, 55)."""
    return request[API_VERSION_KEY]
