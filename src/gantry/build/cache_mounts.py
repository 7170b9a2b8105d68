"""The directories behind `RUN --mount=type=cache`: kept from build to build, by id, outside of every image.

What is in them was written by build steps and is never trusted: it is mounted and removed, and not looked at.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from gantry.aio import run_blocking
from gantry.build.run_mounts import MountRequest
from gantry.linux.openat2 import remove_tree
from gantry.model import timestamp
from gantry.ports import State, Table

_PRIVATE_LIMIT = 64  # copies of one private cache that may be in use at once


class CacheMountRecord(msgspec.Struct, frozen=True):
    """One directory; `name` is its own, `id` what the Dockerfile calls it. Times are nanoseconds since the epoch."""

    name: str
    id: str
    created_at: int
    last_used: int
    uses: int = 0


CACHE_MOUNTS = Table("build_cache_mounts", CacheMountRecord)


class CacheMounts:
    """One for the daemon: who uses which directory is known here alone."""

    def __init__(self, root: Path, state: State) -> None:
        self._root = root
        self._state = state
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def use(self, request: MountRequest, fill: Callable[[Path], None] | None = None) -> AsyncIterator[Path]:
        """The directory of one cache for the length of a step; `fill` puts content into a new one (blocking).

        `locked` waits until nobody else uses it; `private` takes a further copy where somebody does.
        """
        if request.sharing == "locked":
            async with self._locks.setdefault(request.id, asyncio.Lock()), self._used(request, 0, fill) as path:
                yield path
            return
        number = 0
        if request.sharing == "private":
            number = next(
                (n for n in range(_PRIVATE_LIMIT) if not self._users.get(_name(request.id, n))), _PRIVATE_LIMIT
            )
        async with self._used(request, number, fill) as path:
            yield path

    @asynccontextmanager
    async def _used(
        self, request: MountRequest, number: int, fill: Callable[[Path], None] | None
    ) -> AsyncIterator[Path]:
        name = _name(request.id, number)
        self._users[name] = self._users.get(name, 0) + 1
        try:
            yield await run_blocking(self._open, name, request, fill)
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]

    def _open(self, name: str, request: MountRequest, fill: Callable[[Path], None] | None) -> Path:
        now = timestamp.now()
        with self._state.update() as tx:
            known: CacheMountRecord | None = tx.get(CACHE_MOUNTS, name)
            made = known or CacheMountRecord(name, request.id, now, now)
            tx.put(CACHE_MOUNTS, name, msgspec.structs.replace(made, last_used=now, uses=made.uses + 1))
        path = self._root / name
        if path.is_dir():
            return path
        # Made aside and renamed: a directory with this name is a whole one.
        fresh = self._root / f".new-{name}-{now}"
        fresh.mkdir(parents=True)
        if fill is not None:
            fill(fresh)
        os.chown(fresh, request.uid or 0, request.gid or 0)
        fresh.chmod(0o755 if request.mode is None else request.mode)
        try:
            fresh.rename(path)
        except OSError:  # another step was faster
            _remove(self._root, fresh.name)
        return path

    async def records(self) -> list[CacheMountRecord]:
        return await run_blocking(self._list)

    def _list(self) -> list[CacheMountRecord]:
        with self._state.view() as tx:
            return list(tx.list(CACHE_MOUNTS))

    def in_use(self, name: str) -> bool:
        return name in self._users

    def path(self, name: str) -> Path:
        return self._root / name

    async def remove(self, names: Sequence[str]) -> None:
        """Remove directories that nobody uses."""
        free = [name for name in names if name not in self._users]
        await run_blocking(self._forget, free)

    async def recover(self) -> None:
        """Remove what has no record, or was half made, when the daemon was killed."""
        await run_blocking(self._sweep)

    def _sweep(self) -> None:
        if self._root.is_dir():
            known = {record.name for record in self._list()}
            for path in self._root.iterdir():
                if path.name not in known:
                    _remove(self._root, path.name)

    def _forget(self, names: Sequence[str]) -> None:
        for name in names:
            _remove(self._root, name)
        with self._state.update() as tx:
            for name in names:
                tx.delete(CACHE_MOUNTS, name)


def _name(identity: str, number: int) -> str:
    return hashlib.sha256(f"{number}:{identity}".encode()).hexdigest()[:32]


def _remove(root: Path, name: str) -> None:
    if not root.is_dir():
        return
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(directory, name)
    finally:
        os.close(directory)
