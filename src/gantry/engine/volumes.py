"""Volumes: Docker's `volume` commands."""

from collections.abc import Callable

from gantry.engine.registry import Registry
from gantry.errors import Conflict
from gantry.model.identity import new_id
from gantry.model.volume import Volume
from gantry.ports import Events, Volumes


class VolumeCases:
    """Create, list, remove and prune, with their events."""

    def __init__(self, volumes: Volumes, registry: Registry, events: Events) -> None:
        self._volumes = volumes
        self._registry = registry
        self._events = events

    async def create(self, name: str, driver: str, options: dict[str, str], labels: dict[str, str]) -> Volume:
        """Without a name it is anonymous: 64 digits, and prune takes it."""
        before = {volume.name for volume in await self._volumes.list()}
        made = await self._volumes.create(name or new_id(), driver or "local", options, labels, anonymous=not name)
        if made.name not in before:
            self._events.publish("volume", "create", made.name, {"driver": made.driver})
        return made

    async def get(self, name: str) -> Volume:
        return await self._volumes.get(name)

    async def all(self) -> list[Volume]:
        return sorted(await self._volumes.list(), key=lambda volume: volume.name)

    def users(self, name: str) -> list[str]:
        """The containers that name the volume, running or not."""
        return [c.id for c in self._registry if any(m.type == "volume" and m.name == name for m in c.mounts)]

    async def remove(self, name: str, *, force: bool = False) -> None:
        if users := self.users(name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        await self._volumes.remove(name, force=force)
        self._events.publish("volume", "destroy", name, {"driver": "local"})

    async def prune(self, keep: Callable[[Volume], bool]) -> list[str]:
        """Remove what no container names and `keep` does not want."""
        removed = []
        for volume in await self.all():
            if self.users(volume.name) or keep(volume):
                continue
            await self.remove(volume.name)
            removed.append(volume.name)
        self._events.publish("volume", "prune", "", {"reclaimed": "0"})
        return removed
