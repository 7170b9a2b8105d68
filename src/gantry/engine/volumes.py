"""Volumes: what the `/volumes` routes ask for."""

import builtins
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from gantry.errors import Conflict, NotFound
from gantry.model.volume import Volume
from gantry.ports import Events, Volumes, VolumeUse


class Pruned(msgspec.Struct, frozen=True):
    """`size` is what became free, in bytes."""

    names: builtins.list[str]
    size: int


class VolumeCases:
    """Also stands as `ports.Volumes` before the driver, so that volumes made for containers have their events."""

    def __init__(self, volumes: Volumes, use: VolumeUse, events: Events) -> None:
        self._volumes = volumes
        self._use = use
        self._events = events

    async def get(self, name: str) -> Volume:
        return await self._volumes.get(name)

    async def list(self) -> Sequence[Volume]:
        return await self._volumes.list()

    def dangling(self, volume: Volume) -> bool:
        """Whether no container, running or not, has the volume."""
        return not self._use.in_use(volume.name)

    async def usage(self, volume: Volume) -> tuple[int, int]:
        """Bytes in the volume, and how many containers have it."""
        return await self._use.size(volume.name), len(self._use.in_use(volume.name))

    async def create(
        self, name: str, driver: str, options: dict[str, str], labels: dict[str, str], *, anonymous: bool = False
    ) -> Volume:
        """Idempotent; without a name it gets one and is anonymous."""
        known = {each.name for each in await self._volumes.list()}
        volume = await self._volumes.create(name, driver, options, labels, anonymous=anonymous or not name)
        if volume.name not in known:
            self._events.publish("volume", "create", volume.name, {"driver": volume.driver})
        return volume

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Conflict while a container has it."""
        known = {each.name: each for each in await self._volumes.list()}
        await self._volumes.remove(name, force=force)
        if name in known:
            self._events.publish("volume", "destroy", name, {"driver": known[name].driver})

    async def mount(self, name: str, container_id: str) -> str:
        return await self._volumes.mount(name, container_id)

    async def unmount(self, name: str, container_id: str) -> None:
        await self._volumes.unmount(name, container_id)

    async def copy_up(self, name: str, source: Path, subpath: str) -> None:
        await self._volumes.copy_up(name, source, subpath)

    async def prune(self, keep: Callable[[Volume], bool]) -> Pruned:
        """Remove the volumes that no container has, except those to `keep`."""
        removed: builtins.list[str] = []
        freed = 0
        for volume in await self._volumes.list():
            if keep(volume) or not self.dangling(volume):
                continue
            size = await self._use.size(volume.name)
            try:
                await self._volumes.remove(volume.name)
            except (Conflict, NotFound):
                continue  # somebody was faster: it is used now, or gone
            removed.append(volume.name)
            freed += size
            self._events.publish("volume", "destroy", volume.name, {"driver": volume.driver})
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return Pruned(removed, freed)
