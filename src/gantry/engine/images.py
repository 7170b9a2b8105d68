"""Images: the use cases of Docker's `image` commands."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from gantry.aio import run_blocking
from gantry.engine.image_archive import ArchiveReader, open_archive, write_archive
from gantry.engine.image_store import ImageStore
from gantry.errors import Conflict, GantryError, InvalidArgument, NotFound, Unavailable
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.identity import short_id
from gantry.model.image import Descriptor, HistoryEntry, Image
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.oci.compression import detect, open_compressed
from gantry.ports import ContentStore, Events, LayerInfo, Layers, Leases, ProgressSink, Puller, Snapshotter, State

READ_ERRORS = (EOFError, ValueError, OSError)
_CHUNK = 1 << 20


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
        scratch: Path,
        puller: Puller | None = None,
    ) -> None:
        """`scratch` is a directory for uploads; what a killed daemon left there is removed."""
        self.store = ImageStore(state, content, snapshots, leases)
        self._content = content
        self._layers = layers
        self._leases = leases
        self._events = events
        self._scratch = scratch
        self._puller = puller
        self.containers_using: Callable[[str], list[tuple[str, bool]]] = lambda _: []
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in scratch.iterdir():
            left.unlink()

    async def start(self) -> None:
        """Remove what a killed daemon left without an owner."""
        await run_blocking(self.store.collect)

    # ------------------------------------------------------------------------------------------ lookup

    async def get(self, reference: str, platform: Platform | None = None) -> Image:
        image_id, _ = self.store.lookup(reference)
        return await run_blocking(self.store.view, image_id, platform)

    async def ensure_unpacked(self, image: Image) -> str:
        return await run_blocking(self._unpack, image)

    def _unpack(self, image: Image) -> str:
        if not image.chain_id:
            return ""
        try:
            self.store.snapshots.stat(image.chain_id)
        except NotFound:
            chain = ""
            for digest, diff_id in zip(image.layers, image.diff_ids, strict=True):
                chain = self._layers.unpack(digest, diff_id, chain)
        return image.chain_id

    async def layer_infos(self, image: Image) -> tuple[LayerInfo, ...]:
        manifest = documents.decode_manifest(
            await run_blocking(self._content.read, image.manifest, documents.MANIFEST_LIMIT)
        )
        return tuple(
            LayerInfo(layer.digest, diff_id, layer.size, layer.size, layer.media_type)
            for layer, diff_id in zip(manifest.layers, image.diff_ids, strict=True)
        )

    async def all(self, *, intermediate: bool = False) -> list[Image]:
        """Every image, newest first; those that only a build made on the way are left out unless asked for."""
        found = []
        for record in self.store.records():
            image = await run_blocking(self.store.view, record.id)
            if intermediate or image.repo_tags or image.repo_digests or not self.store.children(record.id):
                found.append(image)
        found.sort(key=lambda image: (image.created, image.id), reverse=True)
        return found

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
        return await run_blocking(self._add, document, layers, parent)

    def _add(self, document: dict[str, Any], layers: Sequence[LayerInfo], parent: str) -> Image:
        with self._leases.lease(*(layer.digest for layer in layers)) as lease:
            data = documents.encode(document)
            config_digest = self.store.write(data)
            lease.add(config_digest)
            manifest = documents.Manifest(
                2,
                Descriptor(documents.OCI_CONFIG, config_digest, len(data)),
                [Descriptor(layer.media_type, layer.digest, layer.size) for layer in layers],
            )
            image_id = self.store.write(documents.encode(manifest))
            lease.add(image_id)
            self.store.register(image_id, documents.OCI_MANIFEST, parent=parent)
        return self.store.view(image_id)

    async def tag(self, image_id: str, reference: str) -> None:
        parsed = Reference.parse(reference)
        if parsed.digest:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        found, _ = self.store.lookup(image_id)
        record = self.store.record(found)
        await run_blocking(self.store.register, found, record.media_type, references=[str(parsed)])
        self._events.publish("image", "tag", found, {"name": parsed.familiar})

    async def receive(self, chunks: AsyncIterator[bytes]) -> Path:
        """Write an upload to a scratch file; the caller removes it."""
        descriptor, name = await run_blocking(tempfile.mkstemp, dir=str(self._scratch))
        path = Path(name)
        file = open(descriptor, "wb", buffering=0)  # noqa: SIM115, PTH123, ASYNC230 - closed below
        try:
            async for chunk in chunks:
                await run_blocking(file.write, chunk)
        except BaseException:
            await run_blocking(path.unlink, missing_ok=True)
            raise
        finally:
            file.close()
        return path

    async def load(self, chunks: AsyncIterator[bytes], progress: ProgressSink) -> None:
        """Docker's `load`: an archive of images in any of the formats that `docker save` ever wrote."""
        path = await self.receive(chunks)
        try:
            loaded = await run_blocking(self._load, path)
        finally:
            path.unlink(missing_ok=True)
        for image in loaded:
            names = [Reference.parse(name).familiar for name in image.references]
            for name in names:
                progress({"stream": f"Loaded image: {name}\n"})
            if not names:
                progress({"stream": f"Loaded image ID: {image.image_id}\n"})
            self._events.publish("image", "load", image.image_id, {"name": names[0] if names else image.image_id})

    def _load(self, path: Path) -> list[Any]:
        with self._leases.lease() as lease, path.open("rb") as raw:
            head = raw.read(16)
            raw.seek(0)
            before = {record.id for record in self.store.records()}
            if not detect(head):
                loaded = ArchiveReader(self.store, lease).load(raw)
            else:
                with tempfile.TemporaryFile(dir=self._scratch) as plain:
                    _inflate(raw, cast("BinaryIO", plain))
                    loaded = ArchiveReader(self.store, lease).load(cast("BinaryIO", plain))
            try:
                for image in loaded:
                    self._unpack(self.store.view(image.image_id))
            except BaseException:
                # A layer that does not unpack is no image: nothing of this archive stays.
                for image in loaded:
                    if image.image_id not in before:
                        for name in image.references:
                            self.store.untag(name)
                        self.store.forget(image.image_id)
                raise
            return loaded

    def save(self, names: Sequence[str], out: BinaryIO) -> None:
        """Blocking. Write an archive of the named images; a repository without a tag means all its tags."""
        chosen: dict[str, list[Reference]] = {}
        for name in names:
            image_id, reference = self.store.lookup(name)
            kept = chosen.setdefault(image_id, [])
            if reference:
                kept.append(Reference.parse(reference))
        write_archive(self.store, list(chosen.items()), out)

    def saved(self, names: Sequence[str]) -> None:
        """Publish what `save` did."""
        for image_id in dict.fromkeys(self.store.lookup(name)[0] for name in names):
            self._events.publish("image", "save", image_id, {"name": image_id})

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
        if reference:
            Reference.parse(reference)
        path = await self.receive(chunks)
        try:
            layer = await run_blocking(self._import, path)
        finally:
            path.unlink(missing_ok=True)
        with self._leases.lease(layer.digest):
            now = timestamp.rfc3339(timestamp.now())
            history = [HistoryEntry(created=now, comment=message or "Imported from -")]
            image = await self.add(
                config, [layer], history, platform=platform or Platform.host(), comment=message, created=now
            )
            try:
                await self.ensure_unpacked(image)
            except GantryError:
                self.store.forget(image.id)
                raise
        if reference:
            await self.tag(image.id, reference)
        self._events.publish("image", "import", image.id, {"name": reference or image.id})
        return await self.get(image.id)

    def _import(self, path: Path) -> LayerInfo:
        diff = hashlib.sha256()
        size = 0
        with path.open("rb") as raw, self._content.writer() as writer:
            stream = open_compressed(raw)
            try:
                while data := stream.read(_CHUNK):
                    diff.update(data)
                    size += len(data)
                    writer.write(data)
            except READ_ERRORS as error:
                raise InvalidArgument(f"archive/tar: invalid tar header: {error}") from error
            if not size:
                raise InvalidArgument("archive is empty")
            blob = writer.commit()
        return LayerInfo(blob.digest, "sha256:" + diff.hexdigest(), blob.size, size, documents.OCI_LAYER)

    async def pull(self, reference: str, platform: Platform | None, progress: ProgressSink, auth: str = "") -> Image:
        parsed = Reference.parse(reference)
        if self._puller is None:
            raise Unavailable(f'failed to resolve reference "{parsed}": this daemon has no registry client')
        image_id = await self._puller.pull(parsed, platform, progress, auth)
        self._events.publish("image", "pull", parsed.familiar, {"name": parsed.familiar_name})
        return await self.get(image_id)

    # ---------------------------------------------------------------------------------------- deletion

    async def remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[dict[str, str]]:
        """Untag, and delete what has no name left; returns Docker's `Untagged` and `Deleted` items."""
        image_id, reference = self.store.lookup(name)
        names = self.store.names(image_id)
        answer: list[dict[str, str]] = []
        short = short_id(image_id)
        if reference and len(names) > 1:
            await run_blocking(self.store.untag, reference)
            self._untagged(image_id, Reference.parse(reference), answer)
            return answer
        if not reference and len({n.repository for n in names}) > 1 and not force:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )
        for container, running in self.containers_using(image_id):
            if not force or (running and not reference):
                raise _in_use(name if reference else "", short, container, running=running)
        children = self.store.children(image_id)
        if children and not reference:
            raise Conflict(f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
        for known in names:
            await run_blocking(self.store.untag, str(known))
            self._untagged(image_id, known, answer)
        if not children:
            await self._delete(image_id, answer, prune=prune)
        return answer

    def _untagged(self, image_id: str, reference: Reference, answer: list[dict[str, str]]) -> None:
        answer.append({"Untagged": reference.familiar})
        self._events.publish("image", "untag", image_id, {"name": image_id})

    async def _delete(self, image_id: str, answer: list[dict[str, str]], *, prune: bool) -> None:
        parent = self.store.record(image_id).parent
        await run_blocking(self.store.forget, image_id)
        answer.append({"Deleted": image_id})
        self._events.publish("image", "delete", image_id, {"name": image_id})
        await run_blocking(self.store.collect)
        if (
            prune
            and parent
            and any(record.id == parent for record in self.store.records())
            and not self.store.names(parent)
            and not self.store.children(parent)
            and not self.containers_using(parent)
        ):
            await self._delete(parent, answer, prune=True)

    async def prune(
        self, *, dangling: bool = True, keep: Callable[[Image], bool] = lambda _: False
    ) -> tuple[list[dict[str, str]], int]:
        """Delete images without a name, or with `dangling` off all that no container uses; returns items and bytes."""
        before = sum(blob.size for blob in self._content.walk())
        answer: list[dict[str, str]] = []
        for image in await self.all():
            if (dangling and image.repo_tags) or self.containers_using(image.id) or keep(image):
                continue
            if self.store.children(image.id):
                continue
            for known in self.store.names(image.id):
                await run_blocking(self.store.untag, str(known))
                self._untagged(image.id, known, answer)
            await self._delete(image.id, answer, prune=True)
        return answer, max(0, before - sum(blob.size for blob in self._content.walk()))


def _in_use(reference: str, image: str, container: str, *, running: bool) -> Conflict:
    """Docker's words for an image that a container stands on; `reference` is "" where it was named by id."""
    if reference:
        return Conflict(
            f'conflict: unable to remove repository reference "{reference}" (must force) - '
            f"container {container[:12]} is using its referenced image {image}"
        )
    return Conflict(
        f"conflict: unable to delete {image} ({'cannot' if running else 'must'} be forced) - "
        f"image is being used by {'running' if running else 'stopped'} container {container[:12]}"
    )


def _inflate(raw: BinaryIO, plain: BinaryIO) -> None:
    stream = open_archive(raw)
    try:
        while data := stream.read(_CHUNK):
            plain.write(data)
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InvalidArgument(f"invalid archive: {error}") from error
    plain.seek(0)
