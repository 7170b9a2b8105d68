"""Docker's `push`: an image goes to a registry with the digest that it has here."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from gantry.aio import TaskOwner, run_blocking
from gantry.engine.image_index import NESTING
from gantry.engine.image_layers import Meter, bar, caught
from gantry.engine.image_store import ImageStore
from gantry.engine.transfers import Transfers
from gantry.errors import GantryError, NotFound
from gantry.model.image import Descriptor
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.ports import Leases, ProgressSink, Registries, Remote

_SOURCES = 3  # other repositories that a blob is looked for in


class _Manifest(msgspec.Struct, frozen=True):
    descriptor: Descriptor
    data: bytes
    parts: tuple[Descriptor, ...]  # blobs, or the manifests of an index


class Pushed(msgspec.Struct, frozen=True):
    """What is under the tag now."""

    tag: str
    digest: str
    size: int


class Pusher:
    """Brings images from the store to registries. One object serves the daemon."""

    def __init__(
        self, store: ImageStore, leases: Leases, registries: Registries, owner: TaskOwner, at_once: int
    ) -> None:
        self._store = store
        self._leases = leases
        self._registries = registries
        self._transfers = Transfers(owner)
        self._slots = asyncio.Semaphore(max(at_once, 1))

    def check(self, repository: Reference) -> list[tuple[str, Reference]]:
        """The (image id, tag)s that a push of this reference sends; raises NotFound with Docker's words."""
        if not repository.tag:
            if not (found := self._store.repository(repository)):
                raise NotFound(f"An image does not exist locally with the tag: {repository.familiar_name}")
            return found
        try:
            image_id, _ = self._store.lookup(str(repository))
        except NotFound:
            name = repository.familiar_name
            if self._store.repository(repository):
                raise NotFound(f"tag does not exist: {repository.familiar}") from None
            raise NotFound(f"An image does not exist locally with the tag: {name}") from None
        return [(image_id, repository)]

    async def push(
        self, repository: Reference, platform: Platform | None, progress: ProgressSink, auth: str
    ) -> list[Pushed]:
        """Send one tag, or all of a repository where the reference has none. Raises with Docker's words."""
        images = self.check(repository)
        progress({"status": f"The push refers to repository [{repository.repository}]"})
        remote = self._registries.repository(repository, auth, push=True)
        done = []
        with self._leases.lease() as lease:
            for image_id, reference in images:
                lease.add(*await run_blocking(self._store.reachable, image_id))
                pushed = await self._tag(remote, image_id, reference, platform, progress)
                progress({"status": f"{reference.tag}: digest: {pushed.digest} size: {pushed.size}"})
                aux = {"Tag": pushed.tag, "Digest": pushed.digest, "Size": pushed.size}
                progress({"progressDetail": {}, "aux": aux})
                done.append(pushed)
        return done

    async def _tag(
        self, remote: Remote, image_id: str, reference: Reference, platform: Platform | None, progress: ProgressSink
    ) -> Pushed:
        top = await run_blocking(self._read, Descriptor(self._store.record(image_id).media_type, image_id, 0))
        if top.descriptor.media_type in documents.INDEXES:
            if platform is not None:
                top = await run_blocking(self._platform, image_id, platform, reference)
            elif not await self._children(remote, reference, top, progress):
                index, top = top, await run_blocking(self._platform, image_id, None, reference)
                progress({"progressDetail": {}, "aux": _instead(index.descriptor, top.descriptor)})
        elif platform is not None:
            await run_blocking(self._store.view, image_id, platform, reference.familiar)
        if top.descriptor.media_type not in documents.INDEXES:
            await self._blobs(remote, reference, top, progress)
        digest = await remote.put_manifest(reference.tag, top.descriptor.media_type, top.data)
        return Pushed(reference.tag, digest, len(top.data))

    def _read(self, descriptor: Descriptor) -> _Manifest:
        data = self._store.content.read(descriptor.digest, documents.MANIFEST_LIMIT)
        if descriptor.media_type in documents.INDEXES:
            parts = documents.decode_index(data).manifests
        else:
            manifest = documents.decode_manifest(data)
            parts = [*manifest.layers, manifest.config]
        return _Manifest(msgspec.structs.replace(descriptor, size=len(data)), data, tuple(parts))

    def _platform(self, image_id: str, platform: Platform | None, reference: Reference) -> _Manifest:
        """The manifest of one platform that is here."""
        image = self._store.view(image_id, platform, reference.familiar)
        index = self._store.content.read(image_id, documents.MANIFEST_LIMIT)
        return self._read(next(part for part in self._store.parts(index) if part.digest == image.manifest))

    async def _children(
        self, remote: Remote, reference: Reference, index: _Manifest, progress: ProgressSink, depth: int = NESTING
    ) -> bool:
        """Send everything that an index names; False where a part is neither here nor at the registry."""
        manifests = []
        for part in index.parts:
            try:
                manifests.append(await run_blocking(self._read, part))
            except NotFound:
                if not await self._is_there(remote, part):
                    return False
        for manifest in manifests:
            if manifest.descriptor.media_type in documents.INDEXES:
                if not depth or not await self._children(remote, reference, manifest, progress, depth - 1):
                    return False
                continue
            for blob in manifest.parts:
                if await run_blocking(self._is_here, blob.digest) or await remote.has(blob.digest):
                    continue
                if not await self._mount(remote, reference, blob):
                    return False
        for manifest in manifests:
            if manifest.descriptor.media_type not in documents.INDEXES:
                await self._blobs(remote, reference, manifest, progress)
            await remote.put_manifest(manifest.descriptor.digest, manifest.descriptor.media_type, manifest.data)
        return True

    async def _is_there(self, remote: Remote, part: Descriptor) -> bool:
        try:
            await remote.manifest(part.digest)
        except NotFound:
            return False
        return True

    def _is_here(self, digest: str) -> bool:
        try:
            self._store.content.stat(digest)
        except NotFound:
            return False
        return True

    # --------------------------------------------------------------------------------------------- blobs

    async def _blobs(self, remote: Remote, reference: Reference, manifest: _Manifest, progress: ProgressSink) -> None:
        *layers, config = {part.digest: part for part in manifest.parts}.values()
        for layer in layers:
            progress(bar(layer, "Preparing"))
        async with TaskOwner("push") as owner:
            tasks = [owner.spawn(caught(None, self._blob(remote, reference, layer, progress))) for layer in layers]
            tasks.append(owner.spawn(caught(None, self._blob(remote, reference, config, _silent))))
            for finished in asyncio.as_completed(tasks):
                _, error = await finished
                if error is not None:
                    raise error

    async def _blob(self, remote: Remote, reference: Reference, blob: Descriptor, progress: ProgressSink) -> None:
        async def work(sink: ProgressSink) -> None:
            if self._slots.locked():
                sink(bar(blob, "Waiting"))
            async with self._slots:
                await self._send(remote, reference, blob, sink)

        await self._transfers.join(f"{reference.repository} {blob.digest}", progress, work)

    async def _send(self, remote: Remote, reference: Reference, blob: Descriptor, sink: ProgressSink) -> None:
        if await remote.has(blob.digest):
            sink(bar(blob, "Layer already exists"))
            return
        if source := await self._mount(remote, reference, blob):
            sink(bar(blob, f"Mounted from {source}"))
            return
        meter = Meter(blob, "Pushing", sink)

        def sent(done: int, wait: float = 0) -> None:
            if wait:
                sink(bar(blob, f"Retrying in {max(round(wait), 1)} second{'s' if wait >= 1.5 else ''}"))
            else:
                meter(done)

        await remote.send(blob, self._store.content, sent)
        sink(bar(blob, "Pushed"))

    async def _mount(self, remote: Remote, reference: Reference, blob: Descriptor) -> str:
        """Take a blob over from another repository of the registry; returns which, "" where that did not work."""
        for source in await run_blocking(self._sources, reference, blob.digest):
            if await remote.mount(blob.digest, source):
                return source
        return ""

    def _sources(self, reference: Reference, digest: str) -> Sequence[str]:
        """Repositories of the same registry that images here with this blob have come from or gone to."""
        found: dict[str, None] = {}
        for record in self._store.records():
            names = [name for name in self._store.names(record.id) if name.domain == reference.domain]
            paths = [name.path for name in names if name.path != reference.path]
            if paths and any(path not in found for path in paths) and self._has_part(record.id, digest):
                found.update(dict.fromkeys(paths))
        return list(found)[:_SOURCES]

    def _has_part(self, image_id: str, digest: str) -> bool:
        try:
            return digest in self._store.reachable(image_id)
        except GantryError:
            return False  # removed meanwhile


def _silent(_: dict[str, Any]) -> None:
    """Configurations have no line of their own."""


def _instead(index: Descriptor, manifest: Descriptor) -> dict[str, Any]:
    return {
        "manifestPushedInsteadOfIndex": True,
        "originalIndex": _plain(index),
        "selectedManifest": _plain(manifest),
    }


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(descriptor)
    return plain
