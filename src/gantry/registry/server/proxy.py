"""The pull-through cache: what is not here is fetched from another registry, checked, kept, and served at once."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from gantry.aio import run_blocking
from gantry.errors import Forbidden, GantryError, InvalidArgument, NotFound, Unauthorized, Unavailable
from gantry.model.digest import Digest
from gantry.oci import documents
from gantry.registry.auth import Credentials
from gantry.registry.endpoints import Endpoint
from gantry.registry.server import names, serve_blobs, serve_manifests
from gantry.registry.server.access import Action
from gantry.registry.server.app import Handler
from gantry.registry.server.config import Config
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.exchange import Exchange
from gantry.registry.server.service import Service
from gantry.registry.server.uploads import Session
from gantry.registry.settings import RegistrySettings
from gantry.registry.transport import Channel, Transport

log = logging.getLogger(__name__)

_ACCEPT = ", ".join((*sorted(documents.INDEXES | documents.MANIFESTS), "*/*;q=0.5"))
_CHANNELS = 1024
_PIECE = 1 << 20


@asynccontextmanager
async def _asked(channel: Channel, method: str, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """One exchange with the remote; what it refuses becomes an answer of ours, and Unavailable stays."""
    try:
        async with channel.call(method, path, headers={"Accept": _ACCEPT}) as response:
            yield response
    except NotFound as error:
        code = "BLOB_UNKNOWN" if "/blobs/" in path else "MANIFEST_UNKNOWN"
        raise RegistryError(code, f"{channel.endpoint.host} does not have {path}") from error
    except (Unauthorized, Forbidden) as error:
        raise RegistryError("DENIED", f"{channel.endpoint.host} refuses {path}") from error


class Proxy:
    """Handlers for GET and HEAD of manifests and blobs in front of one remote registry.

    A tag is asked for at the remote each time, and served from here where the remote does not answer. Content by
    digest is never asked for twice while it is kept: `proxy.ttl` after it was last fetched or confirmed.
    """

    def __init__(self, config: Config, service: Service) -> None:
        self._service = service
        self._ttl = float(config.proxy.ttl)
        settings = RegistrySettings(attempts=2, certificates=(Path("/etc/gantry/certs.d"), Path("/etc/docker/certs.d")))
        url = config.proxy.remoteurl.rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise InvalidArgument(f"proxy.remoteurl: {url}: http:// or https:// is expected")
        self._endpoint = Endpoint(url, url.partition("://")[2], insecure=url.startswith("http://"))
        self._credentials = Credentials(username=config.proxy.username, password=config.proxy.password)
        self._transport = Transport(settings)
        self._channels: dict[str, Channel] = {}

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {
            ("manifest", "GET"): self._manifest,
            ("manifest", "HEAD"): self._manifest,
            ("blob", "GET"): self._blob,
            ("blob", "HEAD"): self._blob,
        }

    async def close(self) -> None:
        await self._transport.close()

    # ---------------------------------------------------------------------------------- manifests

    async def _manifest(self, service: Service, exchange: Exchange) -> web.StreamResponse:
        service.need(exchange, Action.PULL)
        reference = names.reference(exchange.argument)
        name = exchange.repository
        local = await self._local(name, reference)
        if local is None or not isinstance(reference, Digest):
            try:
                await self._refresh(name, reference, local)
            except Unavailable as error:
                if local is None:
                    raise
                host = self._endpoint.host
                log.warning("%s does not answer, %s:%s is served from here: %s", host, name, reference, error)
        return await serve_manifests.get(service, exchange)

    async def _local(self, name: str, reference: Digest | str) -> Digest | None:
        try:
            return (await run_blocking(self._service.manifests.get, name, reference)).digest
        except RegistryError:
            return None

    async def _refresh(self, name: str, reference: Digest | str, local: Digest | None) -> None:
        """Have what the remote has under this reference; NotFound leaves things as they are."""
        channel = self._channel(name)
        path = f"/v2/{name}/manifests/{reference}"
        if local is not None:
            async with _asked(channel, "HEAD", path) as response:
                if response.headers.get("Docker-Content-Digest") == local:
                    return
        async with _asked(channel, "GET", path) as response:
            data = await channel.read(response, documents.MANIFEST_LIMIT)
            media_type = response.headers.get("Content-Type", "")
        await run_blocking(self._service.manifests.put, name, reference, data, media_type, complete=False)

    # -------------------------------------------------------------------------------------- blobs

    async def _blob(self, service: Service, exchange: Exchange) -> web.StreamResponse:
        service.need(exchange, Action.PULL)
        digest = names.digest(exchange.argument)
        try:
            await run_blocking(service.blobs.stat, exchange.repository, digest)
        except RegistryError:
            pass
        else:
            return await serve_blobs.get(service, exchange)
        channel = self._channel(exchange.repository)
        path = f"/v2/{exchange.repository}/blobs/{digest}"
        if exchange.request.method == "HEAD":
            async with _asked(channel, "HEAD", path) as answer:
                response = web.StreamResponse(headers={**exchange.headers, "Docker-Content-Digest": str(digest)})
                response.content_length = answer.content_length or 0
                return response
        return await self._pass_on(exchange, channel, path, digest)

    async def _pass_on(self, exchange: Exchange, channel: Channel, path: str, digest: Digest) -> web.StreamResponse:
        """Fetch a blob, and give each piece to the client while it is written here; kept where the digest is right.

        The last piece is held back until the digest is known: a client never gets the whole of a wrong blob.
        """
        uploads = self._service.uploads
        session = await run_blocking(uploads.start, exchange.repository)
        try:
            async with _asked(channel, "GET", path) as answer:
                response = web.StreamResponse(
                    headers={
                        **exchange.headers,
                        "Docker-Content-Digest": str(digest),
                        "Content-Type": "application/octet-stream",
                    }
                )
                response.content_length = answer.content_length
                await response.prepare(exchange.request)
                held = b""
                async for piece in answer.content.iter_chunked(_PIECE):
                    if held:
                        session = await self._step(response, session, held)
                    held = piece
                session = await run_blocking(uploads.append, session, held)
            await run_blocking(uploads.finish, session, digest)
            async with asyncio.timeout(self._service.idle):
                await response.write(held)
                await response.write_eof()
        except BaseException:
            await run_blocking(uploads.cancel, session)
            if exchange.request.transport is not None and exchange.request.writer.output_size:
                exchange.request.transport.abort()
                raise ConnectionResetError(f"{path} could not be passed on") from None
            raise
        exchange.tell("pull", digest=digest, media_type="application/octet-stream", size=session.size)
        return response

    async def _step(self, response: web.StreamResponse, session: Session, piece: bytes) -> Session:
        session = await run_blocking(self._service.uploads.append, session, piece)
        async with asyncio.timeout(self._service.idle):
            await response.write(piece)
        return session

    # ------------------------------------------------------------------------------------- remote

    def _channel(self, name: str) -> Channel:
        """Tokens of the remote are kept per repository."""
        if (channel := self._channels.get(name)) is None:
            while len(self._channels) >= _CHANNELS:
                del self._channels[next(iter(self._channels))]
            channel = Channel(self._transport, self._endpoint, self._credentials, f"repository:{name}:pull")
            self._channels[name] = channel
        return channel

    # ------------------------------------------------------------------------------------- expiry

    async def expire(self) -> None:
        """Forget what nobody has fetched or confirmed within the time to live, again and again."""
        while self._ttl:
            await asyncio.sleep(max(60.0, self._ttl / 10))
            try:
                count = await run_blocking(self.forget_old, time.time_ns() - int(self._ttl * 1e9))
            except GantryError as error:
                log.error("expiry of the cache: %s", error.message)  # noqa: TRY400 - the message says all
            else:
                log.info("%d cached manifests and blobs have expired", count)

    def forget_old(self, before: int) -> int:
        """Remove links and manifests that are older; the collector frees the space. How many there were."""
        depot, count = self._service.depot, 0
        for name in list(depot.all_homes()):
            with depot.lock(name):
                for digest in list(depot.manifests(name)):
                    record = depot.manifest_record(name, digest)
                    if record is not None and record.pushed < before:
                        self._service.manifests.delete(name, digest)
                        count += 1
                for digest in list(depot.blob_links(name)):
                    key = depot.blob_key(name, digest)
                    if depot.records.modified(key) < before:
                        count += depot.records.delete(key)
        return count
