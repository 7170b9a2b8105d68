"""Blobs and uploads: end-2, end-4a, end-4b, end-5, end-6, end-10, end-11, end-13 of the distribution specification."""

from aiohttp import web

from gantry.aio import run_blocking
from gantry.ports import BlobInfo
from gantry.registry.server import body, names, transfer
from gantry.registry.server.access import Action
from gantry.registry.server.blobs import content_range
from gantry.registry.server.body import ClientGone
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.exchange import Exchange
from gantry.registry.server.service import Service
from gantry.registry.server.uploads import Session

_OCTETS = "application/octet-stream"
_FOREVER = "max-age=31536000"
_ROOM_STEP = 64 << 20
"""How often a growing upload is held against the quota."""


async def get(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-2: GET and HEAD."""
    service.need(exchange, Action.PULL)
    digest = names.digest(exchange.argument)
    info = await run_blocking(service.blobs.stat, exchange.repository, digest)
    etag = f'"{digest}"'
    headers = {
        "Docker-Content-Digest": str(digest),
        "ETag": etag,
        "Cache-Control": _FOREVER,
        "Accept-Ranges": "bytes",
        "Content-Type": _OCTETS,
    }
    request = exchange.request
    if etag in exchange.header("If-None-Match"):
        return web.Response(status=304, headers=headers)
    if request.method == "HEAD":
        response = web.StreamResponse(headers={**exchange.headers, **headers})
        response.content_length = info.size
        return response
    if not service.config.storage.redirect.disable:
        url = await run_blocking(service.depot.blobs.link, digest)
        if url:
            return web.Response(status=307, headers={"Location": url, "Docker-Content-Digest": str(digest)})
    status, start, length = 200, 0, info.size
    condition = exchange.header("If-Range")
    if (wanted := exchange.header("Range")) and condition in ("", etag):
        found = transfer.byte_range(wanted, info.size)
        if found is not None:
            status, (start, length) = 206, found
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{info.size}"
    source = await run_blocking(service.depot.blobs.open, digest, start)
    stream = web.StreamResponse(status=status, headers={**exchange.headers, **headers})
    stream.content_length = length
    await transfer.send(request, stream, source, start, length, service.idle)
    exchange.tell("pull", digest=digest, media_type=_OCTETS, size=length)
    return stream


async def delete(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-10."""
    service.need_delete(exchange)
    digest = names.digest(exchange.argument)
    await run_blocking(service.blobs.delete, exchange.repository, digest)
    service.quotas.forget()
    exchange.tell("delete", digest=digest, media_type=_OCTETS)
    return web.Response(status=202, headers={"Docker-Content-Digest": str(digest)})


async def start(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-4a, end-4b with `digest`, end-11 with `mount`."""
    service.need_write(exchange, Action.PUSH, Action.CREATE)
    query = exchange.request.query
    if "mount" in query and (answer := await _mount(service, exchange, query["mount"], query.get("from", ""))):
        return answer
    digest = names.digest(query["digest"]) if "digest" in query and "mount" not in query else None
    session = await run_blocking(service.uploads.start, exchange.repository)
    if digest is None:
        return _progress(exchange, session, 202)
    with service.uploads.claimed(session.id):
        try:
            session = await _receive(service, exchange, session)
        except ClientGone:
            await run_blocking(service.uploads.cancel, session)
            raise
        info = await run_blocking(service.uploads.finish, session, digest, service.room(exchange))
    return _created(exchange, info)


async def _mount(service: Service, exchange: Exchange, text: str, source: str) -> web.Response | None:
    digest = names.digest(text)
    if not source or not service.access.allows(exchange.identity, Action.PULL, names.repository(source)):
        return None  # as if it were not there: an ordinary upload begins
    room = service.room(exchange)
    size = await run_blocking(service.blobs.mount, exchange.repository, source, digest, room)
    if size is None:
        return None
    exchange.tell("mount", digest=digest, media_type=_OCTETS, size=size, source=source)
    return web.Response(status=201, headers=_blob_headers(exchange, digest))


async def status(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-13."""
    service.need(exchange, Action.PUSH, Action.CREATE)
    return _progress(exchange, await _session(service, exchange), 204)


async def patch(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-5: a chunk with Content-Range, or a stream of bytes without."""
    service.need_write(exchange, Action.PUSH, Action.CREATE)
    with service.uploads.claimed(names.upload(exchange.argument)):
        session = await _receive(service, exchange, await _session(service, exchange))
    return _progress(exchange, session, 202)


async def finish(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-6: the rest of the bytes, perhaps none, and the digest."""
    service.need_write(exchange, Action.PUSH, Action.CREATE)
    digest = names.digest(exchange.request.query.get("digest", ""))
    with service.uploads.claimed(names.upload(exchange.argument)):
        session = await _receive(service, exchange, await _session(service, exchange))
        info = await run_blocking(service.uploads.finish, session, digest, service.room(exchange))
    return _created(exchange, info)


async def cancel(service: Service, exchange: Exchange) -> web.StreamResponse:
    """DELETE of an upload, which Distribution offers."""
    service.need_write(exchange, Action.PUSH, Action.CREATE)
    with service.uploads.claimed(names.upload(exchange.argument)):
        await run_blocking(service.uploads.cancel, await _session(service, exchange))
    return web.Response(status=204)


async def _session(service: Service, exchange: Exchange) -> Session:
    return await run_blocking(service.uploads.find, exchange.repository, names.upload(exchange.argument))


async def _receive(service: Service, exchange: Exchange, session: Session) -> Session:
    """Take a request's body into an upload; what came before a broken connection stays."""
    expected = -1
    if text := exchange.header("Content-Range"):
        first, last = content_range(text)
        expected = last - first + 1
        length = exchange.request.content_length
        if first != session.size:
            raise _out_of_order(exchange, session)
        if length is not None and length != expected:
            raise RegistryError("SIZE_INVALID", f"Content-Range {text} and Content-Length {length} differ")
    begin = session.size
    async for data in body.chunks(exchange.request, service.idle):
        if expected >= 0 and session.size + len(data) - begin > expected:
            raise RegistryError("SIZE_INVALID", f"more than the {expected} bytes of Content-Range")
        if session.size // _ROOM_STEP != (session.size + len(data)) // _ROOM_STEP:
            await run_blocking(service.quotas.check, exchange.repository, session.size + len(data))
        session = await run_blocking(service.uploads.append, session, data)
    if expected >= 0 and session.size - begin != expected:
        raise RegistryError("SIZE_INVALID", f"{session.size - begin} of the {expected} bytes of Content-Range")
    return session


def _headers(exchange: Exchange, session: Session) -> dict[str, str]:
    return {
        "Location": exchange.location(f"blobs/uploads/{session.id}"),
        "Range": f"0-{max(0, session.size - 1)}",
        "Docker-Upload-UUID": session.id,
    }


def _progress(exchange: Exchange, session: Session, status_code: int) -> web.Response:
    return web.Response(status=status_code, headers=_headers(exchange, session))


def _out_of_order(exchange: Exchange, session: Session) -> RegistryError:
    return RegistryError("RANGE_INVALID", f"the upload goes on at {session.size}", headers=_headers(exchange, session))


def _blob_headers(exchange: Exchange, digest: str) -> dict[str, str]:
    return {"Location": exchange.location(f"blobs/{digest}"), "Docker-Content-Digest": str(digest)}


def _created(exchange: Exchange, info: BlobInfo) -> web.Response:
    exchange.tell("push", digest=info.digest, media_type=_OCTETS, size=info.size)
    return web.Response(status=201, headers=_blob_headers(exchange, info.digest))
