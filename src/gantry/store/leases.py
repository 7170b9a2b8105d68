"""Leases: what is being put together is not garbage. They live as long as the process that holds them."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gantry.model import timestamp


class MemoryLeases:
    """Implements `ports.Leases`.

    In memory only: after a restart nothing is being put together, and what was half made is garbage.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lease(self, *resources: str) -> Iterator["Lease"]:
        lease = Lease(self)
        with self._lock:
            self._open[id(lease)] = timestamp.now()
        try:
            lease.add(*resources)
            yield lease
        finally:
            with self._lock:
                del self._open[id(lease)]
                self._held -= Counter(lease.resources)

    def hold(self, resources: tuple[str, ...]) -> None:
        with self._lock:
            self._held.update(resources)

    @contextmanager
    def guard(self, resource: str, made_at: int) -> Iterator[bool]:
        """Whether some lease shields what was made at that time; no lease begins or grows inside the block."""
        with self._lock:
            oldest = min(self._open.values(), default=made_at + 1)
            yield resource in self._held or made_at >= oldest


class Lease:
    """Implements `ports.LeaseHandle`."""

    def __init__(self, leases: MemoryLeases) -> None:
        self._leases = leases
        self.resources: list[str] = []

    def add(self, *resources: str) -> None:
        self._leases.hold(resources)
        self.resources.extend(resources)
