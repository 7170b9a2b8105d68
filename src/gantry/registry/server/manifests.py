"""Manifests, tags and referrers of a repository."""

import secrets
import time
from collections.abc import Callable

import msgspec

from gantry.errors import GantryError, NotFound
from gantry.model.digest import Digest
from gantry.oci.documents import MANIFEST_LIMIT
from gantry.registry.server import documents
from gantry.registry.server.depot import Depot, ManifestRecord, TagRecord
from gantry.registry.server.documents import Descriptor, Pushed
from gantry.registry.server.errors import RegistryError


class Found(msgspec.Struct, frozen=True):
    """One manifest, by tag or digest."""

    digest: Digest
    media_type: str
    data: bytes


class Put(msgspec.Struct, frozen=True):
    """What a push did. `replaced` is the digest that the tag named before, "" where it was new."""

    digest: Digest
    pushed: Pushed
    size: int
    replaced: str = ""
    fresh: bool = True
    """Whether the repository did not have this manifest before."""


class Manifests:
    """The operations on manifests: plain, blocking code that holds the repository's lock where it changes it."""

    def __init__(
        self, depot: Depot, urls: documents.URLRule = documents.ANY_URL, *, whole_indexes: bool = True
    ) -> None:
        self._depot = depot
        self._urls = urls
        self._whole_indexes = whole_indexes  # all manifests of an index must be there before it

    def get(self, name: str, reference: Digest | str) -> Found:
        """end-3; MANIFEST_UNKNOWN, or NAME_UNKNOWN where there is no such repository."""
        depot = self._depot
        if isinstance(reference, Digest):
            digest = reference
        elif tag := depot.tag_record(name, reference):
            digest = Digest(tag.digest)
        else:
            raise self._unknown(name, reference)
        record = depot.manifest_record(name, digest)
        if record is None:
            raise self._unknown(name, reference)
        try:
            return Found(digest, record.media_type, depot.manifest_bytes(digest))
        except NotFound:
            raise self._unknown(name, reference) from None

    def _unknown(self, name: str, reference: str) -> RegistryError:
        self._depot.require_repository(name)
        return RegistryError("MANIFEST_UNKNOWN", f"{name}: {reference}")

    def put(
        self,
        name: str,
        reference: Digest | str,
        data: bytes,
        content_type: str,
        *,
        may_replace: Callable[[str], None] = lambda _: None,
        may_grow: Callable[[int], None] = lambda _: None,
        complete: bool = True,
    ) -> Put:
        """end-7. `may_replace(old digest)` and `may_grow(bytes)` raise where that is not allowed.

        Both are asked under the repository's lock: nobody can create the tag in between. With `complete`, what the
        manifest refers to must be in the repository.
        """
        pushed = documents.read(data, content_type, self._urls)
        algorithm = reference.algorithm if isinstance(reference, Digest) else "sha256"
        digest = Digest.of(data, algorithm)
        if isinstance(reference, Digest) and reference != digest:
            raise RegistryError("DIGEST_INVALID", f"the manifest has {digest}, the request says {reference}")
        depot = self._depot
        with depot.lock(name):
            before = None if isinstance(reference, Digest) else depot.tag_record(name, reference)
            if before is not None and before.digest != digest:
                may_replace(before.digest)
            if complete:
                self._require(name, pushed)
            known = depot.manifest_record(name, digest)
            if known is None:
                may_grow(len(data))
            now = time.time_ns()
            record = ManifestRecord(pushed.media_type, len(data), now, str(pushed.subject or ""))
            if pushed.subject is not None:
                key = depot.referrers_prefix(name, pushed.subject) + f"{digest.algorithm}-{digest.hex}"
                depot.records.put(key, msgspec.json.encode(pushed.descriptor(str(digest), len(data))))
            with depot.blob_lock(digest):
                self._store(digest, data)
                depot.records.put(depot.manifest_key(name, digest), msgspec.json.encode(record))
            if not isinstance(reference, Digest):
                tag = TagRecord(str(digest), pushed.media_type, len(data), now)
                depot.records.put(depot.tag_key(name, reference), msgspec.json.encode(tag))
        replaced = before.digest if before is not None and before.digest != digest else ""
        return Put(digest, pushed, len(data), replaced, known is None)

    def _require(self, name: str, pushed: Pushed) -> None:
        """What a manifest refers to must be in its repository, and is young again from now on."""
        depot = self._depot
        for blob in pushed.blobs:
            try:
                depot.records.renew(depot.blob_key(name, blob))
                depot.blobs.stat(blob)
            except NotFound:
                raise RegistryError("MANIFEST_BLOB_UNKNOWN", blob) from None
        for child in pushed.manifests if self._whole_indexes else ():
            if not depot.exists(depot.manifest_key(name, child)):
                raise RegistryError("MANIFEST_BLOB_UNKNOWN", child)

    def _store(self, digest: Digest, data: bytes) -> None:
        try:
            self._depot.blobs.renew(digest)
        except NotFound:
            path = self._depot.staging / f"manifest-{secrets.token_hex(8)}"
            try:
                path.write_bytes(data)
                self._depot.blobs.adopt(path, digest)
            finally:
                path.unlink(missing_ok=True)

    def delete_tag(self, name: str, tag: str) -> str:
        """end-9 by tag: the digest that it named. The manifest stays until the collector finds it without any tag."""
        depot = self._depot
        with depot.lock(name):
            record = depot.tag_record(name, tag)
            if record is None or not depot.records.delete(depot.tag_key(name, tag)):
                raise self._unknown(name, tag)
            self._orphan(name, Digest(record.digest))
            return record.digest

    def _orphan(self, name: str, digest: Digest) -> None:
        """Note on a manifest that its last use was taken from it on purpose; the collector looks for others."""
        depot = self._depot
        record = depot.manifest_record(name, digest)
        if record is None or self.tags_of(name, digest):
            return
        orphaned = msgspec.structs.replace(record, orphaned=time.time_ns())
        depot.records.put(depot.manifest_key(name, digest), msgspec.json.encode(orphaned))

    def delete(self, name: str, digest: Digest, may_delete: Callable[[list[str]], None] = lambda _: None) -> list[str]:
        """end-9 by digest: the manifest and every tag that names it, which are returned.

        `may_delete(tags)` raises where that is not allowed; it is asked under the repository's lock.
        """
        depot = self._depot
        with depot.lock(name):
            record = depot.manifest_record(name, digest)
            if record is None:
                raise self._unknown(name, digest)
            tags = self.tags_of(name, digest)
            may_delete(tags)
            for tag in tags:
                depot.records.delete(depot.tag_key(name, tag))
            if record.subject:
                prefix = depot.referrers_prefix(name, Digest(record.subject))
                depot.records.delete(prefix + f"{digest.algorithm}-{digest.hex}")
            depot.records.delete(depot.manifest_key(name, digest))
            for other in self._companions(name, digest):
                self._orphan(name, other)
            return tags

    def _companions(self, name: str, digest: Digest) -> list[Digest]:
        """The manifests that an index lists, and those whose subject it was: they may have lost their use."""
        depot = self._depot
        try:
            children = documents.read(depot.manifest_bytes(digest), "").manifests
        except GantryError:  # lost or damaged: it can still be deleted
            children = ()
        names = depot.records.children(depot.referrers_prefix(name, digest))
        return [*children, *(Digest(each.replace("-", ":", 1)) for each in names)]

    def tags_of(self, name: str, digest: Digest) -> list[str]:
        depot = self._depot
        records = ((tag, depot.tag_record(name, tag)) for tag in depot.tags(name))
        return [tag for tag, record in records if record is not None and record.digest == digest]

    def delete_repository(self, name: str, may_delete: Callable[[list[str]], None] = lambda _: None) -> None:
        """All manifests, tags, referrers and blobs of a repository; the collector frees what no other one has."""
        depot = self._depot
        with depot.lock(name):
            depot.require_repository(name)
            may_delete(depot.tags(name))
            for entry in depot.records.children(depot.home(name)):
                if entry[0] == "_":
                    depot.records.delete_tree(depot.home(name) + entry)

    def referrers(self, name: str, subject: Digest, last: str, limit: int) -> tuple[list[Descriptor], str]:
        """end-12: descriptors of the manifests with this subject after the record `last`, and where to go on ("")."""
        depot = self._depot
        prefix = depot.referrers_prefix(name, subject)
        names = [each for each in depot.records.children(prefix) if each > last]
        found: list[Descriptor] = []
        size = 0
        for count, each in enumerate(names):
            try:
                data = depot.records.get(prefix + each)
            except NotFound:
                continue  # deleted meanwhile
            size += len(data)
            if count >= limit or (found and size > MANIFEST_LIMIT):  # annotations can be as large as a manifest
                return found, names[count - 1]
            found.append(msgspec.json.decode(data, type=Descriptor))
        return found, ""
