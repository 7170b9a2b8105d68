"""Images: the use cases of Docker's `image` commands."""

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, BinaryIO

import msgspec

from gantry.aio import run_blocking
from gantry.engine.image_archive import ArchiveReader, Loaded
from gantry.engine.image_garbage import Collector
from gantry.engine.image_manifests import manifests_of
from gantry.engine.image_pull import Puller
from gantry.engine.image_push import Pusher
from gantry.engine.image_remove import Removal, Users
from gantry.engine.image_save import write_archive
from gantry.engine.image_store import ImageStore
from gantry.engine.image_upload import consume
from gantry.errors import Conflict, GantryError, InvalidArgument, NotFound, Unavailable
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.image import Descriptor, HistoryEntry, Image, PlatformManifest
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.oci.compression import open_compressed
from gantry.oci.documents import chain_ids
from gantry.ports import (
    ContentStore,
    Events,
    LayerInfo,
    Layers,
    LeaseHandle,
    Leases,
    ProgressSink,
    Snapshotter,
    State,
)  # fmt: skip

log = logging.getLogger(__name__)

_CHUNK = 1 << 20


def created_at(image: Image) -> int:
    """Nanoseconds since the epoch of an image's creation, 0 where it does not say."""
    try:
        return timestamp.parse_rfc3339(image.created) if image.created else 0
    except (ValueError, OverflowError):
        return 0


__all__ = ["Images", "chain_ids", "taggable"]


