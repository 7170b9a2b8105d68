"""The manifests of an image, platform by platform: what of them is here, and how large it is."""

from typing import Any

from gantry.engine.image_store import ImageStore
from gantry.errors import GantryError, NotFound
from gantry.model.image import Descriptor, Image, PlatformManifest
from gantry.model.platform import Platform
from gantry.oci import documents

_KIND = "vnd.docker.reference.type"
_SUBJECT = "vnd.docker.reference.digest"


def manifests_of(store: ImageStore, image: Image) -> list[PlatformManifest]:
    """Blocking. Every manifest that an image's index names, in its order; its only one where there is no index."""
    if image.media_type not in documents.INDEXES:
        own = Descriptor(image.media_type, image.id, image.manifest_size, platform=platform_of(image))
        return [_manifest(store, image.id, own)]
    try:
        parts = store.parts(store.content.read(image.id, documents.MANIFEST_LIMIT))
    except GantryError:
        return []  # removed meanwhile
    return [_manifest(store, image.id, part) for part in parts]


def platform_of(image: Image) -> dict[str, Any]:
    plain = {"architecture": image.architecture, "os": image.os, "variant": image.variant}
    return {key: value for key, value in plain.items() if value}


def _manifest(store: ImageStore, image_id: str, part: Descriptor) -> PlatformManifest:
    about = part.annotations or {}
    kind = "image" if part.media_type in documents.MANIFESTS else "unknown"
    if about.get(_KIND) == "attestation-manifest":
        kind = "attestation"
    sizes = [_size(store, part.digest)]
    try:
        manifest = documents.decode_manifest(store.content.read(part.digest, documents.MANIFEST_LIMIT))
    except GantryError:
        return PlatformManifest(part, kind, available=False, content=0, unpacked=0, subject=about.get(_SUBJECT, ""))
    blobs = {blob.digest for blob in (manifest.config, *manifest.layers)}
    sizes += [_size(store, digest) for digest in blobs]
    unpacked = _unpacked(store, image_id, part) if kind == "image" and min(sizes) >= 0 else 0
    return PlatformManifest(
        part,
        kind,
        available=min(sizes) >= 0,
        content=sum(size for size in sizes if size > 0),
        unpacked=unpacked,
        subject=about.get(_SUBJECT, ""),
    )


def _size(store: ImageStore, digest: str) -> int:
    """The bytes of a blob, -1 where it is not stored."""
    try:
        return store.content.stat(digest).size
    except NotFound:
        return -1


def _unpacked(store: ImageStore, image_id: str, part: Descriptor) -> int:
    about: dict[str, Any] = part.platform or {}
    platform = None
    if about.get("architecture"):
        platform = Platform(str(about.get("os") or "linux"), about["architecture"], str(about.get("variant") or ""))
    try:
        image = store.view(image_id, platform)
    except GantryError:
        return 0
    total = 0
    for chain in documents.chain_ids(image.diff_ids):
        try:
            total += store.snapshots.usage(chain)
        except NotFound:
            continue  # not unpacked
    return total if image.manifest == part.digest else 0
