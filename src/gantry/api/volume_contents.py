"""What Docker has no operations for, below `/_gantry/volumes`: rename, export, import, clone.

| operation | answer |
|---|---|
| `POST /_gantry/volumes/{name}/rename?name=NEW` | the volume; 409 while a container has it, or where NEW is taken |
| `GET /_gantry/volumes/{name}/export` | a tar archive of the content |
| `POST /_gantry/volumes/{name}/import` | 201 and the volume, made from the archive in the body; 409 where it exists |
| `POST /_gantry/volumes/{name}/clone?name=NEW` | 201 and the new volume; 409 where NEW is taken |
"""

from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.archive import received, written
from gantry.api.routing import Route
from gantry.engine.volume_contents import VolumeTransfers
from gantry.wire import volumes as wire


def routes(transfers: VolumeTransfers) -> list[Route]:
    h = _Handlers(transfers)
    return [
        Route("POST", "/_gantry/volumes/{name}/rename", h.rename),
        Route("GET", "/_gantry/volumes/{name}/export", h.export),
        Route("POST", "/_gantry/volumes/{name}/import", h.load),
        Route("POST", "/_gantry/volumes/{name}/clone", h.clone),
    ]


class _Handlers:
    def __init__(self, transfers: VolumeTransfers) -> None:
        self._transfers = transfers

    async def rename(self, request: web.Request) -> web.StreamResponse:
        volume = await self._transfers.rename(request.match_info["name"], request.query.get("name", ""))
        return json_answer(wire.volume(volume))

    async def export(self, request: web.Request) -> web.StreamResponse:
        async with self._transfers.directory(request.match_info["name"]) as directory:
            response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
            await response.prepare(request)
            async for chunk in written(lambda out: self._transfers.pack(directory, out)):
                await response.write(chunk)
            await response.write_eof()
            return response

    async def load(self, request: web.Request) -> web.StreamResponse:
        async with received(request) as stream:
            volume = await self._transfers.load(request.match_info["name"], stream)
        return json_answer(wire.volume(volume), status=201)

    async def clone(self, request: web.Request) -> web.StreamResponse:
        volume = await self._transfers.clone(request.match_info["name"], request.query.get("name", ""))
        return json_answer(wire.volume(volume), status=201)
