"""The blobs of a repository: links to content that all repositories share."""

import time
from collections.abc import Callable

from gantry.errors import NotFound
from gantry.model.digest import Digest
from gantry.ports import BlobInfo
from gantry.registry.server.depot import Depot
from gantry.registry.server.errors import RegistryError


class RepositoryBlobs:
    """The blobs of one repository, as others have linked them there."""

    def __init__(self, depot: Depot, renew_after: float) -> None:
        self._depot = depot
        self._renew_after = int(renew_after * 1e9)

    def stat(self, name: str, digest: Digest) -> BlobInfo:
        """end-2; BLOB_UNKNOWN. Whoever asks may build on the answer, so an old link becomes young again."""
        depot = self._depot
        key = depot.blob_key(name, digest)
        try:
            if time.time_ns() - depot.records.modified(key) > self._renew_after:
                with depot.lock(name):  # not while the collector decides about this repository
                    depot.records.renew(key)
            return depot.blobs.stat(digest)
        except NotFound:
            pass
        record = depot.manifest_record(name, digest)  # a manifest is a blob to whoever asks for its digest
        if record is None:
            raise RegistryError("BLOB_UNKNOWN", digest)
        return BlobInfo(digest, record.size, record.pushed)

    def mount(
        self, name: str, source: str, digest: Digest, may_grow: Callable[[int], None] = lambda _: None
    ) -> int | None:
        """end-11: the size of the blob, if `source` had it; `name` has it now."""
        depot = self._depot
        if not depot.exists(depot.blob_key(source, digest)):
            return None
        with depot.lock(name):
            try:
                size = depot.blobs.stat(digest).size
                may_grow(0 if depot.exists(depot.blob_key(name, digest)) else size)
                depot.link_blob(name, digest)
            except NotFound:
                return None
        return size

    def delete(self, name: str, digest: Digest) -> None:
        """end-10: the repository's link; the bytes go when no repository has them."""
        depot = self._depot
        with depot.lock(name):
            if not depot.records.delete(depot.blob_key(name, digest)):
                raise RegistryError("BLOB_UNKNOWN", digest)


def content_range(text: str) -> tuple[int, int]:
    """`Content-Range: <start>-<end>`, both inclusive, as the distribution specification writes it."""
    start, dash, end = text.strip().removeprefix("bytes ").partition("-")
    end = end.partition("/")[0]
    if not dash or not (start.isascii() and start.isdigit() and end.isascii() and end.isdigit()):
        raise RegistryError("RANGE_INVALID", text[:64])
    if len(start) > 18 or len(end) > 18 or int(end) < int(start):
        raise RegistryError("RANGE_INVALID", text[:64])
    return int(start), int(end)
