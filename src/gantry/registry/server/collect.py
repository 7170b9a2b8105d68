"""Garbage collection beside requests: retention, useless manifests, links without a manifest, blobs without a link.

Whoever builds on what is there makes it young first (`renew`) and under a lock; the collector, under the same lock,
takes only what was old when it began. So a push that is under way loses nothing, as long as it takes less than the
grace period from one request to the next.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from gantry.errors import NotFound
from gantry.model.digest import Digest
from gantry.registry.server import documents
from gantry.registry.server.config import Collect, Retention
from gantry.registry.server.depot import Depot, ManifestRecord, TagRecord
from gantry.registry.server.documents import Pushed
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.manifests import Manifests
from gantry.registry.server.patterns import Patterns

log = logging.getLogger(__name__)

_REMEMBERED = 20_000


class Report(msgspec.Struct):
    """What one run removed, and what is left."""

    tags: int = 0
    manifests: int = 0
    links: int = 0
    blobs: int = 0
    bytes: int = 0
    """Freed."""
    kept_blobs: int = 0
    kept_bytes: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        return (
            f"removed {self.tags} tags, {self.manifests} manifests, {self.links} links and {self.blobs} blobs: "
            f"{self.bytes} bytes freed; {self.kept_blobs} blobs with {self.kept_bytes} bytes are left"
        )


class _Rule(msgspec.Struct, frozen=True):
    repositories: Patterns
    tags: Patterns
    keep_last: int
    younger_than: float


class Collector:
    """One collector per registry; `run` is blocking code and not reentrant."""

    def __init__(
        self,
        depot: Depot,
        manifests: Manifests,
        config: Collect,
        retention: Iterable[Retention],
        immutable: Callable[[str, str], bool],
    ) -> None:
        self._depot = depot
        self._manifests = manifests
        self._grace = int(config.grace * 1e9)
        self._untagged = int(config.untagged * 1e9)
        self._rules = [
            _Rule(Patterns(each.repositories), Patterns(each.tags), each.keep_last, float(each.younger_than))
            for each in retention
        ]
        self._immutable = immutable
        self._read: OrderedDict[str, Pushed] = OrderedDict()

    def run(self) -> Report:
        """Collect once; raises where the storage fails, with nothing half removed."""
        report = Report()
        started = time.time_ns()
        before = started - self._grace
        for name in list(self._depot.all_homes()):
            self._expire(name, started, report)
            for digest in self._depot.manifests(name):
                self._pushed(digest)  # read them before the lock
            with self._depot.lock(name):
                kept = self._sweep_manifests(name, started, before, report)
                self._sweep_links(name, kept, before, report)
        self._sweep_blobs(before, report)
        report.seconds = (time.time_ns() - started) / 1e9
        return report

    # ---------------------------------------------------------------------------------- retention

    def _expire(self, name: str, now: int, report: Report) -> None:
        rules = [rule for rule in self._rules if name in rule.repositories]
        if not rules:
            return
        records = ((tag, self._depot.tag_record(name, tag)) for tag in self._depot.tags(name))
        tags = {tag: record for tag, record in records if record is not None}
        for tag in expired(tags, rules, now):
            if self._immutable(name, tag):
                continue
            try:
                self._manifests.delete_tag(name, tag)
            except RegistryError:
                continue  # somebody was quicker
            report.tags += 1

    # ---------------------------------------------------------------------------------- manifests

    def _sweep_manifests(self, name: str, now: int, before: int, report: Report) -> list[Pushed]:
        """Remove the manifests that nothing keeps; what the others say."""
        depot = self._depot
        records: dict[str, ManifestRecord] = {}
        for each in depot.manifests(name):
            if record := depot.manifest_record(name, each):
                records[each] = record
        tagged = {found.digest for tag in depot.tags(name) if (found := depot.tag_record(name, tag))}
        documents_read = {digest: self._pushed(Digest(digest)) for digest in records}
        doomed = {
            digest for digest, record in records.items() if digest not in tagged and self._useless(record, now, before)
        }
        doomed = condemned(records, documents_read, tagged, doomed, before)
        for digest in doomed:
            self._manifests.delete(name, Digest(digest))
            depot.forget(Digest(digest))
            report.manifests += 1
        return [pushed for digest, pushed in documents_read.items() if digest not in doomed and pushed is not None]

    def _useless(self, record: ManifestRecord, now: int, before: int) -> bool:
        if record.orphaned:
            return record.orphaned < before
        return bool(self._untagged) and record.pushed < min(before, now - self._untagged)

    def _pushed(self, digest: Digest) -> Pushed | None:
        if (known := self._read.get(digest)) is not None:
            return known
        try:
            pushed = documents.read(self._depot.manifest_bytes(digest), "")
        except NotFound:
            return None
        self._read[digest] = pushed
        while len(self._read) > _REMEMBERED:
            self._read.popitem(last=False)
        return pushed

    # -------------------------------------------------------------------------------------- blobs

    def _sweep_links(self, name: str, kept: list[Pushed], before: int, report: Report) -> None:
        depot = self._depot
        wanted = {blob for pushed in kept for blob in (*pushed.blobs, *pushed.foreign)}
        for digest in list(depot.blob_links(name)):
            key = depot.blob_key(name, digest)
            try:
                if digest not in wanted and depot.records.modified(key) < before and depot.records.delete(key):
                    report.links += 1
            except NotFound:
                continue

    def _sweep_blobs(self, before: int, report: Report) -> None:
        depot = self._depot
        linked: set[str] = set()
        for name in depot.all_homes():
            linked.update(depot.manifests(name))
            linked.update(depot.blob_links(name))
        for info in depot.blobs.walk():
            if info.digest not in linked and info.modified_at < before and self._delete(info.digest, before):
                report.blobs += 1
                report.bytes += info.size
            else:
                report.kept_blobs += 1
                report.kept_bytes += info.size

    def _delete(self, digest: str, before: int) -> bool:
        """Delete a blob that nobody links, unless somebody has just made it young."""
        with self._depot.blob_lock(digest):
            try:
                if self._depot.blobs.modified(digest) >= before:
                    return False
                self._depot.blobs.delete(digest)
            except NotFound:
                return False
        self._depot.forget(Digest(digest))
        return True


def expired(tags: dict[str, TagRecord], rules: Iterable[_Rule], now: int) -> list[str]:
    """The tags that a rule is about and no rule keeps: not among the newest, not young."""
    concerned: set[str] = set()
    kept: set[str] = set()
    for rule in rules:
        newest_first = sorted(
            (tag for tag in tags if tag in rule.tags), key=lambda tag: (tags[tag].pushed, tag), reverse=True
        )
        concerned.update(newest_first)
        kept.update(newest_first[: rule.keep_last])
        kept.update(tag for tag in newest_first if now - tags[tag].pushed < rule.younger_than * 1e9)
    return sorted(concerned - kept)


def condemned(
    records: dict[str, ManifestRecord],
    pushed: dict[str, Pushed | None],
    tagged: set[str],
    doomed: set[str],
    before: int,
) -> set[str]:
    """`doomed`, and what only it refers to or what refers to it; without what something that stays needs."""
    referrers: dict[str, list[str]] = {}
    for digest, record in records.items():
        if record.subject:
            referrers.setdefault(record.subject, []).append(digest)

    def neighbours(digest: str) -> list[str]:
        document = pushed.get(digest)
        children = [str(child) for child in document.manifests] if document else []
        return [each for each in (*children, *referrers.get(digest, ())) if each in records]

    falling, work = set(doomed), list(doomed)
    while work:
        for each in neighbours(work.pop()):
            if each not in falling and each not in tagged and records[each].pushed < before:
                falling.add(each)
                work.append(each)
    staying = [digest for digest in records if digest not in falling]
    while staying:
        for each in neighbours(staying.pop()):
            if each in falling:
                falling.discard(each)
                staying.append(each)
    return falling


def log_report(report: Report) -> None:
    log.info("garbage collection took %.1f s: %s", report.seconds, report.text())
