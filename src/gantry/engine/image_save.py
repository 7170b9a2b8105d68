"""Writing archives of images: an OCI layout that also has Docker's manifest.json and repositories (Docker 25 on)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import msgspec

from gantry.engine.image_archive import CONTAINERD_NAME, OCI_NAME
from gantry.engine.image_store import ImageStore
from gantry.errors import NotFound
from gantry.model.image import Image
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.oci.tar_reader import CHUNK, DIRECTORY
from gantry.oci.tar_writer import TarWriter


def write_archive(
    store: ImageStore, images: Mapping[str, Sequence[Reference]], out: BinaryIO, platform: Platform | None = None
) -> None:
    """Write images with the given names; blobs that several share are written once. Raises NotFound.

    With `platform`, of each image that platform's manifest alone.
    """
    archive = TarWriter(out)
    archive.header("blobs/", DIRECTORY, mode=0o755)
    archive.header("blobs/sha256/", DIRECTORY, mode=0o755)
    for digest in sorted(set().union(*(_parts(store, image_id, platform) for image_id in images))):
        _write_blob(store, digest, archive)
    index: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image_id, references in images.items():
        image = store.view(image_id, platform)
        if platform is not None:
            image = _alone(store, image)
        index += _index_entries(image, references)
        listed.append(_docker_item(store, image, references))
        top = image.layers[-1].partition(":")[2] if image.layers else ""
        for reference in references:
            repositories.setdefault(reference.familiar_name, {})[reference.tag] = top
    _write(archive, "index.json", {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": index})
    _write(archive, "manifest.json", listed)
    _write(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
    if repositories:
        _write(archive, "repositories", repositories)
    archive.close()


def _parts(store: ImageStore, image_id: str, platform: Platform | None) -> set[str]:
    if platform is None:
        return store.reachable(image_id)
    image = store.view(image_id, platform)
    return {image.manifest, image.config_digest, *image.layers}


def _alone(store: ImageStore, image: Image) -> Image:
    """An image of one platform that does without its index."""
    if image.manifest == image.id:
        return image
    index = store.content.read(image.id, documents.MANIFEST_LIMIT)
    part = next(part for part in store.parts(index) if part.digest == image.manifest)
    return msgspec.structs.replace(image, id=image.manifest, media_type=part.media_type, manifest_size=part.size)


def _write(archive: TarWriter, name: str, document: Any) -> None:
    data = json.dumps(document, separators=(",", ":")).encode()
    archive.header(name, size=len(data))
    archive.data(data)


def _write_blob(store: ImageStore, digest: str, archive: TarWriter) -> None:
    try:
        size = store.content.stat(digest).size
        blob = store.content.open(digest)
    except NotFound:
        return  # of another platform, never fetched
    with blob:
        archive.header(_path(digest), size=size)
        while data := blob.read(CHUNK):
            archive.raw(data)
        archive.pad(size)


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _index_entries(image: Image, references: Sequence[Reference]) -> list[dict[str, Any]]:
    plain = {"mediaType": image.media_type, "digest": image.id, "size": image.manifest_size}
    if not references:
        return [plain]
    return [
        {**plain, "annotations": {CONTAINERD_NAME: str(reference), OCI_NAME: reference.tag}} for reference in references
    ]


def _docker_item(store: ImageStore, image: Image, references: Sequence[Reference]) -> dict[str, Any]:
    manifest = documents.decode_manifest(store.content.read(image.manifest, documents.MANIFEST_LIMIT))
    return {
        "Config": _path(image.config_digest),
        "RepoTags": [reference.familiar for reference in references] or None,
        "Layers": [_path(layer) for layer in image.layers],
        "LayerSources": {
            diff_id: {"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest}
            for diff_id, layer in zip(image.diff_ids, manifest.layers, strict=True)
        },
    }
