"""Fetching one blob: what is missing of it, in ranges, several at once where it is large."""

import asyncio
from collections.abc import AsyncIterator

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import GantryError, InvalidArgument
from gantry.model.image import Descriptor
from gantry.ports import PartialBlob, TransferReport
from gantry.registry.errors import Broken, Busy, Unreachable
from gantry.registry.transport import Channel, pause

_BATCH = 1 << 20  # bytes that are written at once
_SEGMENT = 16 << 20  # bytes of one range of a large blob
_LARGE = 4 * _SEGMENT
_AT_ONCE = 4


class Download:
    """One blob into one partial. `run` ends when nothing is missing, or raises what cannot be helped."""

    def __init__(
        self, name: str, blob: Descriptor, into: PartialBlob, report: TransferReport, *, attempts: int
    ) -> None:
        self._path = f"/v2/{name}/blobs/{blob.digest}"
        self._blob = blob
        self._into = into
        self._report = report
        self._attempts = max(attempts, 1)
        self._done = blob.size - sum(end - start for start, end in into.missing())
        self._ranges = True  # until the registry answers a range with everything

    async def run(self, channel: Channel) -> None:
        """Fetch from one endpoint; an attempt that brought something forward does not count."""
        failures = 0
        self._report(self._done)
        while missing := self._into.missing():
            before = self._done
            try:
                await self._round(channel, missing)
            except (Broken, Busy) as error:
                failures = 1 if self._done > before else failures + 1
                if failures >= self._attempts or isinstance(error, Unreachable):
                    raise
                wait = pause(failures, error)
                self._report(self._done, wait)
                await asyncio.sleep(wait)

    async def _round(self, channel: Channel, missing: list[tuple[int, int]]) -> None:
        """Ask once for all that is missing."""
        if self._ranges and sum(end - start for start, end in missing) >= _LARGE:
            await self._segments(channel, _cut(missing))
        else:
            for start, end in missing:
                await self._range(channel, start, end)
                if not self._ranges:
                    return

    async def _segments(self, channel: Channel, segments: list[tuple[int, int]]) -> None:
        waiting = iter(segments)

        async def work() -> None:
            for start, end in waiting:
                await self._range(channel, start, end)
                if not self._ranges:
                    return

        # The first answer shows whether ranges are understood: only then are more connections of use.
        await self._range(channel, *next(waiting))
        if not self._ranges:
            return
        async with TaskOwner("download") as owner:
            tasks = [owner.spawn(_caught(work())) for _ in range(_AT_ONCE)]
            for found in asyncio.as_completed(tasks):
                if (error := await found) is not None:
                    raise error

    async def _range(self, channel: Channel, start: int, end: int) -> None:
        whole = start == 0 and end == self._blob.size
        headers = {} if whole else {"Range": f"bytes={start}-{end - 1}"}
        async with channel.call("GET", self._path, headers=headers, expect=(200, 206)) as response:
            at, until = 0, self._blob.size
            if response.status == 206:
                at, until = self._content_range(response.headers.get("Content-Range", ""), start, end)
            elif not whole:
                self._ranges = False
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) != until - at:
                raise InvalidArgument(
                    f"{self._blob.digest}: the registry sends {length} bytes, the manifest says {until - at}"
                )
            pieces: list[bytes] = []
            size = 0
            try:
                async for piece in _pieces(response.content.iter_any()):
                    pieces.append(piece)
                    size += len(piece)
                    if at + size > until:
                        raise InvalidArgument(f"{self._blob.digest}: more than the announced {until - at} bytes come")
                    if size >= _BATCH:
                        await self._write(at, pieces)
                        at, pieces, size = at + size, [], 0
            finally:
                if size and at + size <= until:
                    await self._write(at, pieces)
            if at + size != until:
                raise Broken(f'Get "{channel.endpoint.url}{self._path}": unexpected EOF')

    def _content_range(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The range that an answer 206 brings: it begins where it was asked to, and ends no later."""
        span, _, total = text.removeprefix("bytes").strip().partition("/")
        first, _, last = span.partition("-")
        if not (first.isdecimal() and last.isdecimal()) or int(first) != start or not start <= int(last) < end:
            raise InvalidArgument(f"{self._blob.digest}: asked for bytes {start}-{end - 1}, was answered {text!r}")
        if total.isdecimal() and int(total) != self._blob.size:
            raise InvalidArgument(
                f"{self._blob.digest}: the registry has {total} bytes, the manifest says {self._blob.size}"
            )
        return start, int(last) + 1

    async def _write(self, offset: int, pieces: list[bytes]) -> None:
        await run_blocking(self._into.write, offset, pieces)
        self._done += sum(map(len, pieces))
        self._report(min(self._done, self._blob.size))


async def _pieces(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in stream:
        if piece:
            yield piece


async def _caught(work: "asyncio.Future[None] | object") -> GantryError | None:
    try:
        await work  # type: ignore[misc]
    except GantryError as error:
        return error
    return None


def _cut(missing: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(at, min(at + _SEGMENT, end)) for start, end in missing for at in range(start, end, _SEGMENT)]
