"""Archives of images: what `docker save` writes and `docker load` reads (OCI layout, and Docker's manifest.json)."""

import io
import json
import tarfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from gantry.engine.image_store import ImageStore
from gantry.errors import GantryError, InvalidArgument, NotFound
from gantry.model.image import Descriptor
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.oci.compression import detect, open_compressed
from gantry.oci.tar_reader import HEADER_LIMIT
from gantry.ports import LeaseHandle

_CHUNK = 1 << 20
_CONTAINERD_NAME = "io.containerd.image.name"
_BROKEN = (tarfile.TarError, UnicodeError, KeyError, EOFError, ValueError, OSError)
_OCI_NAME = "org.opencontainers.image.ref.name"


_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class BoundedTarInfo(tarfile.TarInfo):
    """Refuses extended headers beyond `HEADER_LIMIT` before they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > HEADER_LIMIT:
            raise InvalidArgument(f"archive header of {self.size} bytes: at most {HEADER_LIMIT} are accepted")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


class Loaded(msgspec.Struct, frozen=True):
    """One image of an archive: its id and the names it was saved under."""

    image_id: str
    references: tuple[str, ...]


class ArchiveReader:
    """Reads one archive from a seekable file. Nothing becomes an image before all of it is verified."""

    def __init__(self, store: ImageStore, lease: LeaseHandle) -> None:
        self._store = store
        self._lease = lease

    def load(self, file: BinaryIO) -> list[Loaded]:
        """Store every blob and register every image; raises InvalidArgument for what is no image archive."""
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedTarInfo) as archive:
                members = {entry.name.removeprefix("./"): entry for entry in archive}
                if "index.json" in members and "oci-layout" in members:
                    return self._layout(archive, members)
                if "manifest.json" in members:
                    return self._docker(archive, members)
        except GantryError:
            raise
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise InvalidArgument(f"invalid archive: {error}") from error
        raise InvalidArgument("invalid archive: does not contain a manifest.json")

    def _small(self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
        entry = members.get(name)
        if entry is None:
            raise InvalidArgument(f"invalid archive: {name} is missing")
        if entry.size > documents.MANIFEST_LIMIT:
            raise InvalidArgument(f"invalid archive: {name} of {entry.size} bytes is too large")
        return _open(archive, entry).read()

    def _json(self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> Any:
        try:
            return json.loads(self._small(archive, members, name))
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"invalid archive: {name}: {error}") from error

    def _copy(self, source: BinaryIO, digest: str = "") -> tuple[str, int, bytes]:
        """Store a stream as a blob; returns digest, size and the first bytes."""
        head = b""
        with self._store.content.writer() as writer:
            while data := source.read(_CHUNK):
                head = head or data[:16]
                writer.write(data)
            blob = writer.commit(digest)
        self._lease.add(blob.digest)
        return blob.digest, blob.size, head

    def _layout(self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> list[Loaded]:
        index = documents.decode_index(self._small(archive, members, "index.json"))
        tags = self._tags_by_config(archive, members)
        loaded: dict[str, set[str]] = {}
        for descriptor in index.manifests:
            self._blobs(archive, members, descriptor)
            names = loaded.setdefault(descriptor.digest, set())
            annotations = descriptor.annotations or {}
            for name in (annotations.get(_CONTAINERD_NAME, ""), annotations.get(_OCI_NAME, "")):
                if ":" in name or "/" in name:
                    names.add(str(Reference.parse(name)))
                    break
            if descriptor.media_type in documents.MANIFESTS:
                manifest = documents.decode_manifest(self._small(archive, members, _blob(descriptor.digest)))
                names |= tags.get(manifest.config.digest, set())
        types = {descriptor.digest: descriptor.media_type for descriptor in index.manifests}
        result = [Loaded(digest, tuple(sorted(names))) for digest, names in loaded.items()]
        for image in result:
            self._register(image, types[image.image_id])
        return result

    def _tags_by_config(self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> dict[str, set[str]]:
        if "manifest.json" not in members:
            return {}
        found: dict[str, set[str]] = {}
        for item in self._json(archive, members, "manifest.json"):
            digest = "sha256:" + str(item.get("Config", "")).rpartition("/")[2].removesuffix(".json")
            found.setdefault(digest, set()).update(str(Reference.parse(tag)) for tag in item.get("RepoTags") or ())
        return found

    def _blobs(self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], root: Descriptor) -> None:
        waiting = [root]
        seen: set[str] = set()
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            name = _blob(descriptor.digest)
            if name not in members:
                if descriptor is root:
                    raise InvalidArgument(f"invalid archive: blob {descriptor.digest} is missing")
                continue  # other platforms may be left out
            self._copy(_open(archive, members[name]), descriptor.digest)
            if descriptor.media_type in documents.INDEXES:
                waiting.extend(documents.decode_index(self._small(archive, members, name)).manifests)
            elif descriptor.media_type in documents.MANIFESTS:
                manifest = documents.decode_manifest(self._small(archive, members, name))
                for part in (manifest.config, *manifest.layers):
                    if _blob(part.digest) not in members:
                        raise InvalidArgument(f"invalid archive: blob {part.digest} is missing")
                waiting += [manifest.config, *manifest.layers]

    def _docker(self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> list[Loaded]:
        items = self._json(archive, members, "manifest.json")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InvalidArgument("invalid archive: manifest.json is not a list of images")
        made: list[Loaded] = []
        for item in items:
            config_data = self._small(archive, members, str(item.get("Config")))
            config = documents.decode_config(config_data)
            names = [str(name) for name in item.get("Layers") or ()]
            if len(names) != len(config.rootfs.diff_ids):
                expected = len(config.rootfs.diff_ids)
                raise InvalidArgument(
                    f"invalid manifest, layers length mismatch: expected {expected}, got {len(names)}"
                )
            layers = []
            for name in names:
                entry = members.get(name)
                if entry is None:
                    raise InvalidArgument(f"invalid archive: {name} is missing")
                digest, size, head = self._copy(_open(archive, entry))
                suffix = {"gzip": "+gzip", "zstd": "+zstd"}.get(detect(head), "")
                layers.append(Descriptor(documents.OCI_LAYER + suffix, digest, size))
            config_digest = self._store.write(config_data)
            self._lease.add(config_digest)
            manifest = documents.Manifest(2, Descriptor(documents.OCI_CONFIG, config_digest, len(config_data)), layers)
            image_id = self._store.write(documents.encode(manifest))
            self._lease.add(image_id)
            made.append(Loaded(image_id, tuple(str(Reference.parse(tag)) for tag in item.get("RepoTags") or ())))
        for image in made:
            self._register(image, documents.OCI_MANIFEST)
        return made

    def _register(self, image: Loaded, media_type: str) -> None:
        self._store.register(image.image_id, media_type, references=image.references)


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _open(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> BinaryIO:
    """A member's bytes; Docker's old archives link one layer to another."""
    opened = archive.extractfile(entry)
    if opened is None:
        raise InvalidArgument(f"invalid archive: {entry.name} is not a file")
    return opened  # type: ignore[return-value]


def open_archive(stream: BinaryIO) -> BinaryIO:
    """The archive's tar, whatever it is compressed with."""
    return open_compressed(stream)


