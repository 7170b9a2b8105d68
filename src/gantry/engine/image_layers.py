"""The layers of one image that is being pulled: fetched, checked and unpacked at once, several at a time."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, BinaryIO, TypeVar, cast

from gantry.aio import TaskOwner, run_blocking
from gantry.engine.transfers import Transfers
from gantry.errors import GantryError, InvalidArgument, NotFound, Unavailable
from gantry.model.digest import Digest
from gantry.model.image import Descriptor
from gantry.oci.documents import chain_ids
from gantry.ports import ContentStore, Layers, LeaseHandle, PartialBlob, ProgressSink, Remote, Snapshotter

T = TypeVar("T")

_STEP = 0.1  # seconds between two messages of one bar
_SPACE = 1 << 30  # bytes that any layer may expand to,
_RATIO = 200  # and how many times its compressed size beyond that


class LayerPuller:
    """Brings layers from a registry into the store. One object serves all pulls of the daemon."""

    def __init__(
        self, content: ContentStore, snapshots: Snapshotter, layers: Layers, owner: TaskOwner, at_once: int
    ) -> None:
        self._content = content
        self._snapshots = snapshots
        self._layers = layers
        self._transfers = Transfers(owner)
        self._slots = asyncio.Semaphore(max(at_once, 1))

    async def pull(
        self,
        remote: Remote,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[str],
        progress: ProgressSink,
        lease: LeaseHandle,
    ) -> None:
        """Returns when every layer is stored, and unpacked on the one below it."""
        chains = chain_ids(tuple(diff_ids))
        lease.add(*chains, *(layer.digest for layer in layers))
        there = await run_blocking(self._all_there, layers, chains)
        if all(stored and unpacked for stored, unpacked in there):
            return
        for layer, (stored, unpacked) in zip(layers, there, strict=True):
            progress(bar(layer, "Already exists" if stored and unpacked else "Pulling fs layer"))
        async with TaskOwner("layers") as owner:
            first: dict[str, asyncio.Task[tuple[str, GantryError | None]]] = {}
            for place, (layer, diff_id, (stored, unpacked)) in enumerate(zip(layers, diff_ids, there, strict=True)):
                if layer.digest not in first and not (stored and unpacked):
                    work = self._one(remote, layer, diff_id, progress, bottom=place == 0, stored=stored)
                    first[layer.digest] = owner.spawn(caught("", work))
            parent = ""
            try:
                for layer, diff_id, chain, (stored, unpacked) in zip(layers, diff_ids, chains, there, strict=True):
                    if stored and unpacked:
                        parent = chain
                        continue
                    parent = await self._place(layer, diff_id, parent, await self._next(first, layer.digest))
                    progress(bar(layer, "Pull complete"))
            except BaseException:
                for task in first.values():
                    task.cancel()
                for task in first.values():
                    await _settled(task)
                    if not task.cancelled() and task.result()[0]:
                        await run_blocking(self._layers.drop, task.result()[0])
                raise

    async def _next(self, tasks: dict[str, "asyncio.Task[tuple[str, GantryError | None]]"], digest: str) -> str:
        """What `_one` made of a layer; raises the first error of any layer, whichever it is."""
        mine = tasks[digest]
        waiting = {task for task in tasks.values() if task is mine or not task.done()}
        while not mine.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.result()[1]) is not None:
                    raise error
        key, error = mine.result()
        if error is not None:
            raise error
        return key

    async def _place(self, layer: Descriptor, diff_id: str, parent: str, key: str) -> str:
        if key:
            try:
                return await run_blocking(self._layers.place, key, diff_id, parent)
            except NotFound:
                pass  # it was placed already: the image has this layer twice
        return await run_blocking(self._layers.unpack, layer.digest, diff_id, parent)

    async def _one(
        self, remote: Remote, layer: Descriptor, diff_id: str, progress: ProgressSink, *, bottom: bool, stored: bool
    ) -> str:
        """Store one layer and unpack it on its own; returns what to place, "" where somebody else has it."""

        async def work(sink: ProgressSink) -> str:
            return await self._fetch(remote, layer, diff_id, sink, bottom=bottom, stored=stored)

        async def drop(key: str) -> None:
            await run_blocking(self._layers.drop, key)

        key, mine = await self._transfers.join(f"{layer.digest} {diff_id} {bottom}", progress, work, drop)
        return key if mine else ""

    def _all_there(self, layers: Sequence[Descriptor], chains: Sequence[str]) -> list[tuple[bool, bool]]:
        """Of each layer, whether its blob is stored and whether its chain is unpacked."""
        return [
            (_exists(self._content.stat, layer.digest), _exists(self._snapshots.stat, chain))
            for layer, chain in zip(layers, chains, strict=True)
        ]

    async def _fetch(
        self, remote: Remote, layer: Descriptor, diff_id: str, sink: ProgressSink, *, bottom: bool, stored: bool
    ) -> str:
        if self._slots.locked():
            sink(bar(layer, "Waiting"))
        async with self._slots:
            stored = stored or await run_blocking(_exists, self._content.stat, layer.digest)
            if stored:
                file = await run_blocking(self._content.open, layer.digest)
                try:
                    return await self._extract(file, layer, diff_id, sink, bottom=bottom)
                finally:
                    await run_blocking(file.close)
            return await self._stream(remote, layer, diff_id, sink, bottom=bottom)

    async def _stream(
        self, remote: Remote, layer: Descriptor, diff_id: str, sink: ProgressSink, *, bottom: bool
    ) -> str:
        """Download and unpack in one pass; what an earlier attempt left is thrown away where it turns out wrong."""
        while True:
            partial = await run_blocking(self._content.partial, layer.digest, layer.size)
            resumed = partial.resumed
            done = False
            try:
                key = await self._both(remote, layer, diff_id, sink, partial, bottom=bottom)
                try:
                    await run_blocking(partial.commit)
                except BaseException:
                    await run_blocking(self._layers.drop, key)
                    raise
                done = True
            except InvalidArgument:
                await run_blocking(partial.discard)
                done = True
                if not resumed:
                    raise
            else:
                return key
            finally:
                if not done:
                    await run_blocking(partial.close)

    async def _both(
        self, remote: Remote, layer: Descriptor, diff_id: str, sink: ProgressSink, partial: PartialBlob, *, bottom: bool
    ) -> str:
        download = Meter(layer, "Downloading", sink)

        def downloaded(done: int, wait: float = 0) -> None:
            if wait:
                sink(bar(layer, f"Retrying in {max(round(wait), 1)} second{'s' if wait >= 1.5 else ''}"))
            elif done < layer.size:
                download(done)

        async def fetch() -> None:
            await remote.fetch(layer, partial, downloaded)
            sink(bar(layer, "Verifying Checksum"))
            await run_blocking(partial.sync)
            sink(bar(layer, "Download complete"))
            unpacking.shown = True

        unpacking = Meter(layer, "Extracting", sink, shown=False)
        stream = cast("BinaryIO", _Counted(partial.follow(), unpacking))
        async with TaskOwner("layer") as owner:
            fetching = owner.spawn(caught(None, fetch()))
            extract = run_blocking(self._layers.extract, stream, diff_id, bottom=bottom, limit=limit(layer.size))
            extracting = owner.spawn(caught("", extract))
            try:
                await asyncio.wait({fetching, extracting}, return_when=asyncio.FIRST_COMPLETED)
                if not fetching.done() and extracting.result()[1] is not None:
                    fetching.cancel()
                    await asyncio.wait({fetching})
                if not fetching.cancelled() and (error := (await fetching)[1]) is not None:
                    partial.fail(error)
                await _settled(extracting)
            except BaseException:
                fetching.cancel()
                partial.fail(Unavailable("the pull was cancelled"))
                await _settled(extracting)
                if not extracting.cancelled() and extracting.result()[0]:
                    await run_blocking(self._layers.drop, extracting.result()[0])
                raise
        key, error = extracting.result()
        if not fetching.cancelled() and (failed := fetching.result()[1]) is not None:
            if key:
                await run_blocking(self._layers.drop, key)
            raise failed
        if error is not None:
            if not partial.missing():
                await run_blocking(partial.verify)  # bytes that are not those of the manifest explain it better
            raise error
        return key

    async def _extract(
        self, file: BinaryIO, layer: Descriptor, diff_id: str, sink: ProgressSink, *, bottom: bool
    ) -> str:
        stream = cast("BinaryIO", _Counted(file, Meter(layer, "Extracting", sink)))
        return await run_blocking(self._layers.extract, stream, diff_id, bottom=bottom, limit=limit(layer.size))


class Meter:
    """A layer's bar. It may be moved from any thread."""

    def __init__(self, layer: Descriptor, status: str, sink: ProgressSink, *, shown: bool = True) -> None:
        self._layer = layer
        self._status = status
        self._sink = sink
        self._next = 0.0
        self.shown = shown

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if self.shown and (now >= self._next or done == self._layer.size):
            self._next = now + _STEP
            self._sink(bar(self._layer, self._status, done))


class _Counted:
    """A stream that tells how far its reader is."""

    def __init__(self, stream: BinaryIO, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._done += len(data)
        self._meter(self._done)
        return data


def bar(layer: Descriptor, status: str, done: int = -1) -> dict[str, Any]:
    """One of Docker's progress messages about a layer."""
    detail = {"current": done, "total": layer.size} if done >= 0 else {}
    return {"status": status, "progressDetail": detail, "id": short(layer.digest)}


def short(digest: str) -> str:
    return Digest(digest).short


def limit(size: int) -> int:
    """How many bytes a layer of `size` compressed bytes may expand to."""
    return _SPACE + _RATIO * size


def _exists(look: Any, name: str) -> bool:
    try:
        look(name)
    except NotFound:
        return False
    return True


async def caught(nothing: T, work: Coroutine[Any, Any, T]) -> tuple[T, GantryError | None]:
    """The result of `work` and None, or `nothing` and the error."""
    try:
        return await work, None
    except GantryError as error:
        return nothing, error


async def _settled(task: "asyncio.Task[Any]") -> None:
    """Wait for a thread's end, whoever cancels the waiting: what it works on must not be taken away."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
