"""Sending one blob: one request where it is small, chunks that can be resumed where it is large."""

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import BinaryIO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from gantry.aio import run_blocking
from gantry.errors import GantryError, InvalidArgument, NotFound
from gantry.model.image import Descriptor
from gantry.ports import ContentStore, TransferReport
from gantry.registry.errors import Broken, Busy, Unreachable
from gantry.registry.transport import Channel, attempts, pause

_READ = 1 << 20
_CHUNK = 64 << 20  # bytes of one PATCH: after a break, at most this much is sent again


class Upload:
    """One blob of the content store to one repository."""

    def __init__(
        self, name: str, blob: Descriptor, content: ContentStore, report: TransferReport, *, attempts: int
    ) -> None:
        self._begin = f"/v2/{name}/blobs/uploads/"
        self._blob = blob
        self._content = content
        self._report = report
        self._attempts = max(attempts, 1)

    async def run(self, channel: Channel) -> None:
        failures, location, offset, before = 0, "", 0, 0
        while True:
            try:
                if not location:
                    location, offset = await self._start(channel), 0
                while offset < self._blob.size:
                    location, offset = await self._chunk(channel, location, offset)
                await self._finish(channel, location)
            except (Broken, Busy) as error:
                failures, before = (1 if offset > before else failures + 1), offset
                if failures >= self._attempts or isinstance(error, Unreachable):
                    raise
                wait = pause(failures, error)
                self._report(offset, wait)
                await asyncio.sleep(wait)
                location, offset = await self._resume(channel, location)
            else:
                return

    async def _start(self, channel: Channel) -> str:
        async with channel.call("POST", self._begin, headers={"Content-Length": "0"}, expect=(202,)) as response:
            return _location(channel, self._begin, response.headers.get("Location", ""))

    async def _chunk(self, channel: Channel, location: str, offset: int) -> tuple[str, int]:
        end = min(offset + _CHUNK, self._blob.size)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - offset),
            "Content-Range": f"{offset}-{end - 1}",
        }
        whole = offset == 0 and end == self._blob.size
        if whole:
            del headers["Content-Range"]  # some registries know ranges only in chunked uploads
        file = await run_blocking(self._content.open, self._blob.digest)
        try:
            body = functools.partial(self._bytes, file, offset, end)
            async with channel.call("PATCH", location, headers=headers, body=body, expect=(202, 204)) as response:
                return _location(channel, location, response.headers.get("Location", "") or location), end
        finally:
            await run_blocking(file.close)

    async def _finish(self, channel: Channel, location: str) -> None:
        parts = urlsplit(location)
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("digest", self._blob.digest)])
        url = parts._replace(query=query).geturl()
        async with channel.call("PUT", url, headers={"Content-Length": "0"}, expect=(201, 204)) as response:
            said = response.headers.get("Docker-Content-Digest", "")
            if said.startswith("sha256:") and said != self._blob.digest:
                raise InvalidArgument(f"the registry has stored {said} where {self._blob.digest} was sent")

    async def _resume(self, channel: Channel, location: str) -> tuple[str, int]:
        """Where the registry's copy ends; "" where the upload is lost."""
        if not location:
            return "", 0

        async def ask() -> tuple[str, str]:
            async with channel.call("GET", location, expect=(204, 202, 200)) as response:
                following = response.headers.get("Location", "") or location
                return response.headers.get("Range", ""), _location(channel, location, following)

        try:
            held, following = await attempts(self._attempts, ask)
        except GantryError:
            return "", 0  # it does not know of the upload any more: from the beginning
        first, _, last = held.removeprefix("bytes=").partition("-")
        if first != "0" or not last.isdecimal() or not 0 <= int(last) < self._blob.size:
            return "", 0
        return following, int(last) + 1 if int(last) else 0

    async def _bytes(self, file: BinaryIO, offset: int, end: int) -> AsyncIterator[bytes]:
        await run_blocking(file.seek, offset)
        while offset < end:
            data = await run_blocking(file.read, min(_READ, end - offset))
            if not data:
                raise NotFound(f"content digest {self._blob.digest}: shorter than {self._blob.size} bytes")
            yield data
            offset += len(data)
            self._report(offset)


def _location(channel: Channel, base: str, target: str) -> str:
    """Where an upload goes on; it may be elsewhere, but then without credentials."""
    if not target:
        raise InvalidArgument(f"the registry {channel.endpoint.host} does not say where the upload goes on")
    return urljoin(base if "://" in base else channel.endpoint.url + base, target)
