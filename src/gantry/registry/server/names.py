"""What may stand in a URL: repository names, tags, digests and upload ids, checked before they meet any storage."""

import re

from gantry.errors import InvalidArgument
from gantry.model.digest import Digest
from gantry.registry.server.errors import RegistryError

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_NAME_LIMIT = 255


def repository(text: str) -> str:
    """A repository's name (distribution specification, "Pulling manifests"); NAME_INVALID otherwise."""
    if len(text) > _NAME_LIMIT or not _NAME.fullmatch(text):
        raise RegistryError("NAME_INVALID", text[:_NAME_LIMIT])
    return text


def digest(text: str) -> Digest:
    """DIGEST_INVALID for what is none."""
    try:
        return Digest(text)
    except InvalidArgument as error:
        raise RegistryError("DIGEST_INVALID", error.message[:300]) from error


def tag(text: str) -> str:
    """A tag, or TAG_INVALID."""
    if not _TAG.fullmatch(text):
        raise RegistryError("TAG_INVALID", text[:128], message="invalid tag")
    return text


def reference(text: str) -> Digest | str:
    """A tag, or a Digest; what has a colon can only be a digest."""
    return digest(text) if ":" in text else tag(text)


def upload(text: str) -> str:
    """An upload's id; BLOB_UPLOAD_UNKNOWN for what we never gave out."""
    if not _UPLOAD.fullmatch(text):
        raise RegistryError("BLOB_UPLOAD_UNKNOWN", text[:64])
    return text
