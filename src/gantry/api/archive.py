"""`/containers/{id}/archive` (cp) and `/containers/{id}/export`."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO

from aiohttp import web

from gantry.aio import TaskOwner, run_blocking
from gantry.api.query import boolean
from gantry.api.routing import Route
from gantry.engine.archive import Archives, PathStat
from gantry.engine.containers import Containers
from gantry.errors import InvalidArgument
from gantry.model.timestamp import rfc3339

STAT_HEADER = "X-Docker-Container-Path-Stat"
_CHUNK = 1 << 18


def routes(containers: Containers, archives: Archives) -> list[Route]:
    h = _Handlers(containers, archives)
    return [
        Route("HEAD", "/containers/{id}/archive", h.stat),
        Route("GET", "/containers/{id}/archive", h.read),
        Route("PUT", "/containers/{id}/archive", h.write),
        Route("GET", "/containers/{id}/export", h.export),
    ]


class _Handlers:
    def __init__(self, containers: Containers, archives: Archives) -> None:
        self._containers = containers
        self._archives = archives

    async def stat(self, request: web.Request) -> web.StreamResponse:
        container = self._containers.get(request.match_info["id"])
        status = await self._archives.stat(container, _path(request))
        return web.Response(headers={STAT_HEADER: _encode(status)})

    async def read(self, request: web.Request) -> web.StreamResponse:
        container = self._containers.get(request.match_info["id"])
        async with self._archives.reading(container, _path(request)) as reading:
            response = web.StreamResponse(
                headers={"Content-Type": "application/x-tar", STAT_HEADER: _encode(reading.status)}
            )
            await response.prepare(request)
            async for chunk in written(reading.pack):
                await response.write(chunk)
            await response.write_eof()
            return response

    async def export(self, request: web.Request) -> web.StreamResponse:
        container = self._containers.get(request.match_info["id"])
        async with self._archives.exporting(container) as reading:
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            await response.prepare(request)
            async for chunk in written(lambda out: reading.pack(out, name="")):
                await response.write(chunk)
            await response.write_eof()
        self._containers.lifecycle.publish(container, "export")
        return response

    async def write(self, request: web.Request) -> web.StreamResponse:
        container = self._containers.get(request.match_info["id"])
        async with received(request) as source:
            await self._archives.write(
                container,
                _path(request),
                source,
                no_overwrite=boolean(request, "noOverwriteDirNonDir"),
                keep_owner=boolean(request, "copyUIDGID"),
            )
        return web.Response(status=200)


@asynccontextmanager
async def received(request: web.Request) -> AsyncIterator[BinaryIO]:
    """A request's body as a file for blocking readers: the event loop fills a pipe."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    async with TaskOwner("cp") as owner:
        source = os.fdopen(reading, "rb", buffering=_CHUNK)

        async def fill() -> None:
            with os.fdopen(writing, "wb", buffering=0) as sink:
                async for chunk in request.content.iter_chunked(_CHUNK):
                    try:
                        await loop.run_in_executor(None, sink.write, chunk)
                    except BrokenPipeError:
                        return  # the reader refused the archive and says why

        filling = owner.spawn(fill())
        try:
            yield source
        finally:
            await run_blocking(source.close)
        await filling


async def written(write: Callable[[BinaryIO], None]) -> AsyncIterator[bytes]:
    """What a blocking `write(file)` writes, as it comes: a thread fills a pipe that the event loop reads."""
    reading, writing = os.pipe()
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )

    def fill() -> None:
        with os.fdopen(writing, "wb", buffering=_CHUNK) as out:
            write(out)

    async with TaskOwner("archive") as owner:
        task = owner.spawn(run_blocking(fill))
        try:
            while chunk := await reader.read(_CHUNK):
                yield chunk
            await task
        finally:
            transport.close()


def _path(request: web.Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    return path


def _encode(status: PathStat) -> str:
    document = {
        "name": status.name,
        "size": status.size,
        "mode": status.mode,
        "mtime": rfc3339(status.mtime),
        "linkTarget": status.link_target,
    }
    return base64.b64encode(json.dumps(document).encode()).decode()
