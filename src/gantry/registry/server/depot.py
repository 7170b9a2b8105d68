"""The registry's stock: where each record lies, and the locks and the memory that its users share."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gantry.errors import Internal, InvalidArgument, NotFound
from gantry.model.digest import Digest
from gantry.oci.documents import MANIFEST_LIMIT
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.storage import Blobs, Records

_STRIPES = 64
_MEMORY = 16 << 20  # bytes of manifests that are kept in memory
ROOT = "repositories/"


class ManifestRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a repository knows of one of its manifests. `pushed` is in nanoseconds since the epoch."""

    media_type: str
    size: int
    pushed: int
    subject: str = ""
    orphaned: int = 0
    """When its last tag was deleted; 0 while it has one, or never had."""


class TagRecord(msgspec.Struct, frozen=True):
    """What a tag names."""

    digest: str
    media_type: str
    size: int
    pushed: int


class Depot:
    """Blobs and records, with one lock per repository (striped) for those who change it.

    A repository `name` has, below `repositories/name/`: `_manifests/sha256/HEX` and `_tags/TAG` (JSON),
    `_blobs/sha256/HEX` (empty: the name says that the repository has this blob) and
    `_referrers/sha256/HEX/sha256-HEX` (a descriptor per manifest with that subject). No component of a repository's
    name can begin with an underscore.
    """

    def __init__(self, blobs: Blobs, records: Records, staging: Path) -> None:
        self.blobs = blobs
        self.records = records
        self.staging = staging
        staging.mkdir(parents=True, exist_ok=True)
        for left in staging.glob("manifest-*"):
            left.unlink(missing_ok=True)
        self._locks = [threading.RLock() for _ in range(_STRIPES)]
        self._blob_locks = [threading.RLock() for _ in range(_STRIPES)]
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._memory_size = 0
        self._memory_lock = threading.Lock()

    def lock(self, name: str) -> threading.RLock:
        """Held by who changes a repository."""
        return self._locks[hash(name) % _STRIPES]

    def blob_lock(self, digest: str) -> threading.RLock:
        """Held by who renews a blob to link it, and by the collector who deletes it; taken after `lock`."""
        return self._blob_locks[hash(digest) % _STRIPES]

    def link_blob(self, name: str, digest: Digest) -> None:
        """Give a repository a blob that is there; raises NotFound. The repository's lock is held."""
        with self.blob_lock(digest):
            self.blobs.renew(digest)
            self.records.put(self.blob_key(name, digest), b"")

    def take_blob(self, name: str, path: Path, digest: Digest) -> None:
        """Give a repository the blob in a staged file, whose digest was checked. The repository's lock is held."""
        with self.blob_lock(digest):
            try:
                self.blobs.renew(digest)
            except NotFound:
                self.blobs.adopt(path, digest)
            self.records.put(self.blob_key(name, digest), b"")

    # ------------------------------------------------------------------------------------ keys

    @staticmethod
    def home(name: str) -> str:
        return f"{ROOT}{name}/"

    @staticmethod
    def manifest_key(name: str, digest: Digest) -> str:
        return f"{ROOT}{name}/_manifests/{digest.algorithm}/{digest.hex}"

    @staticmethod
    def tag_key(name: str, tag: str) -> str:
        return f"{ROOT}{name}/_tags/{tag}"

    @staticmethod
    def blob_key(name: str, digest: Digest) -> str:
        return f"{ROOT}{name}/_blobs/{digest.algorithm}/{digest.hex}"

    @staticmethod
    def referrers_prefix(name: str, subject: Digest) -> str:
        return f"{ROOT}{name}/_referrers/{subject.algorithm}/{subject.hex}/"

    # --------------------------------------------------------------------------------- reading

    def exists(self, key: str) -> bool:
        try:
            self.records.modified(key)
        except NotFound:
            return False
        return True

    def manifest_record(self, name: str, digest: Digest) -> ManifestRecord | None:
        try:
            return msgspec.json.decode(self.records.get(self.manifest_key(name, digest)), type=ManifestRecord)
        except NotFound:
            return None
        except msgspec.DecodeError as error:
            raise Internal(f"the record of manifest {digest} in {name} is damaged: {error}") from error

    def tag_record(self, name: str, tag: str) -> TagRecord | None:
        try:
            return msgspec.json.decode(self.records.get(self.tag_key(name, tag)), type=TagRecord)
        except NotFound:
            return None
        except msgspec.DecodeError as error:
            raise Internal(f"the record of tag {tag} in {name} is damaged: {error}") from error

    def manifests(self, name: str) -> Iterator[Digest]:
        yield from self._digests(f"{ROOT}{name}/_manifests/")

    def blob_links(self, name: str) -> Iterator[Digest]:
        yield from self._digests(f"{ROOT}{name}/_blobs/")

    def _digests(self, prefix: str) -> Iterator[Digest]:
        for algorithm in self.records.children(prefix):
            for hexadecimal in self.records.children(prefix + algorithm):
                yield Digest(f"{algorithm[:-1]}:{hexadecimal}")

    def tags(self, name: str) -> list[str]:
        return self.records.children(f"{ROOT}{name}/_tags/")

    def repositories(self, last: str = "") -> Iterator[str]:
        """Names in order, those after `last`."""
        yield from self._below(ROOT, "", last)

    def _below(self, prefix: str, parent: str, last: str) -> Iterator[str]:
        # "a" comes before "a-b", and that before "a/b": order names and what is below them by full spelling
        for entry in self._ordered(prefix):
            name = parent + entry
            if entry.endswith("/"):
                if name + "\x7f" > last:
                    yield from self._below(prefix + entry, name, last)
            elif name > last and self.records.children(f"{prefix}{entry}/_manifests/"):
                yield name

    def all_homes(self) -> Iterator[str]:
        """Every name below which something is stored, in no order: also of repositories without a manifest."""
        work = [ROOT]
        while work:
            prefix = work.pop()
            entries = self.records.children(prefix)
            if any(entry[0] == "_" for entry in entries):
                yield prefix[len(ROOT) : -1]
            work += [prefix + entry for entry in entries if entry[0] != "_" and entry.endswith("/")]

    def _ordered(self, prefix: str) -> list[str]:
        names = [entry for entry in self.records.children(prefix) if entry[0] != "_" and entry.endswith("/")]
        return sorted([*names, *(entry[:-1] for entry in names)])

    def require_repository(self, name: str) -> None:
        """NAME_UNKNOWN where nothing was ever pushed, or all is deleted."""
        if not any(entry[0] == "_" for entry in self.records.children(self.home(name))):
            raise RegistryError("NAME_UNKNOWN", name)

    def manifest_bytes(self, digest: Digest) -> bytes:
        """A manifest's bytes, checked against the digest when they come from the storage; raises NotFound."""
        with self._memory_lock:
            if (data := self._memory.get(digest)) is not None:
                self._memory.move_to_end(digest)
                return data
        try:
            data = self.blobs.read(digest, MANIFEST_LIMIT)
        except InvalidArgument as error:
            raise Internal(error.message) from error
        if Digest.of(data, digest.algorithm) != digest:
            raise Internal(f"the stored bytes of manifest {digest} are damaged")
        with self._memory_lock:
            if digest not in self._memory:
                self._memory[digest] = data
                self._memory_size += len(data)
            while self._memory_size > _MEMORY:
                self._memory_size -= len(self._memory.popitem(last=False)[1])
        return data

    def forget(self, digest: Digest) -> None:
        """Drop a manifest from memory."""
        with self._memory_lock:
            if (data := self._memory.pop(digest, None)) is not None:
                self._memory_size -= len(data)