class Images:
    """Implements `ports.Images`, and what the `/images` routes need."""

    def __init__(
        self,
        state: State,
        content: ContentStore,
        snapshots: Snapshotter,
        layers: Layers,
        leases: Leases,
        events: Events,
    ) -> None:
        self.store = ImageStore(state, content, snapshots)
        self.collector = Collector(self.store, leases)
        self._content = content
        self._layers = layers
        self._leases = leases
        self._events = events
        self.puller: Puller | None = None
        self.pusher: Pusher | None = None
        self.containers_using: Users = lambda _: []
        self.settled: Callable[[], Awaitable[None]] = _at_once
        """Returns when no file of a removed container stands on an image any more."""

    async def start(self) -> None:
        """Remove what a killed daemon left without an owner; nothing else runs yet."""
        await run_blocking(self.collector.collect, grace=0)

    # ------------------------------------------------------------------------------------------ lookup

    async def get(self, reference: str, platform: Platform | None = None) -> Image:
        image_id, _ = self.store.lookup(reference)
        return await run_blocking(self.store.view, image_id, platform, reference)

    async def all(self, *, intermediate: bool = False) -> list[Image]:
        """Every image, newest first; those that only a build made on the way are left out unless asked for."""
        return await run_blocking(self._all, intermediate)

    def _all(self, intermediate: bool) -> list[Image]:
        found = []
        records = self.store.records()
        parents = {record.parent for record in records}
        for record in records:
            try:
                image = self.store.view(record.id)
            except GantryError as error:
                log.warning("image %s cannot be read: %s", record.id, error)
                continue
            if intermediate or image.repo_tags or image.repo_digests or record.id not in parents:
                found.append(image)
        found.sort(key=lambda image: (created_at(image), image.id), reverse=True)
        return found

    async def manifests(self, image: Image) -> list[PlatformManifest]:
        """What there is of an image for each platform, attestations included."""
        return await run_blocking(manifests_of, self.store, image)

    async def layer_infos(self, image: Image) -> tuple[LayerInfo, ...]:
        return await run_blocking(self._layer_infos, image)

    def _layer_infos(self, image: Image) -> tuple[LayerInfo, ...]:
        manifest = documents.decode_manifest(self._content.read(image.manifest, documents.MANIFEST_LIMIT))
        sizes = self.store.layer_sizes(image)
        return tuple(
            LayerInfo(layer.digest, diff_id, layer.size, size, layer.media_type)
            for layer, diff_id, size in zip(manifest.layers, image.diff_ids, sizes, strict=True)
        )

    async def history(self, image: Image) -> list[tuple[Image | None, HistoryEntry, int]]:
        """Lines of the history, newest first, each with the image that ends there (None: unknown) and its bytes."""
        sizes = iter(await run_blocking(self.store.layer_sizes, image))
        lines = [(entry, 0 if entry.empty_layer else next(sizes, 0)) for entry in image.history]
        answer: list[tuple[Image | None, HistoryEntry, int]] = []
        current: Image | None = image
        for entry, size in reversed(lines):
            answer.append((current, entry, size))
            if current is not None:
                current = await self._parent(current)
        return answer

    async def _parent(self, image: Image) -> Image | None:
        if not image.parent or not self.store.known(image.parent):
            return None
        return await run_blocking(self.store.view, image.parent)

    # ----------------------------------------------------------------------------------------- layers

    async def ensure_unpacked(self, image: Image) -> str:
        return await run_blocking(self._ensure_unpacked, image)

    def _ensure_unpacked(self, image: Image) -> str:
        with self._leases.lease() as lease:
            self._unpack(image, lease)
        return image.chain_id

    def _unpack(self, image: Image, lease: LeaseHandle) -> None:
        chains = chain_ids(image.diff_ids)
        lease.add(*chains, *image.layers)
        if not chains or self._is_unpacked(chains[-1]):
            return
        parent = ""
        for digest, diff_id in zip(image.layers, image.diff_ids, strict=True):
            parent = self._layers.unpack(digest, diff_id, parent)

    def _is_unpacked(self, chain: str) -> bool:
        try:
            self.store.snapshots.stat(chain)
        except NotFound:
            return False
        return True

    # ---------------------------------------------------------------------------------------- creation

    async def add(
        self,
        config: ContainerConfig,
        layers: Sequence[LayerInfo],
        history: Sequence[HistoryEntry],
        *,
        platform: Platform,
        parent: str = "",
        author: str = "",
        comment: str = "",
        created: str = "",
        extra: dict[str, Any] | None = None,
    ) -> Image:
        document: dict[str, Any] = {
            "architecture": platform.architecture,
            "os": platform.os,
            "created": created or timestamp.rfc3339(timestamp.now()),
            "config": documents.encode_container_config(config),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [msgspec.to_builtins(entry) for entry in history],
            **({"variant": platform.variant} if platform.variant else {}),
            **({"author": author} if author else {}),
            **({"comment": comment} if comment else {}),
            **(extra or {}),
        }
        return await run_blocking(self._add, document, layers, parent, "")

    def _add(self, document: dict[str, Any], layers: Sequence[LayerInfo], parent: str, name: str) -> Image:
        with self._leases.lease(*(layer.digest for layer in layers)):
            for layer in layers:
                self._content.stat(layer.digest)
            data = documents.encode(document)
            manifest = documents.manifest_of(
                Descriptor(documents.OCI_CONFIG, self.store.write(data), len(data)),
                [Descriptor(layer.media_type, layer.digest, layer.size) for layer in layers],
            )
            image_id = self.store.write(manifest)
            self.store.register(image_id, documents.OCI_MANIFEST, parent=parent, references=[name] if name else [])
        return self.store.view(image_id)

    async def tag(self, image_id: str, reference: str) -> None:
        found, _ = self.store.lookup(image_id)
        parsed = taggable(reference)
        await run_blocking(self._tag, found, parsed)
        await self._publish("tag", found, parsed.familiar)

    def _tag(self, image_id: str, reference: Reference) -> None:
        with self.store.lock:
            self.store.register(image_id, self.store.record(image_id).media_type, references=[str(reference)])

    # --------------------------------------------------------------------------------------- transfer

    async def load(
        self,
        chunks: AsyncIterator[bytes],
        progress: ProgressSink,
        *,
        quiet: bool = True,
        platform: Platform | None = None,
    ) -> None:
        """Docker's `load`: an archive of images, all of them or none. Messages say what was loaded.

        With `platform`, images that are not for it are refused.
        """
        shown = None if quiet else progress
        loaded, lost = await consume(chunks, lambda stream: self._load(stream, shown, platform))
        for name, before in lost.items():
            familiar = Reference.parse(name).familiar
            progress(
                {
                    "stream": f"The image {familiar} already exists, renaming the old one with ID {before} "
                    "to empty string\n"
                }
            )
        for image in loaded:
            names = [Reference.parse(name).familiar for name in image.references]
            for name in names:
                progress({"stream": f"Loaded image: {name}\n"})
            if not names:
                progress({"stream": f"Loaded image ID: {image.image_id}\n"})
            await self._publish("load", image.image_id, image.image_id)

    def _load(
        self, stream: BinaryIO, progress: ProgressSink | None, platform: Platform | None
    ) -> tuple[list[Loaded], dict[str, str]]:
        undo: set[str] = set()
        try:
            with self._leases.lease() as lease:
                reader = ArchiveReader(self.store, lease, progress)
                undo = reader.stored
                loaded = reader.read(stream)
                for image in loaded:
                    self._prepare(image, lease, undo, platform)
                found = {image.image_id: (image.media_type, image.references) for image in loaded}
                lost = self.store.register_all(found)
        except BaseException:
            self.collector.collect(undo)
            raise
        if unused := reader.stored.difference(*(self.store.reachable(image_id) for image_id in found)):
            self.collector.collect(unused)  # what the archive said of its layers for older readers
        return loaded, lost

    def _prepare(self, loaded: Loaded, lease: LeaseHandle, undo: set[str], platform: Platform | None) -> None:
        """Unpack an image that has no record yet; the chain IDs of its layers go to `undo`."""
        name = loaded.references[0] if loaded.references else loaded.image_id
        try:
            image = self.store.read(loaded.image_id, loaded.media_type, platform, name)
        except NotFound:
            if platform is not None:
                raise
            return  # of another platform alone: it is kept and can be saved, not run
        undo.update(chain_ids(image.diff_ids))
        self._unpack(image, lease)

    def save(self, names: Sequence[str], out: BinaryIO, platform: Platform | None = None) -> None:
        """Blocking. Write an archive of the named images; a repository without a tag means all its tags.

        With `platform`, of each image that platform alone.
        """
        with self._leases.lease() as lease:
            chosen = self._choose(names)
            for image_id in chosen:
                lease.add(*self.store.reachable(image_id))
            write_archive(self.store, chosen, out, platform)

    def _choose(self, names: Sequence[str]) -> dict[str, list[Reference]]:
        chosen: dict[str, list[Reference]] = {}
        for name in names:
            found = self._named(name)
            for image_id, reference in found:
                kept = chosen.setdefault(image_id, [])
                if reference is not None and reference not in kept:
                    kept.append(reference)
        return chosen

    def _named(self, name: str) -> Sequence[tuple[str, Reference | None]]:
        try:
            plain = Reference.parse(name, default_tag=False)
        except InvalidArgument:
            plain = None  # a whole id
        if plain is not None and not plain.tag and not plain.digest and (tags := self.store.repository(plain)):
            return tags
        image_id, reference = self.store.lookup(name)
        parsed = Reference.parse(reference) if reference else None
        return [(image_id, parsed if parsed is not None and parsed.tag else None)]

    async def check_names(self, names: Sequence[str], platform: Platform | None = None) -> None:
        """Raises what `save` would raise for these names."""
        for image_id in self._choose(names):
            if platform is not None:
                await run_blocking(self.store.view, image_id, platform, names[0])

    async def saved(self, names: Sequence[str]) -> None:
        """Publish what `save` did."""
        for image_id in self._choose(names):
            await self._publish("save", image_id, image_id)

    async def import_tar(
        self,
        chunks: AsyncIterator[bytes],
        reference: str,
        *,
        config: ContainerConfig,
        message: str = "",
        platform: Platform | None = None,
    ) -> Image:
        """Docker's `import`: a root file system becomes an image of one layer."""
        name = str(taggable(reference)) if reference else ""
        place = platform or Platform.host()
        image = await consume(
            chunks, lambda stream: self._import(stream, name, config, message or "Imported from -", place)
        )
        if name:
            await self._publish("tag", image.id, Reference.parse(name).familiar)
        await self._publish("import", image.id, image.id)
        return image

    def _import(self, stream: BinaryIO, name: str, config: ContainerConfig, message: str, platform: Platform) -> Image:
        undo: set[str] = set()
        try:
            with self._leases.lease():
                layer = self._import_layer(stream)
                undo.add(layer.digest)
                self._layers.unpack(layer.digest, layer.diff_id, "")
                undo.add(layer.diff_id)
                now = timestamp.rfc3339(timestamp.now())
                document = {
                    "architecture": platform.architecture, "os": platform.os, "created": now, "comment": message,
                    **({"variant": platform.variant} if platform.variant else {}),
                    "config": documents.encode_container_config(config),
                    "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                    "history": [{"created": now, "comment": message}],
                }  # fmt: skip
                return self._add(document, [layer], "", name)
        except BaseException:
            self.collector.collect(undo)
            raise

    def _import_layer(self, stream: BinaryIO) -> LayerInfo:
        digest = hashlib.sha256()
        plain = open_compressed(stream)
        with self._content.writer() as writer:
            while data := plain.read(_CHUNK):
                digest.update(data)
                writer.write(data)
            blob = writer.commit()
        return LayerInfo(blob.digest, "sha256:" + digest.hexdigest(), blob.size, blob.size, documents.OCI_LAYER)

    async def pull(self, reference: str, platform: Platform | None, progress: ProgressSink, auth: str = "") -> Image:
        parsed = Reference.parse(reference)
        image_id = await self._registry(parsed).pull(parsed, platform, progress, auth)
        await self._publish("pull", parsed.familiar, parsed.familiar_name)
        return await self.get(image_id, platform)

    async def pull_all(self, repository: str, platform: Platform | None, progress: ProgressSink, auth: str) -> None:
        """Fetch every tag of a repository."""
        parsed = Reference.parse(repository, default_tag=False)
        await self._registry(parsed).pull_all(parsed, platform, progress, auth)
        await self._publish("pull", parsed.familiar_name, parsed.familiar_name)

    def check_push(self, reference: Reference) -> None:
        """Raises what `push` would raise for this reference before it asks the registry."""
        if self.pusher is not None:
            self.pusher.check(reference)

    async def push(
        self, reference: Reference, platform: Platform | None, progress: ProgressSink, auth: str = ""
    ) -> None:
        """Send one tag to its registry, or all tags where the reference has none."""
        if self.pusher is None:
            raise Unavailable(f'failed to push "{reference}": this daemon has no registry client')
        await self.pusher.push(reference, platform, progress, auth)
        await self._publish("push", reference.familiar, reference.familiar_name)

    def _registry(self, reference: Reference) -> Puller:
        if self.puller is None:
            raise Unavailable(f'failed to resolve reference "{reference}": this daemon has no registry client')
        return self.puller

    # ---------------------------------------------------------------------------------------- deletion

    async def remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[dict[str, str]]:
        """Untag, and delete what has no name left; returns Docker's `Untagged` and `Deleted` items."""
        await self.settled()
        removal = Removal(self.store, self.collector, self.containers_using)
        try:
            await run_blocking(removal.run, name, force=force, prune=prune)
        finally:
            answer = await self._tell(removal)
        return answer

    async def _tell(self, removal: Removal) -> list[dict[str, str]]:
        for item in removal.answer:
            if image_id := item.pop("image", ""):
                await self._publish("untag" if "Untagged" in item else "delete", image_id, image_id)
        return removal.answer

    async def prune(
        self, *, dangling: bool = True, keep: Callable[[Image], bool] = lambda _: False
    ) -> tuple[list[dict[str, str]], int]:
        """Delete images without a tag, or with `dangling` off all that no container uses; returns items and bytes."""
        await self.settled()
        answer: list[dict[str, str]] = []
        freed = await run_blocking(self.puller.forget_unfinished) if self.puller is not None else 0
        for image in await self.all():
            if (dangling and image.repo_tags) or keep(image):
                continue
            for name in [str(known) for known in self.store.names(image.id)] or [image.id]:
                removal = Removal(self.store, self.collector, self.containers_using)
                try:
                    if self.collector.is_in_making(image.id):
                        continue
                    await run_blocking(removal.run, name, force=False, prune=True)
                except (Conflict, NotFound):
                    continue  # in use, or gone since
                answer += await self._tell(removal)
                freed += removal.freed
        freed += (await run_blocking(self.collector.collect)).size
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return answer, freed

    async def _publish(self, action: str, actor_id: str, name: str) -> None:
        labels = await run_blocking(self._labels, actor_id)
        self._events.publish("image", action, actor_id, {**labels, "name": name})

    def _labels(self, image_id: str) -> dict[str, str]:
        """The labels of an image that is still there."""
        try:
            return self.store.view(image_id).config.labels or {}
        except GantryError:
            return {}


def taggable(text: str) -> Reference:
    """A reference that may become a tag; raises InvalidArgument."""
    reference = Reference.parse(text)
    if reference.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    if reference.familiar_name == "sha256":
        raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
    return reference


async def _at_once() -> None:
    """Nothing to wait for."""
