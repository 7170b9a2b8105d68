"""Where steps do their work: snapshots that exist for one step, and the images that come of them.

A step's snapshot is called `build-<id>`, and its process and network sandbox have the same id: the snapshotter's
record is made first and removed last, so a killed daemon's steps are found by it.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from gantry.aio import TaskOwner, run_blocking
from gantry.build.state import BuildState
from gantry.errors import Conflict, NotFound
from gantry.linux.openat2 import remove_tree
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.identity import new_id
from gantry.model.image import HistoryEntry
from gantry.model.instance import Instance
from gantry.model.task import Mount
from gantry.oci.documents import chain_ids
from gantry.ports import Images, LayerInfo, Layers, Networks, Runtime, Snapshotter

PREFIX = "build-"
# Where a runtime leaves stubs: only below these can a snapshot be without changes and not empty.
_STUB_TOPS = frozenset({"dev", "etc", "proc", "run", "sys", ".dockerenv"})


class Active(msgspec.Struct):
    """A writable snapshot of one step; `id` names the step's process and sandbox too."""

    id: str
    key: str
    mounts: tuple[Mount, ...]
    committed: bool = False


class Definition(msgspec.Struct, frozen=True):
    """What a step says of its image: configuration after it, its line in the history, its author."""

    config: ContainerConfig
    created_by: str
    author: str = ""


class Workspace:
    """The rooms that steps need, behind the few things that steps do."""

    def __init__(
        self,
        instance: Instance,
        images: Images,
        snapshots: Snapshotter,
        layers: Layers,
        runtime: Runtime,
        networks: Networks,
    ) -> None:
        self.images = images
        self._snapshots = snapshots
        self._layers = layers
        self._runtime = runtime
        self._networks = networks
        self.root = instance.data_root / "build"
        self._owner = TaskOwner("build workspace")

    async def close(self) -> None:
        await self._owner.drain()

    # ------------------------------------------------------------------------------------ snapshots

    @asynccontextmanager
    async def active(self, parent: BuildState) -> AsyncIterator[Active]:
        """A writable snapshot on top of `parent`; it is gone afterwards unless it was committed."""
        await self._ready(parent)
        step = new_id()
        # What is committed is synced later, or made again from its blob: no unmount needs to wait for the disk.
        mounts = await run_blocking(self._snapshots.prepare, PREFIX + step, parent.chain_id, volatile=True)
        made = Active(step, PREFIX + step, mounts)
        try:
            yield made
        finally:
            if not made.committed:
                await self.finish(run_blocking(self._snapshots.remove, made.key))

    @asynccontextmanager
    async def view(self, state: BuildState, *, shifted: bool = False) -> AsyncIterator[Path]:
        """The file system of `state`, mounted read-only (an empty directory for `scratch`).

        With `shifted`, with the ids that a step's container needs where it is in a user namespace.
        """
        await self._ready(state)
        key = PREFIX + new_id()
        mounts = await run_blocking(self._snapshots.view if state.chain_id else self._empty, key, state.chain_id)
        try:
            async with self.mounted(mounts, shifted=shifted) as path:
                yield path
        finally:
            await self.finish(run_blocking(self._snapshots.remove, key))

    def _empty(self, key: str, parent: str) -> tuple[Mount, ...]:
        return self._snapshots.prepare(key, parent)

    @asynccontextmanager
    async def mounted(self, mounts: Sequence[Mount], *, shifted: bool = False) -> AsyncIterator[Path]:
        """Mount at a private place for the length of the block."""
        manager = self._layers.mounted(mounts, shifted=shifted)
        path = await run_blocking(manager.__enter__)
        try:
            yield path
        finally:
            await self.finish(run_blocking(manager.__exit__, None, None, None))

    async def _ready(self, state: BuildState) -> None:
        """Unpack what a remembered state stands on, where it is not unpacked any more."""
        if not state.chain_id:
            return
        try:
            await run_blocking(self._snapshots.stat, state.chain_id)
        except NotFound:
            await self.images.ensure_unpacked(await self.images.get(state.image_id))

    async def commit(self, active: Active, parent: BuildState) -> tuple[LayerInfo | None, str]:
        """The changes as a layer, and the chain with it; no layer where nothing changed."""
        if await run_blocking(self._unchanged, active.key):
            return None, parent.chain_id
        layer = await run_blocking(self._layers.capture, active.key)
        chain = chain_ids([parent.chain_id, layer.diff_id])[1] if parent.chain_id else layer.diff_id
        try:
            await run_blocking(self._snapshots.commit, chain, active.key)
            active.committed = True
        except Conflict:
            pass  # the same layer on the same parent exists; ours goes away
        return layer, chain

    def _unchanged(self, key: str) -> bool:
        names = set(os.listdir(self._snapshots.upper(key)))  # noqa: PTH208
        return not names or (names <= _STUB_TOPS and not self._layers.changes(key))

    # --------------------------------------------------------------------------------------- images

    async def image(
        self, parent: BuildState, definition: Definition, layer: LayerInfo | None = None, chain_id: str = ""
    ) -> BuildState:
        """The state after a step, as a real image."""
        created = timestamp.rfc3339(timestamp.now())
        history = HistoryEntry(
            created=created, created_by=definition.created_by, author=definition.author, empty_layer=layer is None
        )
        layers = (*parent.layers, layer) if layer else parent.layers
        lines = (*parent.history, history)
        image = await self.images.add(
            definition.config, layers, lines, platform=parent.platform, parent=parent.image_id,
            author=definition.author, created=created,
        )  # fmt: skip
        chain = chain_id if layer else parent.chain_id
        return BuildState(image.id, chain, layers, lines, definition.config, parent.platform, definition.author)

    # --------------------------------------------------------------------------------- cleaning up

    async def finish(self, work: Coroutine[Any, Any, object]) -> None:
        """Await a piece of cleaning up; it goes on to its end even where the step is cancelled meanwhile."""
        await asyncio.shield(self._owner.spawn(work))

    async def scratch(self) -> Path:
        """A private directory, which the caller removes with `discard`."""
        path = self.root / "tmp" / new_id()[:16]
        await run_blocking(path.mkdir, parents=True, mode=0o700)
        return path

    async def discard(self, path: Path) -> None:
        await self.finish(run_blocking(_discard, path))

    async def recover(self) -> None:
        """Remove what builds of a killed daemon left: processes, sandboxes, snapshots, contexts."""
        left = await run_blocking(lambda: [info.key for info in self._snapshots.walk() if info.key.startswith(PREFIX)])
        for key in left:
            step = key.removeprefix(PREFIX)
            with suppress(NotFound, Conflict):
                await self._runtime.kill(step, signal.SIGKILL)
                await self._runtime.wait(step)
            await self._runtime.delete(step)
            await self._networks.close_sandbox(step)
            await run_blocking(self._snapshots.remove, key)
        await run_blocking(_discard, self.root / "tmp")


def _discard(path: Path) -> None:
    if not path.parent.is_dir():
        return
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(parent, path.name)
    finally:
        os.close(parent)
