"""Leases: what is being put together is not garbage. They live as long as the process that holds them."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryLeases:
    """Implements `ports.Leases`.

    In memory only: after a restart nothing is being put together, and what was half made is garbage.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def lease(self, *resources: str) -> Iterator["Lease"]:
        lease = Lease(self)
        try:
            lease.add(*resources)
            yield lease
        finally:
            with self._lock:
                self._held -= Counter(lease.resources)

    def hold(self, resources: tuple[str, ...]) -> None:
        with self._lock:
            self._held.update(resources)

    def held(self) -> frozenset[str]:
        """Everything that some lease names now."""
        with self._lock:
            return frozenset(self._held)


class Lease:
    """Implements `ports.LeaseHandle`."""

    def __init__(self, leases: MemoryLeases) -> None:
        self._leases = leases
        self.resources: list[str] = []

    def add(self, *resources: str) -> None:
        self._leases.hold(resources)
        self.resources.extend(resources)