def write_archive(store: ImageStore, images: Sequence[tuple[str, Sequence[Reference]]], out: BinaryIO) -> None:
    """Write images as an OCI layout that also has Docker's manifest.json and repositories, as Docker 28 does."""
    index: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    written: set[str] = set()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for image_id, references in images:
            for digest in sorted(store.reachable(image_id)):
                if digest in written:
                    continue
                written.add(digest)
                try:
                    blob = store.content.stat(digest)
                except NotFound:
                    continue
                with store.content.open(digest) as file:
                    _add(archive, _blob(digest), file, blob.size)
            image = store.view(image_id)
            descriptor = {
                "mediaType": image.media_type, "digest": image_id, "size": store.content.stat(image_id).size,
            }  # fmt: skip
            for reference in references or (None,):
                entry = dict(descriptor)
                if reference is not None:
                    entry["annotations"] = {_CONTAINERD_NAME: str(reference), _OCI_NAME: reference.tag}
                    repositories.setdefault(reference.familiar_name, {})[reference.tag] = (
                        image.layers[-1].partition(":")[2] if image.layers else ""
                    )
                index.append(entry)
            listed.append(
                {
                    "Config": _blob(image.config_digest),
                    "RepoTags": [reference.familiar for reference in references] or None,
                    "Layers": [_blob(layer) for layer in image.layers],
                }
            )
        for name, document in (
            ("index.json", {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": index}),
            ("manifest.json", listed),
            ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
            *((("repositories", repositories),) if repositories else ()),
        ):
            data = json.dumps(document, separators=(",", ":")).encode()
            _add(archive, name, io.BytesIO(data), len(data))


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, file)
