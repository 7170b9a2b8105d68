"""The OCI documents: index, manifest and image configuration (OCI image specification 1.1), and Docker's variants."""

import hashlib
import json
from typing import Any

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import ContainerConfig
from gantry.model.image import Descriptor, HistoryEntry

MANIFEST_LIMIT = 4 << 20
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
FOREIGN = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
LAYERS = frozenset(
    {
        OCI_LAYER,
        OCI_LAYER + "+gzip",
        OCI_LAYER + "+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})


class Manifest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str = ""
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    schema_version: int
    manifests: list[Descriptor]
    media_type: str = ""
    annotations: dict[str, str] | None = None


class RootFS(msgspec.Struct, frozen=True):
    diff_ids: list[str]
    type: str = "layers"


class ImageConfig(msgspec.Struct, frozen=True):
    """What Gantry reads of an image configuration; unknown fields are kept in the stored bytes."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    config: ContainerConfig | None = None
    rootfs: RootFS = msgspec.field(default_factory=lambda: RootFS([]))
    history: list[HistoryEntry] | None = None


def manifest_of(config: Descriptor, layers: list[Descriptor]) -> bytes:
    """A new image's manifest; it says what it is (OCI 1.1: `mediaType` SHOULD be there)."""
    return encode(Manifest(2, config, layers, OCI_MANIFEST))


def index_of(manifests: list[Descriptor]) -> bytes:
    """A new index; it says what it is, as `manifest_of`."""
    return encode(Index(2, manifests, OCI_INDEX))


def decode_manifest(data: bytes) -> Manifest:
    manifest: Manifest = _decode(data, Manifest, "manifest")
    return manifest


def decode_index(data: bytes) -> Index:
    index: Index = _decode(data, Index, "index")
    return index


_NOTHING = (b"", b"null")


class _Outline(msgspec.Struct, frozen=True, rename="camel"):
    """What tells the kinds of documents apart."""

    schema_version: int = 0
    media_type: str = ""
    config: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    manifests: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()


def verified_type(data: bytes, announced: str) -> str:
    """The media type of a manifest or index that came with the Content-Type `announced`.

    Header, `mediaType` and content must agree (CVE-2021-41190); schema 1 is refused by name. Raises InvalidArgument.
    """
    if len(data) > MANIFEST_LIMIT:
        raise InvalidArgument(f"manifest of {len(data)} bytes: at most {MANIFEST_LIMIT} are accepted")
    try:
        outline = msgspec.json.decode(data, type=_Outline)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"invalid manifest: {error}") from error
    header = announced.partition(";")[0].strip().lower()
    if header.startswith(SCHEMA_1) or outline.schema_version == 1 or bytes(outline.fs_layers) not in _NOTHING:
        raise InvalidArgument(
            "Docker Image manifest version 2, schema 1 is not supported: push the image again with a current "
            "client, as schema 2 or as an OCI image"
        )
    known = INDEXES | MANIFESTS
    if header in known and outline.media_type and outline.media_type != header:
        raise InvalidArgument(
            f"mediaType in manifest should be '{header}' not '{outline.media_type}': the registry and the document "
            "contradict each other"
        )
    kind = header if header in known else outline.media_type
    has_manifests = bytes(outline.manifests) not in _NOTHING
    has_content = bytes(outline.config) not in _NOTHING or bytes(outline.layers) not in _NOTHING
    if has_manifests and has_content:
        raise InvalidArgument("a document with 'manifests' must not have 'config' or 'layers': refused")
    if not kind and (has_manifests or has_content):
        kind = OCI_INDEX if has_manifests else OCI_MANIFEST
    if kind not in known:
        raise InvalidArgument(f"unsupported media type {kind or header or 'of an unknown document'}")
    if (kind in INDEXES and has_content) or (kind in MANIFESTS and has_manifests):
        raise InvalidArgument(f"media-type: document is no {kind}: refused")
    return kind


def decode_config(data: bytes) -> ImageConfig:
    """Decode an image configuration; `null` stands for a field's default, as in Go."""
    try:
        plain = without_nulls(json.loads(data))
        return msgspec.convert(plain, ImageConfig)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise InvalidArgument(f"invalid image configuration: {error}") from error


def _decode(data: bytes, kind: Any, name: str) -> Any:
    if len(data) > MANIFEST_LIMIT:
        raise InvalidArgument(f"{name} of {len(data)} bytes: at most {MANIFEST_LIMIT} are accepted")
    try:
        decoded = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"invalid {name}: {error}") from error
    if decoded.schema_version != 2:
        raise InvalidArgument(f"unsupported {name} schema version {decoded.schema_version}")
    return decoded


def without_nulls(value: Any) -> Any:
    """Drop the keys of objects whose value is null, at every depth."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def encode(document: Any) -> bytes:
    """Canonical bytes: compact JSON with sorted keys, so that the same content has the same digest."""
    return json.dumps(msgspec.to_builtins(document), separators=(",", ":"), sort_keys=True).encode()


def encode_container_config(config: ContainerConfig) -> dict[str, Any]:
    """The `config` object of an image: only what is set, only what an image may say."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    kept = (
        "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
        "Healthcheck", "Shell", "OnBuild", "ArgsEscaped",
    )  # fmt: skip
    return {name: plain[name] for name in kept if plain.get(name)}


def chain_ids(diff_ids: "list[str] | tuple[str, ...]") -> list[str]:
    """The chain ID of each prefix of the layers (OCI image configuration, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            chain.append("sha256:" + hashlib.sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest())
        else:
            chain.append(diff_id)
    return chain
