"""Request bodies: read whole up to a limit, or as they come; a client that goes silent is given up."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from gantry.registry.server.errors import RegistryError


class ClientGone(ConnectionError):
    """The body ended before its announced end."""


async def _wanted(request: web.BaseRequest) -> None:
    """Answer `Expect: 100-continue`, now that we know that we want the body (RFC 9110, section 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def chunks(request: web.BaseRequest, idle: float) -> AsyncIterator[bytes]:
    """The body in pieces of up to some hundred kilobytes; at most `idle` seconds between two."""
    await _wanted(request)
    try:
        while True:
            async with asyncio.timeout(idle):
                data = await request.content.readany()  # all that came while the last piece was dealt with
            if not data:
                return
            yield data
    except (RequestPayloadError, ConnectionError, TimeoutError) as error:
        raise ClientGone(f"the body ended early: {error or 'nothing came in time'}") from error


async def whole(request: web.BaseRequest, limit: int, idle: float) -> bytes:
    """A small body; MANIFEST_INVALID (413) beyond `limit` bytes."""
    too_large = RegistryError("MANIFEST_INVALID", f"larger than {limit} bytes", status=413)
    if (request.content_length or 0) > limit:
        raise too_large
    found: list[bytes] = []
    size = 0
    async for data in chunks(request, idle):
        found.append(data)
        size += len(data)
        if size > limit:
            raise too_large
    return b"".join(found)
