"""Image records: which manifests there are, what they are called, and how they look."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gantry.engine.image_index import flattened
from gantry.errors import InvalidArgument, NotFound
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.image import Descriptor, Image
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.ports import ContentStore, Snapshotter, State, Table


class ImageRecord(msgspec.Struct, frozen=True):
    """`id` is the digest of the target (index or manifest); `parent` the image that a build step began with."""

    id: str
    media_type: str
    parent: str = ""
    tagged_at: int = 0
    added_at: int = 0


class TagRecord(msgspec.Struct, frozen=True):
    reference: str
    image_id: str


IMAGES = Table("image", ImageRecord)
TAGS = Table("tag", TagRecord)
_REF_NAME = "org.opencontainers.image.ref.name"


class ImageStore:
    """Looks images up and keeps their records.

    Reads go to memory and never wait. Writes block shortly and hold `lock`, as does the collector: an image cannot
    appear while it decides what is garbage. Views of images are kept by digest: content never changes.
    """

    def __init__(self, state: State, content: ContentStore, snapshots: Snapshotter) -> None:
        self.content = content
        self.snapshots = snapshots
        self.lock = threading.RLock()
        self._state = state
        self._views: dict[tuple[str, str], Image] = {}
        with state.view() as tx:
            self._records: dict[str, ImageRecord] = {record.id: record for record in tx.list(IMAGES)}
            self._tags: dict[str, str] = {tag.reference: tag.image_id for tag in tx.list(TAGS)}

    # ------------------------------------------------------------------------------------------ writes

    def write(self, data: bytes) -> str:
        """Store a small document; returns its digest."""
        with self.content.writer() as writer:
            writer.write(data)
            return writer.commit().digest

    def register(
        self, image_id: str, media_type: str, *, parent: str = "", references: Iterable[str] = ()
    ) -> dict[str, str]:
        """Make an image known, with names, in one transaction; returns the names that other images have lost."""
        return self.register_all({image_id: (media_type, tuple(references))}, parent=parent)

    def register_all(self, images: Mapping[str, tuple[str, tuple[str, ...]]], *, parent: str = "") -> dict[str, str]:
        """Make images known: by id, the media type and full references. A known image keeps its first record."""
        with self.lock:
            now = timestamp.now()
            records, tags = {}, {}
            for image_id, (media_type, references) in images.items():
                record = self._records.get(image_id) or ImageRecord(image_id, media_type, parent, added_at=now)
                if references:
                    record = msgspec.structs.replace(record, tagged_at=now)
                records[image_id] = record
                tags.update(dict.fromkeys(references, image_id))
            with self._state.update() as tx:
                for image_id, record in records.items():
                    tx.put(IMAGES, image_id, record)
                for name, image_id in tags.items():
                    tx.put(TAGS, name, TagRecord(name, image_id))
            lost = {
                name: before
                for name, image_id in tags.items()
                if (before := self._tags.get(name, image_id)) != image_id
            }
            self._records.update(records)
            self._tags.update(tags)
            for key in [key for key in self._views if key[0] in images]:
                del self._views[key]  # an index may have gained a platform
            self._publish()
            return lost

    def untag(self, references: Iterable[str]) -> None:
        with self.lock:
            gone = list(references)
            with self._state.update() as tx:
                for name in gone:
                    tx.delete(TAGS, name)
            for name in gone:
                self._tags.pop(name, None)
            self._publish()

    def forget(self, image_id: str) -> None:
        """Drop an image's record and names; its content is the collector's."""
        with self.lock:
            names = [name for name, target in self._tags.items() if target == image_id]
            with self._state.update() as tx:
                tx.delete(IMAGES, image_id)
                for name in names:
                    tx.delete(TAGS, name)
            self._records.pop(image_id, None)
            for name in names:
                del self._tags[name]
            for key in [key for key in self._views if key[0] == image_id]:
                del self._views[key]
            self._publish()

    def _publish(self) -> None:
        """Keep the layout's index.json in line, for other readers of the layout."""
        named: list[Descriptor] = []
        for name, image_id in sorted(self._tags.items()):
            named.append(self._descriptor(image_id, {_REF_NAME: name}))
        tagged = set(self._tags.values())
        named += [self._descriptor(image_id, None) for image_id in sorted(self._records) if image_id not in tagged]
        self.content.publish_index(documents.index_of(named))

    def _descriptor(self, image_id: str, annotations: dict[str, str] | None) -> Descriptor:
        try:
            size = self.content.stat(image_id).size
        except NotFound:
            size = 0
        return Descriptor(self._records[image_id].media_type, image_id, size, annotations=annotations)

    # ------------------------------------------------------------------------------------------- reads

    def records(self) -> list[ImageRecord]:
        return list(self._records.values())

    def known(self, image_id: str) -> bool:
        return image_id in self._records

    def record(self, image_id: str) -> ImageRecord:
        """Raises NotFound where the image has been removed meanwhile."""
        record = self._records.get(image_id)
        if record is None:
            raise NotFound(f"No such image: {image_id}")
        return record

    def names(self, image_id: str) -> list[Reference]:
        """The references to an image, sorted."""
        names = sorted(name for name, target in list(self._tags.items()) if target == image_id)
        return [Reference.parse(name, default_tag=False) for name in names]

    def repository(self, reference: Reference) -> list[tuple[str, Reference]]:
        """All (image id, tag) of the repository that `reference` names."""
        found = []
        for name, image_id in sorted(self._tags.items()):
            known = Reference.parse(name, default_tag=False)
            if known.repository == reference.repository and known.tag:
                found.append((image_id, known))
        return found

    def children(self, image_id: str) -> list[str]:
        return [record.id for record in list(self._records.values()) if record.parent == image_id]

    def lookup(self, text: str) -> tuple[str, str]:
        """The id of the image that `text` names, and the full reference it was named by ("" for an id or prefix).

        A name goes before an id prefix. Raises InvalidArgument "invalid reference format…", or NotFound.
        """
        if text in self._records:
            return text, ""
        bare = text.removeprefix("sha256:")
        try:
            reference = Reference.parse(text)
        except InvalidArgument:
            if not (_is_hex(bare) and len(bare) == 64):
                raise
            reference = None
        if reference is not None:
            if (found := self._tags.get(str(reference))) is not None:
                return found, str(reference)
            if reference.digest in self._records and self._is_in(reference):
                return reference.digest, str(reference)
        if _is_hex(bare):
            matching = [image_id for image_id in list(self._records) if image_id.startswith("sha256:" + bare)]
            if len(matching) > 1:
                raise NotFound("ambiguous reference")
            if matching:
                return matching[0], ""
        raise NotFound(f"No such image: {reference.familiar if reference is not None else 'sha256:' + bare}")

    def _is_in(self, reference: Reference) -> bool:
        """Whether the digest is one of an image of that repository."""
        return any(name.repository == reference.repository for name in self.names(reference.digest))

    # ------------------------------------------------------------------------------------------- views

    def view(self, image_id: str, platform: Platform | None = None, name: str = "") -> Image:
        """One platform's image: the wanted one, else the host's, else the first that is there. `name` is for errors."""
        record = self.record(image_id)
        key = (image_id, str(platform or ""))
        image = self._views.get(key)
        if image is None:
            image = self._views[key] = self.read(image_id, record.media_type, platform, name)
        names = self.names(image_id)
        digests = {f"{known.familiar_name}@{image_id}" for known in names}
        return msgspec.structs.replace(
            image,
            size=self._size(image),
            repo_tags=tuple(known.familiar for known in names if known.tag),
            repo_digests=tuple(sorted(digests)),
            parent=record.parent,
            last_tagged_at=record.tagged_at,
        )

    def layer_sizes(self, image: Image) -> tuple[int, ...]:
        """The bytes of each layer's files; of its blob where it is not unpacked."""
        sizes = []
        for digest, chain in zip(image.layers, documents.chain_ids(image.diff_ids), strict=True):
            try:
                sizes.append(self.snapshots.usage(chain))
            except NotFound:
                try:
                    sizes.append(self.content.stat(digest).size)
                except NotFound:
                    sizes.append(0)
        return tuple(sizes)

    def _size(self, image: Image) -> int:
        return sum(self.layer_sizes(image))

    def read(self, image_id: str, media_type: str, platform: Platform | None = None, name: str = "") -> Image:
        """An image as its documents describe it, whether it has a record or not."""
        name = name or image_id
        data = self.content.read(image_id, documents.MANIFEST_LIMIT)
        manifest_id, target_size = image_id, len(data)
        if media_type in documents.INDEXES:
            manifest_id = self._choose(data, platform, name)
            data = self.content.read(manifest_id, documents.MANIFEST_LIMIT)
        manifest = documents.decode_manifest(data)
        config = documents.decode_config(self.content.read(manifest.config.digest, documents.MANIFEST_LIMIT))
        has = Platform(config.os or "linux", config.architecture, config.variant)
        if platform is not None and not has.matches(platform):
            raise NotFound(
                f"image with reference {name} was found but its platform ({has}) "
                f"does not match the specified platform ({platform})"
            )
        diff_ids = tuple(config.rootfs.diff_ids)
        if len(diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(manifest.layers)}"
            )
        return Image(
            id=image_id,
            manifest=manifest_id,
            config_digest=manifest.config.digest,
            media_type=media_type,
            os=has.os,
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
            size=0,
            manifest_size=target_size,
        )

    def _choose(self, data: bytes, platform: Platform | None, name: str) -> str:
        wanted = platform or Platform.host()
        present, unsaid = [], []
        for descriptor in self.parts(data):
            about: dict[str, Any] = descriptor.platform or {}
            if descriptor.media_type not in documents.MANIFESTS or about.get("os") == "unknown":
                continue
            if not self._has_config(descriptor.digest):
                continue
            has = Platform(
                str(about.get("os", "linux")), str(about.get("architecture", "")), str(about.get("variant", ""))
            )
            present.append(descriptor.digest)
            if has.matches(wanted):
                return descriptor.digest
            if not about:
                unsaid.append(descriptor.digest)
        if platform is not None and unsaid:
            return unsaid[0]  # the configuration tells what it is for
        if platform is not None or not present:
            raise NotFound(
                f"image with reference {name} was found but does not provide the specified platform ({wanted})"
            )
        return present[0]

    def parts(self, index: bytes) -> list[Descriptor]:
        """What an index names, the parts of the indexes in it included."""
        return list(flattened(index, lambda digest: self.content.read(digest, documents.MANIFEST_LIMIT)))

    def _has_config(self, manifest: str) -> bool:
        """Whether a platform is here: of others there may be the manifest alone."""
        try:
            data = self.content.read(manifest, documents.MANIFEST_LIMIT)
            self.content.stat(documents.decode_manifest(data).config.digest)
        except (NotFound, InvalidArgument):
            return False
        return True

    def reachable(self, image_id: str) -> set[str]:
        """The digests of everything that an image is made of, itself included."""
        found = {image_id}
        waiting = [(image_id, self.record(image_id).media_type)]
        while waiting:
            digest, media_type = waiting.pop()
            if media_type not in documents.INDEXES and media_type not in documents.MANIFESTS:
                continue
            try:
                data = self.content.read(digest, documents.MANIFEST_LIMIT)
            except NotFound:
                continue  # another platform that was never fetched
            if media_type in documents.INDEXES:
                parts = documents.decode_index(data).manifests
            else:
                manifest = documents.decode_manifest(data)
                parts = [manifest.config, *manifest.layers]
            waiting += [(part.digest, part.media_type) for part in parts if part.digest not in found]
            found.update(part.digest for part in parts)
        return found


def _is_hex(text: str) -> bool:
    return 0 < len(text) <= 64 and all(character in "0123456789abcdef" for character in text)
