"""What Docker's volumes cannot do: rename, export, import, clone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from gantry.engine.volumes import VolumeCases
from gantry.errors import InvalidArgument
from gantry.model.identity import new_id
from gantry.model.volume import Volume
from gantry.oci import archive
from gantry.ports import Events, VolumeContents


class VolumeTransfers:
    """A volume's content in and out. Volumes with driver options are mounted for as long as that takes."""

    def __init__(self, volumes: VolumeCases, contents: VolumeContents, events: Events) -> None:
        self._volumes = volumes
        self._contents = contents
        self._events = events

    async def rename(self, name: str, new: str) -> Volume:
        """Conflict while a container has it."""
        if not new:
            raise InvalidArgument("a new name is needed")
        volume = await self._contents.rename(name, new)
        self._events.publish("volume", "rename", new, {"driver": volume.driver, "oldName": name})
        return volume

    @asynccontextmanager
    async def directory(self, name: str) -> AsyncIterator[Path]:
        """Where a volume's content is, for reading."""
        user = f"transfer-{new_id()}"
        path = await self._volumes.mount(name, user)
        try:
            yield Path(path)
        finally:
            await self._volumes.unmount(name, user)

    @staticmethod
    def pack(directory: Path, out: BinaryIO) -> None:
        """Write the tar archive of a volume's content (blocking)."""
        archive.pack(directory, "/", out, name="")

    async def load(self, name: str, stream: BinaryIO) -> Volume:
        """A new volume from a tar archive, compressed or not; nothing is left of one that fails."""

        def fill(directory: Path) -> None:
            archive.unpack(directory, "/", stream)

        return self._told(await self._contents.fill(name, {}, fill))

    async def clone(self, name: str, new: str) -> Volume:
        """A new volume with the content and labels of another one, as they are now."""
        if not new:
            raise InvalidArgument("a name for the copy is needed")
        return self._told(await self._contents.clone(name, new))

    def _told(self, volume: Volume) -> Volume:
        self._events.publish("volume", "create", volume.name, {"driver": volume.driver})
        return volume
