"""Indexes in indexes: the manifests that an image's index leads to, as Docker finds them."""

from collections.abc import Callable, Iterator

import msgspec

from gantry.errors import NotFound
from gantry.model.image import Descriptor
from gantry.oci import documents

NESTING = 2  # indexes below the one that a name points at


def flattened(
    data: bytes, read: Callable[[str], bytes], *, depth: int = NESTING, seen: set[str] | None = None
) -> Iterator[Descriptor]:
    """The parts of an index, with those of the indexes in it in their place.

    `read` gives a stored document or raises NotFound: what is not here is left out, and so is what lies deeper than
    `depth`. Each index is read once, however often it is named. A part without a platform has that of its index.
    """
    seen = set() if seen is None else seen
    for part in documents.decode_index(data).manifests:
        if part.media_type not in documents.INDEXES:
            yield part
            continue
        if not depth or part.digest in seen:
            continue
        seen.add(part.digest)
        try:
            inner = read(part.digest)
        except NotFound:
            continue
        for each in flattened(inner, read, depth=depth - 1, seen=seen):
            yield each if each.platform else msgspec.structs.replace(each, platform=part.platform)
