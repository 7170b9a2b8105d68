"""One repository of one registry: manifests and blobs (OCI distribution specification 1.1)."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlencode, urljoin

import msgspec

from gantry.aio import run_blocking
from gantry.errors import Forbidden, GantryError, InvalidArgument, NotFound, Unauthorized, Unavailable
from gantry.model.digest import Digest
from gantry.model.image import Descriptor
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.ports import ContentStore, PartialBlob, TransferReport
from gantry.registry.auth import Credentials
from gantry.registry.download import Download
from gantry.registry.errors import Unreachable
from gantry.registry.transport import Channel, Transport, attempts
from gantry.registry.upload import Upload

T = TypeVar("T")

ACCEPTED = ", ".join((*sorted(documents.INDEXES | documents.MANIFESTS), "*/*;q=0.5"))
_LIST_LIMIT = 4 << 20
_PAGES = 1000


class Tags(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


class RemoteRepository:
    """Implements `ports.Remote`. It asks the endpoints in their order and stays with the first that knows the image."""

    def __init__(self, transport: Transport, reference: Reference, credentials: Credentials, *, push: bool) -> None:
        self.name = reference.path
        self.reference = reference
        self._transport = transport
        self._push = push
        self._credentials = credentials
        self._channels: list[Channel] = []
        self._opening = asyncio.Lock()

    async def channels(self) -> list[Channel]:
        async with self._opening:
            if not self._channels:
                found = await run_blocking(self._transport.endpoints.of, self.reference.domain, push=self._push)
                scope = f"repository:{self.name}:{'pull,push' if self._push else 'pull'}"
                self._channels = [Channel(self._transport, each, self._credentials, scope) for each in found]
            return self._channels

    async def over(self, work: Callable[[Channel], Awaitable[T]]) -> T:
        """Do `work` at the first endpoint that can, with retries; what the registry itself says counts in the end."""
        channels = await self.channels()
        first: GantryError | None = None
        for place, channel in enumerate(channels):
            try:
                answer = await attempts(self._transport.settings.attempts, functools.partial(work, channel))
            except GantryError as error:
                last = place == len(channels) - 1
                if last or not _goes_on(channel, error):
                    raise (first if first is not None and isinstance(error, Unreachable) else error) from error
                if not channel.endpoint.mirror:
                    first = first or error  # TLS has failed: what it said matters where plain text is refused too
                continue
            if place and not channel.endpoint.mirror and not channels[place - 1].endpoint.mirror:
                self._channels = channels[place:]  # plain text it is
            return answer
        raise Unavailable(f"no endpoint of {self.reference.domain} answers")

    # ---------------------------------------------------------------------------------------- manifests

    async def manifest(self, version: str) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest, verified; raises NotFound "manifest unknown…", InvalidArgument."""

        async def once(channel: Channel) -> tuple[Descriptor, bytes]:
            path = f"/v2/{self.name}/manifests/{version}"
            async with channel.call("GET", path, headers={"Accept": ACCEPTED}) as response:
                announced = response.headers.get("Content-Length", "")
                if announced.isdecimal() and int(announced) > documents.MANIFEST_LIMIT:
                    raise InvalidArgument(
                        f"manifest of {announced} bytes: at most {documents.MANIFEST_LIMIT} are accepted"
                    )
                data = await channel.read(response, documents.MANIFEST_LIMIT)
                media_type = documents.verified_type(data, response.headers.get("Content-Type", ""))
                digest = Digest.of(data)
                for wanted in (version if ":" in version else "", response.headers.get("Docker-Content-Digest", "")):
                    if wanted.startswith("sha256:") and wanted != digest:
                        raise InvalidArgument(f"manifest verification failed for digest {wanted}: got {digest}")
                    if ":" in version and not version.startswith("sha256:"):
                        raise InvalidArgument(f"unsupported digest algorithm: {version.partition(':')[0]}")
                return Descriptor(media_type, str(digest), len(data)), data

        return await self.over(once)

    async def tags(self) -> list[str]:
        """Every tag, through all pages."""

        async def once(channel: Channel) -> list[str]:
            found: list[str] = []
            path = f"/v2/{self.name}/tags/list?n=1000"
            for _ in range(_PAGES):
                async with channel.call("GET", path) as response:
                    data = await channel.read(response, _LIST_LIMIT)
                    link = response.headers.get("Link", "")
                try:
                    found += msgspec.json.decode(data, type=Tags).tags or []
                except (msgspec.DecodeError, RecursionError) as error:
                    raise InvalidArgument(f"invalid list of tags of {self.name}: {error}") from error
                target, _, relation = link.partition(">")
                if not target.startswith("<") or 'rel="next"' not in relation.replace("'", '"'):
                    return found
                base = channel.endpoint.url + path if "://" not in path else path
                path = urljoin(base, target[1:])
                if not channel.is_ours(path):
                    raise InvalidArgument(f'list of tags of {self.name}: next page on another host "{path}"')
            raise InvalidArgument(f"list of tags of {self.name} has no end")

        return await self.over(once)

    # -------------------------------------------------------------------------------------------- blobs

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        if not 0 <= blob.size <= limit:
            raise InvalidArgument(f"blob {blob.digest} of {blob.size} bytes: at most {limit} are accepted")

        async def once(channel: Channel) -> bytes:
            async with channel.call("GET", self._blob(blob.digest)) as response:
                data = await channel.read(response, limit)
            if Digest.of(data) != blob.digest or len(data) != blob.size:
                raise InvalidArgument(f"blob verification failed for digest {blob.digest}")
            return data

        return await self.over(once)

    async def has(self, digest: str) -> bool:
        async def once(channel: Channel) -> bool:
            async with channel.call("HEAD", self._blob(digest), expect=(200, 404)) as response:
                return response.status == 200

        return await self.over(once)

    async def fetch(self, blob: Descriptor, into: PartialBlob, report: TransferReport) -> None:
        channels = await self.channels()
        settings = self._transport.settings
        download = Download(self.name, blob, into, report, attempts=settings.attempts)
        for channel in channels:
            try:
                await download.run(channel)
            except GantryError as error:
                if channel is channels[-1] or not _goes_on(channel, error):
                    raise
            else:
                return

    async def mount(self, digest: str, source: str) -> bool:
        async def once(channel: Channel) -> bool:
            query = urlencode({"mount": digest, "from": source})
            channel.scopes.add(f"repository:{source}:pull")
            path = f"/v2/{self.name}/blobs/uploads/"
            async with channel.call(
                "POST", f"{path}?{query}", headers={"Content-Length": "0"}, expect=(201, 202)
            ) as response:
                if response.status == 201:
                    return True
                location = response.headers.get("Location", "")
            if location:  # the registry has begun an upload instead: not wanted
                with suppress(GantryError):
                    async with channel.call("DELETE", urljoin(channel.endpoint.url + path, location), expect=(204,)):
                        pass
            return False

        try:
            return await self.over(once)
        except (Unauthorized, Forbidden, NotFound, InvalidArgument):
            return False
        finally:
            for channel in self._channels:
                channel.scopes.discard(f"repository:{source}:pull")

    async def send(self, blob: Descriptor, content: ContentStore, report: TransferReport) -> None:
        settings = self._transport.settings
        upload = Upload(self.name, blob, content, report, attempts=settings.attempts)
        channels = await self.channels()
        await upload.run(channels[0])

    async def put_manifest(self, version: str, media_type: str, data: bytes) -> str:
        digest = str(Digest.of(data))

        async def once(channel: Channel) -> str:
            path = f"/v2/{self.name}/manifests/{version}"
            headers = {"Content-Type": media_type}
            async with channel.call(
                "PUT", path, headers=headers, body=lambda: data, expect=(201, 200, 202)
            ) as response:
                said = response.headers.get("Docker-Content-Digest", "")
                if said.startswith("sha256:") and said != digest:
                    raise InvalidArgument(f"the registry has stored {said} where {digest} was sent")
                return digest

        return await self.over(once)

    def _blob(self, digest: str) -> str:
        return f"/v2/{self.name}/blobs/{digest}"


def _goes_on(channel: Channel, error: GantryError) -> bool:
    """Whether the next endpoint is asked: after any failure of a mirror, or where TLS is not spoken."""
    if channel.endpoint.mirror:
        return True
    return channel.endpoint.insecure and channel.endpoint.url.startswith("https:") and isinstance(error, Unreachable)
