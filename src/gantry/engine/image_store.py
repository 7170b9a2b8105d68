"""Image records: which manifests there are, what they are called, and what of them is garbage."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from gantry.errors import Conflict, InvalidArgument, NotFound
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.image import Image
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.ports import ContentStore, Leases, Snapshotter, State, Table


class ImageRecord(msgspec.Struct, frozen=True):
    """`id` is the digest of the target (index or manifest); `parent` the image that a build step began with."""

    id: str
    media_type: str
    parent: str = ""
    tagged_at: int = 0
    added_at: int = 0
    sizes: dict[str, int] = {}


class TagRecord(msgspec.Struct, frozen=True):
    reference: str
    image_id: str


IMAGES = Table("image", ImageRecord)
TAGS = Table("tag", TagRecord)


class ImageStore:
    """Looks images up and keeps their records. Methods block shortly; views of images are cached by digest."""

    def __init__(self, state: State, content: ContentStore, snapshots: Snapshotter, leases: Leases) -> None:
        self.state = state
        self.content = content
        self.snapshots = snapshots
        self.leases = leases
        self._lock = threading.RLock()
        self._views: dict[tuple[str, str], Image] = {}
        with state.view() as tx:
            self._records: dict[str, ImageRecord] = {record.id: record for record in tx.list(IMAGES)}
            self._tags: dict[str, str] = {tag.reference: tag.image_id for tag in tx.list(TAGS)}

    def write(self, data: bytes) -> str:
        """Store a small document; returns its digest."""
        with self.content.writer() as writer:
            writer.write(data)
            return writer.commit().digest

    def register(self, image_id: str, media_type: str, *, parent: str = "", references: Iterable[str] = ()) -> None:
        """Make an image known, with names, in one transaction. A known image keeps its first record."""
        with self._lock:
            old = self._records.get(image_id)
            now = timestamp.now()
            names = list(references)
            record = old or ImageRecord(image_id, media_type, parent, added_at=now)
            if names:
                record = msgspec.structs.replace(record, tagged_at=now)
            with self.state.update() as tx:
                tx.put(IMAGES, image_id, record)
                for name in names:
                    tx.put(TAGS, name, TagRecord(name, image_id))
            self._records[image_id] = record
            self._tags.update(dict.fromkeys(names, image_id))

    def untag(self, reference: str) -> None:
        with self._lock:
            with self.state.update() as tx:
                tx.delete(TAGS, reference)
            self._tags.pop(reference, None)

    def forget(self, image_id: str) -> None:
        with self._lock:
            with self.state.update() as tx:
                tx.delete(IMAGES, image_id)
            self._records.pop(image_id, None)

    def records(self) -> list[ImageRecord]:
        return list(self._records.values())

    def record(self, image_id: str) -> ImageRecord:
        return self._records[image_id]

    def names(self, image_id: str) -> list[Reference]:
        found = [
            Reference.parse(name, default_tag=False) for name, target in list(self._tags.items()) if target == image_id
        ]
        return sorted(found, key=str)

    def children(self, image_id: str) -> list[str]:
        return [record.id for record in self._records.values() if record.parent == image_id]

    def lookup(self, text: str) -> tuple[str, str]:
        """The id of the image that `text` names, and the reference it is known under ("" when given by id)."""
        if not text:
            raise InvalidArgument("invalid reference format")
        with self._lock:
            if text in self._records:
                return text, ""
            bare = text.removeprefix("sha256:")
            try:
                reference = Reference.parse(text)
            except InvalidArgument:
                if not _is_hex(bare):
                    raise
                reference = None
            if reference is not None:
                if (found := self._tags.get(str(reference))) is not None:
                    return found, str(reference)
                if reference.digest and reference.digest in self._records:
                    return reference.digest, ""
            if _is_hex(bare):
                matching = [image_id for image_id in self._records if image_id.startswith("sha256:" + bare)]
                if len(matching) > 1:
                    raise Conflict(f"ambiguous reference: {text}")
                if matching:
                    return matching[0], ""
        raise NotFound(f"No such image: {reference.familiar if reference is not None else text}")

    def view(self, image_id: str, platform: Platform | None = None) -> Image:
        """One platform's image: the wanted one, else the host's, else the first that is there."""
        key = (image_id, str(platform or ""))
        image = self._views.get(key)
        if image is None:
            image = self._read(image_id, platform)
            self._views[key] = image
        names = self.names(image_id)
        return msgspec.structs.replace(
            image,
            repo_tags=tuple(name.familiar for name in names if name.tag),
            repo_digests=tuple(
                sorted({f"{name.familiar_name}@{image_id}" for name in names} | {n.familiar for n in names if n.digest})
            ),
            parent=self._records[image_id].parent,
            last_tagged_at=self._records[image_id].tagged_at,
        )

    def _read(self, image_id: str, platform: Platform | None) -> Image:
        data = self.content.read(image_id, documents.MANIFEST_LIMIT)
        manifest_id = image_id
        record = self._records[image_id]
        if record.media_type in documents.INDEXES:
            manifest_id = self._choose(image_id, data, platform)
            data = self.content.read(manifest_id, documents.MANIFEST_LIMIT)
        manifest = documents.decode_manifest(data)
        config = documents.decode_config(self.content.read(manifest.config.digest, documents.MANIFEST_LIMIT))
        if platform is not None and record.media_type not in documents.INDEXES:
            has = Platform(config.os or "linux", config.architecture, config.variant)
            if not has.matches(platform):
                raise _wrong_platform(image_id, platform)
        diff_ids = tuple(config.rootfs.diff_ids)
        return Image(
            id=image_id,
            manifest=manifest_id,
            config_digest=manifest.config.digest,
            media_type=record.media_type,
            os=config.os or "linux",
            architecture=config.architecture,
            variant=config.variant,
            created=config.created,
            author=config.author,
            comment=config.comment,
            docker_version=config.docker_version,
            config=config.config or ContainerConfig(),
            layers=tuple(layer.digest for layer in manifest.layers),
            diff_ids=diff_ids,
            chain_id=documents.chain_ids(diff_ids)[-1] if diff_ids else "",
            history=tuple(config.history or ()),
            size=sum(self._layer_size(layer.digest) for layer in manifest.layers),
            manifest_size=len(data),
        )

    def _layer_size(self, digest: str) -> int:
        return self.content.stat(digest).size

    def _choose(self, image_id: str, data: bytes, platform: Platform | None) -> str:
        wanted = platform or Platform.host()
        present = []
        for descriptor in documents.decode_index(data).manifests:
            about: dict[str, Any] = descriptor.platform or {}
            if descriptor.media_type not in documents.MANIFESTS or about.get("os") == "unknown":
                continue
            try:
                self.content.stat(descriptor.digest)
            except NotFound:
                continue
            has = Platform(about.get("os", "linux"), about.get("architecture", ""), about.get("variant", ""))
            present.append(descriptor.digest)
            if has.matches(wanted):
                return descriptor.digest
        if platform is not None or not present:
            raise _wrong_platform(image_id, wanted)
        return present[0]

    def reachable(self, image_id: str) -> set[str]:
        """The digests of everything that an image is made of, itself included."""
        found = {image_id}
        waiting = [(image_id, self._records[image_id].media_type)]
        while waiting:
            digest, media_type = waiting.pop()
            try:
                data = self.content.read(digest, documents.MANIFEST_LIMIT)
            except NotFound:
                continue
            if media_type in documents.INDEXES:
                parts = documents.decode_index(data).manifests
                waiting.extend((part.digest, part.media_type) for part in parts)
            elif media_type in documents.MANIFESTS:
                manifest = documents.decode_manifest(data)
                parts = [manifest.config, *manifest.layers]
            else:
                continue
            found.update(part.digest for part in parts)
        return found

    def collect(self) -> list[str]:
        """Delete blobs and snapshots that no image, lease or container needs; returns the blobs that went."""
        with self._lock:
            images = list(self._records)
            keep: set[str] = set()
            chains: set[str] = set()
            for image_id in images:
                keep |= self.reachable(image_id)
                try:
                    chains.update(documents.chain_ids(self._read(image_id, None).diff_ids))
                except NotFound:
                    continue
            gone = []
            for blob in list(self.content.walk()):
                if blob.digest in keep:
                    continue
                with self.leases.guard(blob.digest, blob.modified_at) as shielded:
                    if not shielded:
                        self.content.delete(blob.digest)
                        gone.append(blob.digest)
            snapshots = {info.key: info for info in self.snapshots.walk()}
            for key in sorted(snapshots, key=lambda key: -self._depth(key, snapshots)):
                if snapshots[key].kind != "committed" or key in chains:
                    continue
                with self.leases.guard(key, snapshots[key].created_at) as shielded:
                    if not shielded:
                        with suppress(Conflict):  # a container still stands on it
                            self.snapshots.remove(key)
            self._views = {key: view for key, view in self._views.items() if key[0] in self._records}
            return gone

    @staticmethod
    def _depth(key: str, snapshots: dict[str, Any]) -> int:
        depth = 0
        while (info := snapshots.get(key)) is not None and info.parent:
            key, depth = info.parent, depth + 1
        return depth


def _wrong_platform(image_id: str, wanted: Platform) -> NotFound:
    return NotFound(f"image with reference {image_id} was found but does not provide the specified platform ({wanted})")


def _is_hex(text: str) -> bool:
    return 0 < len(text) <= 64 and all(character in "0123456789abcdef" for character in text)
