"""Reading archives of images: what `docker save` ever wrote, and OCI image layouts.

An archive is read once, from beginning to end, as it comes in: every file but the few that describe the archive goes
straight into the content store. Only then is it known what belongs together, and all of it is checked.
"""

import posixpath
from typing import Any, BinaryIO

import msgspec

from gantry.engine.image_store import ImageStore
from gantry.errors import InvalidArgument, NotFound
from gantry.model.digest import Digest
from gantry.model.image import Descriptor
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.oci.compression import detect, open_compressed
from gantry.oci.tar_reader import FILE, LINK, SYMLINK, Entry, TarReader
from gantry.ports import BlobInfo, LeaseHandle, ProgressSink

CONTAINERD_NAME = "io.containerd.image.name"
OCI_NAME = "org.opencontainers.image.ref.name"
_ENTRY_LIMIT = 100_000
_DESCRIBING = frozenset({"index.json", "manifest.json", "oci-layout", "repositories"})
_PROGRESS_STEP = 1 << 20
_SUFFIXES = {"": "", "gzip": "+gzip", "zstd": "+zstd"}


class Loaded(msgspec.Struct, frozen=True):
    """One image of an archive: its id, and the full references that it was saved under."""

    image_id: str
    media_type: str
    references: tuple[str, ...]


