"""The build cache: what a step gave, by key, in the daemon's state.

Only this builder writes it. A record is good as long as its image is there; the image shields its layers from the
collector, so nothing here owns disk space of its own.
"""

from collections.abc import Sequence

import msgspec

from gantry.aio import run_blocking
from gantry.build.state import BuildState
from gantry.errors import NotFound
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.image import HistoryEntry
from gantry.ports import Images, LayerInfo, State, Table

_USED_GRAIN = 60 * 1_000_000_000  # `last_used` is written at most once a minute


class CacheRecord(msgspec.Struct, frozen=True):
    """One step's result on top of its parent, which the key names. Times are nanoseconds since the epoch."""

    key: str
    image_id: str
    parent_id: str
    chain_id: str
    layer: LayerInfo | None
    history: HistoryEntry
    config: ContainerConfig
    author: str
    created_at: int
    last_used: int
    uses: int = 0


CACHE = Table("build_cache", CacheRecord)


class StepCache:
    """Implements `solver.Cache` for build states: the first input is the state that a step builds on."""

    def __init__(self, state: State, images: Images) -> None:
        self._state = state
        self._images = images

    async def load(self, key: str, inputs: Sequence[BuildState]) -> BuildState | None:
        record = await run_blocking(self._get, key)
        if record is None:
            return None
        try:
            await self._images.get(record.image_id)
        except NotFound:
            await run_blocking(self._forget, [key])
            return None
        now = timestamp.now()
        if now - record.last_used > _USED_GRAIN:
            await run_blocking(self._put, [msgspec.structs.replace(record, last_used=now, uses=record.uses + 1)])
        parent = inputs[0]
        return BuildState(
            record.image_id, record.chain_id, parent.layers + ((record.layer,) if record.layer else ()),
            (*parent.history, record.history), record.config, parent.platform, record.author,
        )  # fmt: skip

    async def save(self, keys: Sequence[str], inputs: Sequence[BuildState], result: BuildState) -> None:
        if not keys or not result.image_id:
            return
        parent, now = inputs[0], timestamp.now()
        layer = result.layers[-1] if len(result.layers) > len(parent.layers) else None
        records = [
            CacheRecord(
                key, result.image_id, parent.image_id, result.chain_id, layer, result.history[-1], result.config,
                result.author, now, now,
            )
            for key in keys
        ]  # fmt: skip
        await run_blocking(self._put, records)

    async def records(self) -> list[CacheRecord]:
        return await run_blocking(self._list)

    async def forget(self, keys: Sequence[str]) -> None:
        await run_blocking(self._forget, keys)

    def _get(self, key: str) -> CacheRecord | None:
        with self._state.view() as tx:
            return tx.get(CACHE, key)

    def _list(self) -> list[CacheRecord]:
        with self._state.view() as tx:
            return list(tx.list(CACHE))

    def _put(self, records: Sequence[CacheRecord]) -> None:
        with self._state.update() as tx:
            for record in records:
                tx.put(CACHE, record.key, record)

    def _forget(self, keys: Sequence[str]) -> None:
        with self._state.update() as tx:
            for key in keys:
                tx.delete(CACHE, key)
