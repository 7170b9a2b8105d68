"""What a pushed manifest says: its kind, what it refers to, its subject. Everything in it is hostile."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.digest import Digest
from gantry.oci.documents import DOCKER_LIST, DOCKER_MANIFEST, INDEXES, MANIFEST_LIMIT, MANIFESTS
from gantry.registry.server.errors import RegistryError

_SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
_EMPTY = "application/vnd.oci.empty.v1+json"
_REFERENCES = 4096
"""How many layers or manifests one document may name."""


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A content descriptor as it is stored and as it is listed by the referrers API."""

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] | None = None
    urls: list[str] | None = None


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Pushed(msgspec.Struct, frozen=True):
    """A manifest that was read and found sound. `blobs` and `manifests` must be in the repository."""

    media_type: str
    artifact_type: str
    blobs: tuple[Digest, ...]
    manifests: tuple[Digest, ...]
    subject: Digest | None
    annotations: dict[str, str] | None
    foreign: tuple[Digest, ...] = ()
    """Layers that may be elsewhere: they carry URLs."""

    def descriptor(self, digest: str, size: int) -> Descriptor:
        return Descriptor(self.media_type, digest, size, self.artifact_type, self.annotations)


class URLRule:
    """Which URLs layers may have: those that one of `allow` matches (any, where there is none) and none of `deny`."""

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allow = [re.compile(pattern) for pattern in allow]
        self._deny = [re.compile(pattern) for pattern in deny]

    def __contains__(self, url: str) -> bool:
        allowed = not self._allow or any(pattern.search(url) for pattern in self._allow)
        return allowed and not any(pattern.search(url) for pattern in self._deny)


ANY_URL = URLRule()


def read(data: bytes, content_type: str, urls: URLRule = ANY_URL) -> Pushed:
    """Check a manifest's bytes against the type that the request gives; MANIFEST_INVALID says what is wrong."""
    if len(data) > MANIFEST_LIMIT:
        raise RegistryError(
            "MANIFEST_INVALID",
            f"{len(data)} bytes: at most {MANIFEST_LIMIT} are accepted",
            status=413,
        )
    given = content_type.partition(";")[0].strip().lower()
    if given in _SCHEMA_1:
        raise _invalid("schema 1 manifests are not supported: push the image with a client that writes schema 2 or OCI")
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _invalid(str(error)) from error
    if document.schema_version != 2:
        raise _invalid(f"schema version {document.schema_version} is not supported: only 2 is")
    kind = document.media_type or given
    if given not in ("", "application/json", "application/octet-stream") and given != kind:
        raise _invalid(f"the request says {given}, the manifest {kind}")
    if kind in (DOCKER_MANIFEST, DOCKER_LIST) and not document.media_type:
        raise _invalid(f"a manifest of type {kind} must say so in mediaType")
    if kind in MANIFESTS:
        return _image(document, kind, urls)
    if kind in INDEXES:
        return _index(document, kind)
    raise _invalid(f"media type {kind!r} is none of a manifest")


def _image(document: _Document, kind: str, urls: URLRule) -> Pushed:
    if document.manifests is not None:
        raise _invalid("an image manifest must not have manifests")
    if document.config is None or document.layers is None:
        raise _invalid("an image manifest must have config and layers")
    if document.config.media_type == _EMPTY and not document.artifact_type:
        raise _invalid("artifactType must be set when the config is empty")
    foreign = tuple(_checked(layer) for layer in document.layers if layer.urls)
    for layer in document.layers:
        for url in layer.urls or ():
            _check_url(url, urls)
    stored = [document.config, *(layer for layer in document.layers if not layer.urls)]
    _bound(document.layers)
    return Pushed(
        media_type=kind,
        artifact_type=document.artifact_type or document.config.media_type,
        blobs=tuple(dict.fromkeys(_checked(each) for each in stored)),
        manifests=(),
        subject=_checked(document.subject) if document.subject else None,
        annotations=document.annotations,
        foreign=foreign,
    )


def _index(document: _Document, kind: str) -> Pushed:
    if document.layers is not None or document.config is not None:
        raise _invalid("an index must not have config or layers")
    if document.manifests is None:
        raise _invalid("an index must have manifests")
    _bound(document.manifests)
    return Pushed(
        media_type=kind,
        artifact_type=document.artifact_type,
        blobs=(),
        manifests=tuple(dict.fromkeys(_checked(each) for each in document.manifests)),
        subject=_checked(document.subject) if document.subject else None,
        annotations=document.annotations,
    )


def _bound(references: list[Descriptor]) -> None:
    if len(references) > _REFERENCES:
        raise _invalid(f"{len(references)} references: at most {_REFERENCES} are accepted")


def _checked(descriptor: Descriptor) -> Digest:
    try:
        digest = Digest(descriptor.digest)
    except InvalidArgument as error:
        raise _invalid(error.message[:200]) from error
    if descriptor.size < 0 or not descriptor.media_type:
        raise _invalid(f"the descriptor of {digest} must have a mediaType and a size")
    return digest


def _check_url(url: str, urls: URLRule) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc or parts.fragment or url not in urls:
        raise _invalid(f"invalid URL on layer: {url[:200]!r}")


def _invalid(why: str) -> RegistryError:
    return RegistryError("MANIFEST_INVALID", why)
