"""Quotas: how many bytes each repository has, and whether a rule leaves room for more."""

import threading
from collections.abc import Iterable

import msgspec

from gantry.errors import NotFound
from gantry.registry.server.config import Quota
from gantry.registry.server.depot import Depot
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.patterns import Patterns


class _Rule(msgspec.Struct, frozen=True):
    repositories: Patterns
    bytes: int


class Quotas:
    """Counts manifests and linked blobs per repository; a blob in two repositories counts in both.

    The counts are made from the storage when they are first asked for, kept while pushes come, and forgotten where
    something is deleted.
    """

    def __init__(self, depot: Depot, rules: Iterable[Quota]) -> None:
        self._depot = depot
        self._rules = [_Rule(Patterns(each.repositories), int(each.bytes)) for each in rules]
        self._used: dict[str, int] | None = None
        self._lock = threading.Lock()

    def check(self, repository: str, size: int) -> None:
        """DENIED where `size` more bytes in this repository would break a rule."""
        rules = [rule for rule in self._rules if repository in rule.repositories]
        if rules:
            with self._lock:
                self._check(rules, repository, size)

    def take(self, repository: str, size: int) -> None:
        """As `check`, and count the bytes."""
        if not self._rules or not size:
            return
        rules = [rule for rule in self._rules if repository in rule.repositories]
        with self._lock:
            self._check(rules, repository, size)
            if self._used is not None:
                self._used[repository] = self._used.get(repository, 0) + size

    def forget(self) -> None:
        """Count anew when next asked: something was deleted."""
        with self._lock:
            self._used = None

    def _check(self, rules: list[_Rule], repository: str, size: int) -> None:
        if self._used is None:
            self._used = {name: self._count(name) for name in self._depot.all_homes()}
        for rule in rules:
            total = sum(used for name, used in self._used.items() if name in rule.repositories)
            if total + size > rule.bytes:
                raise RegistryError(
                    "DENIED",
                    f"quota exceeded: {total} of {rule.bytes} bytes are used where {repository} counts, "
                    f"{size} more do not fit",
                )

    def _count(self, name: str) -> int:
        depot = self._depot
        total = sum(record.size for digest in depot.manifests(name) if (record := depot.manifest_record(name, digest)))
        for digest in depot.blob_links(name):
            try:
                total += depot.blobs.stat(digest).size
            except NotFound:
                continue
        return total