class _DockerItem(msgspec.Struct, frozen=True, rename="pascal"):
    """One item of Docker's manifest.json."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


class _Blob(msgspec.Struct, frozen=True):
    info: BlobInfo
    compression: str


class ArchiveReader:
    """Reads one archive. Nothing becomes an image here; what was stored is in `stored`, for who has to undo it."""

    def __init__(self, store: ImageStore, lease: LeaseHandle, progress: ProgressSink | None = None) -> None:
        self._store = store
        self._lease = lease
        self._progress = progress
        self._blobs: dict[str, _Blob] = {}
        self._links: dict[str, str] = {}
        self._documents: dict[str, bytes] = {}
        self.stored: set[str] = set()

    def read(self, stream: BinaryIO) -> list[Loaded]:
        """Store every blob and find the images; raises InvalidArgument for what is no image archive."""
        reader = TarReader(open_compressed(stream))
        for count, entry in enumerate(reader):
            if count > _ENTRY_LIMIT:
                raise InvalidArgument(f"invalid archive: more than {_ENTRY_LIMIT} entries")
            name = posixpath.normpath("/" + entry.name)[1:]
            if entry.type == FILE and name in _DESCRIBING:
                self._documents[name] = reader.read(documents.MANIFEST_LIMIT)
            elif entry.type == FILE:
                self._blobs[name] = self._keep(reader, entry, name)
            elif entry.type == SYMLINK:
                self._links[name] = posixpath.normpath(posixpath.join("/", posixpath.dirname(name), entry.link))[1:]
            elif entry.type == LINK:
                self._links[name] = posixpath.normpath("/" + entry.link)[1:]
        if "index.json" in self._documents and "oci-layout" in self._documents:
            return self._layout()
        if "manifest.json" in self._documents:
            return self._docker()
        raise InvalidArgument("invalid archive: open manifest.json: no such file or directory")

    def _keep(self, reader: TarReader, entry: Entry, name: str) -> _Blob:
        head = b""
        done = shown = 0
        label = posixpath.basename(name)[:12]
        if entry.sparse is not None:
            raise InvalidArgument(f'invalid archive: "{entry.name}" is a sparse file')
        with self._store.content.writer() as writer:
            for piece in reader.chunks():
                head = head or bytes(piece[:16])
                writer.write(piece)
                done += len(piece)
                if self._progress is not None and done - shown >= _PROGRESS_STEP:
                    shown = done
                    self._progress(
                        {
                            "status": "Loading layer", "id": label,
                            "progressDetail": {"current": done, "total": entry.size},
                        }
                    )  # fmt: skip
            info = writer.commit()
        self._lease.add(info.digest)
        self.stored.add(info.digest)
        return _Blob(info, detect(head))

    def _file(self, name: str) -> _Blob:
        """A file of the archive; Docker's older archives link one layer to another."""
        path = posixpath.normpath("/" + name)[1:]
        for _ in range(16):
            if (blob := self._blobs.get(path)) is not None:
                return blob
            if (target := self._links.get(path)) is None:
                break
            path = target
        raise InvalidArgument(f"invalid archive: open {name}: no such file or directory")

    def _small(self, digest: str) -> bytes:
        return self._store.content.read(digest, documents.MANIFEST_LIMIT)

    # --------------------------------------------------------------------------------- an OCI layout

    def _layout(self) -> list[Loaded]:
        index = documents.decode_index(self._documents["index.json"])
        tags = self._tags_by_config()
        types: dict[str, str] = {}
        names: dict[str, set[str]] = {}
        for descriptor in index.manifests:
            if descriptor.media_type not in documents.MANIFESTS | documents.INDEXES:
                raise InvalidArgument(f"invalid archive: unsupported media type {descriptor.media_type!r}")
            types[descriptor.digest] = descriptor.media_type
            found = names.setdefault(descriptor.digest, set())
            annotations = descriptor.annotations or {}
            for name in (annotations.get(CONTAINERD_NAME, ""), annotations.get(OCI_NAME, "")):
                if ":" in name or "/" in name:
                    found.add(str(Reference.parse(name)))
                    break
            configs = self._check(descriptor)
            for config in configs:
                found |= tags.get(config, set())
        return [Loaded(digest, types[digest], tuple(sorted(found))) for digest, found in names.items()]

    def _tags_by_config(self) -> dict[str, set[str]]:
        if "manifest.json" not in self._documents:
            return {}
        found: dict[str, set[str]] = {}
        for item in self._items():
            digest = "sha256:" + posixpath.basename(item.config).removesuffix(".json")
            found.setdefault(digest, set()).update(str(Reference.parse(tag)) for tag in item.repo_tags or ())
        return found

    def _check(self, root: Descriptor) -> list[str]:
        """Check an image of the layout; returns the digests of its configurations.

        Of an index, platforms may be left out, but one must be whole.
        """
        if root.media_type in documents.MANIFESTS:
            return [self._check_manifest(root)]
        self._blob(root)
        configs = []
        for descriptor in self._store.parts(self._small(root.digest)):
            Digest(descriptor.digest)
            if descriptor.media_type in documents.MANIFESTS and self._is_here(descriptor.digest):
                configs.append(self._check_manifest(descriptor))
        if not configs:
            raise InvalidArgument(f"invalid archive: no platform of {root.digest} is here")
        return configs

    def _check_manifest(self, descriptor: Descriptor) -> str:
        self._blob(descriptor)
        manifest = documents.decode_manifest(self._small(descriptor.digest))
        self._blob(manifest.config)
        if manifest.config.media_type in documents.CONFIGS:
            config = documents.decode_config(self._small(manifest.config.digest))
            _same_length(config.rootfs.diff_ids, manifest.layers)
            for diff_id in config.rootfs.diff_ids:
                Digest(diff_id)
        for layer in manifest.layers:
            self._blob(layer)
        return manifest.config.digest

    def _is_here(self, digest: str) -> bool:
        try:
            self._store.content.stat(digest)
        except NotFound:
            return False
        return True

    def _blob(self, descriptor: Descriptor) -> None:
        """A blob that must be in the archive, or in the store already, with the size that is claimed."""
        digest = Digest(descriptor.digest)
        self._lease.add(digest)
        try:
            size = self._store.content.stat(digest).size
        except NotFound:
            claimed = self._blobs.get(f"blobs/{digest.algorithm}/{digest.hex}")
            if claimed is not None:
                raise InvalidArgument(f'invalid digest: expected "{digest}", got "{claimed.info.digest}"') from None
            raise InvalidArgument(f"invalid archive: content digest {digest}: not found") from None
        if size != descriptor.size:
            raise InvalidArgument(f"invalid size of {digest}: expected {descriptor.size}, got {size}")

    # ----------------------------------------------------------------------- Docker's manifest.json

    def _items(self) -> list[_DockerItem]:
        try:
            return msgspec.json.decode(self._documents["manifest.json"], type=list[_DockerItem] | None) or []
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"invalid manifest.json: {' '.join(str(error).split())}") from error

    def _docker(self) -> list[Loaded]:
        return [self._convert(item) for item in self._items()]

    def _convert(self, item: _DockerItem) -> Loaded:
        """Make the manifest that this older form lacks."""
        references = tuple(dict.fromkeys(str(Reference.parse(tag)) for tag in item.repo_tags or ()))
        blob = self._file(item.config).info
        config = documents.decode_config(self._small(blob.digest))
        names = item.layers or []
        _same_length(config.rootfs.diff_ids, names)
        layers = []
        for number, (name, diff_id) in enumerate(zip(names, config.rootfs.diff_ids, strict=True)):
            Digest(diff_id)
            layer = self._file(name)
            if not layer.compression and layer.info.digest != diff_id:
                raise InvalidArgument(
                    f'invalid diffID for layer {number}: expected "{diff_id}", got "{layer.info.digest}"'
                )
            media_type = documents.OCI_LAYER + _SUFFIXES.get(layer.compression, "")
            layers.append(Descriptor(media_type, layer.info.digest, layer.info.size))
        config_blob = Descriptor(documents.OCI_CONFIG, blob.digest, blob.size)
        image_id = self._store.write(documents.manifest_of(config_blob, layers))
        self._lease.add(image_id)
        self.stored.add(image_id)
        return Loaded(image_id, documents.OCI_MANIFEST, references)


def _same_length(diff_ids: list[str], layers: list[Any]) -> None:
    if len(diff_ids) != len(layers):
        raise InvalidArgument(f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(layers)}")
