"""What no image, container or lease needs any more goes: blobs and committed snapshots."""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress

import msgspec

from gantry.engine.image_store import ImageStore
from gantry.errors import Conflict, GantryError
from gantry.model import timestamp
from gantry.oci import documents
from gantry.ports import Leases

GRACE = 600 * 1_000_000_000  # nanoseconds that something unreferenced is left alone: somebody may be making it


class Collected(msgspec.Struct, frozen=True):
    """What went, and the bytes that its blobs and files had."""

    blobs: tuple[str, ...]
    chains: tuple[str, ...]
    size: int


class Collector:
    """Mark and sweep. Roots are the image records, the snapshots that others stand on, and further `roots`.

    It may run at any time: it holds the images' lock, and leases shield what is being made.
    """

    def __init__(self, store: ImageStore, leases: Leases) -> None:
        self._store = store
        self._leases = leases
        self.roots: list[Callable[[], Iterable[str]]] = []
        self._spared: set[str] = set()  # garbage but for a lease: whoever collects next takes it, young or not

    def parts(self, image_id: str) -> tuple[set[str], list[str]]:
        """The digests of an image's blobs, and the chain IDs of its layers from the base upwards."""
        blobs = self._store.reachable(image_id)
        try:
            chains = documents.chain_ids(self._store.view(image_id).diff_ids)
        except GantryError:
            chains = []  # no platform of it is here
        return blobs, chains

    def is_in_making(self, image_id: str) -> bool:
        """Whether a lease shields an image without a name: a step of a build that goes on."""
        made_at = self._store.record(image_id).added_at
        with self._leases.guard(image_id, made_at) as shielded:
            return shielded and not self._store.names(image_id)

    def collect(self, among: Iterable[str] | None = None, *, grace: int = GRACE) -> Collected:
        """Delete what is garbage: of the digests and chain IDs `among`, else of everything older than `grace`."""
        with self._store.lock:
            due, self._spared = self._spared, set()
            wanted = None if among is None else due.union(among)
            keep: set[str] = set()
            for record in self._store.records():
                blobs, chains = self.parts(record.id)
                keep |= blobs
                keep.update(chains)
            for root in self.roots:
                keep.update(root())
            young = timestamp.now() - grace if wanted is None else timestamp.now()
            blobs_gone, freed = self._blobs(keep, wanted, due, young)
            chains_gone, size = self._snapshots(keep, wanted, due, young)
            return Collected(tuple(blobs_gone), tuple(chains_gone), freed + size)

    def _blobs(
        self, keep: AbstractSet[str], wanted: AbstractSet[str] | None, due: AbstractSet[str], young: int
    ) -> tuple[list[str], int]:
        content = self._store.content
        gone, freed = [], 0
        for blob in list(content.walk()):
            if blob.digest in keep or (wanted is not None and blob.digest not in wanted):
                continue
            if blob.modified_at > young and blob.digest not in due:
                continue
            with self._leases.guard(blob.digest, blob.modified_at) as shielded:
                if shielded:
                    self._spared.add(blob.digest)
                else:
                    content.delete(blob.digest)
                    gone.append(blob.digest)
                    freed += blob.size
        return gone, freed

    def _snapshots(
        self, keep: AbstractSet[str], wanted: AbstractSet[str] | None, due: AbstractSet[str], young: int
    ) -> tuple[list[str], int]:
        snapshots = self._store.snapshots
        known = {info.key: info for info in snapshots.walk()}

        def depth(key: str) -> int:
            count = 0
            while (info := known.get(key)) is not None:
                key, count = info.parent, count + 1
            return count

        gone, freed = [], 0
        for key in sorted(known, key=depth, reverse=True):  # children before their parents
            info = known[key]
            if info.kind != "committed" or key in keep or (info.created_at > young and key not in due):
                continue
            if wanted is not None and key not in wanted:
                continue
            with self._leases.guard(key, info.created_at) as shielded, suppress(Conflict):  # a container stands on it
                if shielded:
                    self._spared.add(key)
                else:
                    size = snapshots.usage(key)
                    snapshots.remove(key)
                    gone.append(key)
                    freed += size
        return gone, freed
