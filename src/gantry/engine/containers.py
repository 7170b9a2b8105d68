"""Containers: the use cases that do not change a container's phase, and the door to those that do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from gantry.aio import run_blocking
from gantry.engine.create import Creator, event_attributes, validate
from gantry.engine.execs import Execs
from gantry.engine.lifecycle import Lifecycle
from gantry.engine.registry import Registry
from gantry.errors import Conflict, Internal, InvalidArgument
from gantry.model.container import Container, ContainerConfig, HostConfig, Phase
from gantry.model.image import HistoryEntry, Image
from gantry.model.platform import Platform
from gantry.ports import Images, Layers, LogEntry, LogQuery, Logs, Networks, Snapshotter, TaskFacts, TaskStreams


class Containers:
    """What the `/containers` routes ask for."""

    def __init__(
        self,
        registry: Registry,
        creator: Creator,
        lifecycle: Lifecycle,
        execs: Execs,
        images: Images,
        snapshots: Snapshotter,
        layers: Layers,
        streams: TaskStreams,
        facts: TaskFacts,
        networks: Networks,
        logs: Logs,
    ) -> None:
        self.registry = registry
        self.creator = creator
        self.lifecycle = lifecycle
        self.execs = execs
        self._images = images
        self._snapshots = snapshots
        self._layers = layers
        self._streams = streams
        self._facts = facts
        self._networks = networks
        self._logs = logs

    def get(self, name: str) -> Container:
        return self.registry.get(name)

    def using_image(self, image_id: str) -> list[tuple[str, bool]]:
        """The containers that stand on an image, and whether each runs."""
        return [(c.id, c.status.running) for c in self.registry if c.image_id == image_id]

    async def rename(self, container: Container, name: str) -> None:
        if not name:
            raise InvalidArgument("Neither old nor new names may be empty")
        bare = name.removeprefix("/")
        if bare == container.name:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            self.registry.claim(name, container.id)
            old = container.name
            try:
                container = await self.registry.save(container.replace(name=bare))
            except BaseException:
                self.registry.release(bare, container.id)
                raise
            self.registry.release(old, container.id)
        self.lifecycle.publish(container, "rename", oldName=f"/{old}")

    async def update(self, container: Container, changes: dict[str, Any]) -> list[str]:
        """Change resource limits and the restart policy; what is not named stays."""
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase in (Phase.REMOVING, Phase.DEAD):
                raise Conflict('Container is marked for removal and cannot be "update".')
            if container.host_config.auto_remove and "restart_policy" in changes:
                raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
            if "nano_cpus" in changes:
                changes = {"cpu_period": 0, "cpu_quota": 0, **changes}
            host = msgspec.structs.replace(container.host_config, **changes)
            host, warnings = validate(container.config, host, self._facts)
            if container.status.phase in (Phase.RUNNING, Phase.PAUSED):
                await self._facts.update(container.id, host)
            container = await self.registry.save(container.replace(host_config=host))
        self.lifecycle.publish(container, "update")
        return warnings

    async def logs(self, container: Container, query: LogQuery) -> AsyncIterator[LogEntry]:
        async for entry in self._logs.read(container, query, self.lifecycle.ended(container.id)):
            yield entry

    async def resize(self, container: Container, height: int, width: int) -> None:
        if container.status.phase not in (Phase.RUNNING, Phase.PAUSED):
            raise Conflict(f"container {container.id} is not running")
        await self._streams.resize(container.id, height, width)

    async def top(self, container: Container, arguments: str) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of the host's `ps` for the container's processes; nothing inside the container runs."""
        self._must_run(container)
        pids = set(await self._facts.pids(container.id))
        process = await asyncio.create_subprocess_exec(
            "ps", *(arguments.split() or ["-ef"]), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode:
            raise InvalidArgument(f"ps: {err.decode(errors='replace').strip()}")
        lines = out.decode(errors="replace").splitlines()
        titles = lines[0].split() if lines else []
        if "PID" not in titles:
            raise InvalidArgument("Couldn't find PID field in ps output")
        column = titles.index("PID")
        rows = []
        for line in lines[1:]:
            fields = line.split(None, len(titles) - 1)
            if len(fields) > column and fields[column].isdecimal() and int(fields[column]) in pids:
                rows.append(fields)
        return titles, rows

    def _must_run(self, container: Container) -> None:
        if container.status.phase == Phase.RESTARTING:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if not container.status.running:
            raise Conflict(f"container {container.id} is not running")

    async def stats(self, container: Container) -> dict[str, Any]:
        if container.status.phase not in (Phase.RUNNING, Phase.PAUSED):
            return {}
        return await self._facts.stats(container.id)

    async def changes(self, container: Container) -> list[tuple[int, str]]:
        return await run_blocking(self._layers.changes, container.id)

    async def size(self, container: Container) -> tuple[int, int]:
        """Bytes of the container's own layer, and of the whole root file system."""
        own = await run_blocking(self._snapshots.usage, container.id)
        return own, own + (await self._images.get(container.image_id)).size

    @asynccontextmanager
    async def root(self, container: Container) -> AsyncIterator[Path]:
        """The container's root directory as its process sees it, or the mounted snapshot of a stopped one."""
        running = self._facts.root(container.id) if container.status.running else None
        if running is not None:
            yield running
            return
        mounts = await run_blocking(self._snapshots.mounts, container.id)
        async with AsyncExitStack() as stack:
            context = self._layers.mounted(mounts)
            path = await run_blocking(context.__enter__)
            stack.push_async_callback(run_blocking, context.__exit__, None, None, None)
            yield path

    async def commit(
        self,
        container: Container,
        config: ContainerConfig,
        *,
        reference: str,
        author: str,
        comment: str,
        pause: bool,
    ) -> Image:
        """An image of the container as it is now."""
        base = await self._images.get(container.image_id)
        paused = pause and container.status.phase == Phase.RUNNING
        if paused:
            await self.lifecycle.pause(container)
        try:
            layer = await run_blocking(self._layers.capture, container.id)
        finally:
            if paused:
                await self.lifecycle.unpause(container)
        from gantry.model import timestamp

        now = timestamp.rfc3339(timestamp.now())
        command = " ".join((container.path, *container.args))
        image = await self._images.add(
            config,
            [*await self._images.layer_infos(base), layer],
            [*base.history, HistoryEntry(created=now, created_by=command, author=author, comment=comment)],
            platform=Platform(base.os, base.architecture, base.variant),
            author=author,
            comment=comment,
            created=now,
        )
        if reference:
            await self._images.tag(image.id, reference)
        self.lifecycle.publish(container, "commit", comment=comment, imageID=image.id, imageRef=reference)
        return image

    async def prune(self, keep: "Any") -> tuple[list[str], int]:
        """Remove every stopped container that `keep` does not want."""
        removed: list[str] = []
        freed = 0
        for container in self.registry:
            if container.status.phase not in (Phase.CREATED, Phase.EXITED, Phase.DEAD) or keep(container):
                continue
            try:
                size, _ = await self.size(container)
                await self.lifecycle.remove(container)
            except (Conflict, Internal):
                continue  # it was started, or is being removed, meanwhile
            removed.append(container.id)
            freed += size
        return removed, freed

    def attributes(self, container: Container) -> dict[str, str]:
        return event_attributes(container)

    async def create(
        self, name: str, config: ContainerConfig, host: HostConfig, endpoints: Any, platform: Platform | None
    ) -> tuple[Container, list[str]]:
        return await self.creator.create(name, config, host, endpoints, platform)
