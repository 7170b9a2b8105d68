"""Images as the engine sees them; the OCI documents themselves are in `gantry.oci`."""

from typing import Any

import msgspec

from gantry.model.container import ContainerConfig


class HistoryEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an image's history (OCI image configuration, "history")."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class Image(msgspec.Struct, frozen=True):
    """One platform's image, ready to use.

    `id` is the digest of what a name points at (an index or a manifest), `manifest` the digest of this
    platform's manifest, `layers` and `diff_ids` run from the base upwards, `chain_id` names the snapshot
    of all of them ("" for an image without layers). `size` is the sum of unpacked layer sizes, in bytes.
    """

    id: str
    manifest: str
    config_digest: str
    media_type: str
    os: str
    architecture: str
    variant: str
    created: str
    author: str
    comment: str
    docker_version: str
    config: ContainerConfig
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    chain_id: str
    history: tuple[HistoryEntry, ...]
    size: int
    repo_tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    parent: str = ""
    last_tagged_at: int = 0
    manifest_size: int = 0


class PlatformManifest(msgspec.Struct, frozen=True):
    """One manifest of an image, for lists: `kind` is image, attestation (of manifest `subject`) or unknown.

    `content` are the bytes of its blobs that are stored, `unpacked` those of its files; what is not `available` is
    named by the index alone.
    """

    descriptor: "Descriptor"
    kind: str
    available: bool
    content: int
    unpacked: int
    subject: str = ""


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """OCI content descriptor."""

    media_type: str
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    data: str | None = None
    platform: dict[str, Any] | None = None
    artifact_type: str = ""


# An index of either format lists manifests of the same format.
_LISTED = {
    "application/vnd.oci.image.index.v1+json": "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json": "application/vnd.docker.distribution.manifest.v2+json",
}


def manifest_descriptor(image: Image) -> dict[str, Any]:
    """The OCI descriptor of a platform's manifest, as the Engine API shows it."""
    platform = {"architecture": image.architecture, "os": image.os}
    if image.variant:
        platform["variant"] = image.variant
    return {
        "mediaType": _LISTED.get(image.media_type, image.media_type),
        "digest": image.manifest,
        "size": image.manifest_size,
        "platform": platform,
    }
