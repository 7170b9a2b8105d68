"""Containers: the use cases that do not change a container's phase, and the door to those that do."""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from gantry import faults
from gantry.aio import run_blocking
from gantry.engine.create import Creator
from gantry.engine.execs import Execs
from gantry.engine.health import Health
from gantry.engine.lifecycle import Lifecycle, must_run
from gantry.engine.merge import merge_config
from gantry.engine.probes import Probes
from gantry.engine.processes import processes
from gantry.engine.registry import Registry
from gantry.engine.update import updated
from gantry.errors import Conflict, GantryError, InvalidArgument, Unsupported
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, Phase
from gantry.model.identity import new_id
from gantry.model.image import HistoryEntry, Image
from gantry.model.log_options import REMOTE, readable
from gantry.model.network import EndpointSettings
from gantry.model.platform import Platform
from gantry.model.remap import Remap
from gantry.model.task import Mount
from gantry.ports import Images, Layers, LogEntry, LogQuery, Logs, Networks, Snapshotter, TaskFacts, TaskStreams

_GRAPH = {"lowerdir": "LowerDir", "upperdir": "UpperDir", "workdir": "WorkDir"}


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
        remap: Remap | None = None,
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
        self._remap = remap
        self._health = Health(lifecycle, Probes(execs, facts))
        lifecycle.on_running = self._running
        lifecycle.before_start = logs.prepare
        lifecycle.before_removal = logs.drain
        lifecycle.on_removed = execs.forget

    def get(self, name: str) -> Container:
        """By name, id or id prefix; raises NotFound "No such container: X"."""
        return self.registry.get(name)

    def using_image(self, image_id: str) -> list[tuple[str, bool]]:
        """The containers that stand on an image, and whether each runs."""
        return [(c.id, c.status.running) for c in self.registry if c.image_id == image_id]

    def directory(self, container: Container) -> Path:
        """Where the container's own files are: log, hosts, hostname, resolv.conf."""
        return self.lifecycle.instance.data_root / "containers" / container.id

    async def graph(self, container: Container) -> dict[str, str]:
        """The directories of the container's snapshot, by Docker's names."""
        found = {"ID": container.id}
        for mount in await run_blocking(self._snapshots.mounts, container.id):
            for option in mount.options:
                name, _, value = option.partition("=")
                if name in _GRAPH:
                    found[_GRAPH[name]] = value
        return found

    def apparmor_profile(self, container: Container) -> str:
        """The AppArmor profile that confines the container; "" where none does."""
        return self._facts.apparmor_profile(container.host_config)

    async def create(
        self,
        name: str,
        config: ContainerConfig,
        host: HostConfig,
        endpoints: dict[str, EndpointSettings],
        platform: Platform | None,
    ) -> tuple[Container, list[str]]:
        return await self.creator.create(name, config, host, endpoints, platform)

    async def rename(self, container: Container, name: str) -> None:
        bare = name.removeprefix("/")
        if not bare:
            raise InvalidArgument("Neither old nor new names may be empty")
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            old = container.name
            if bare == old:
                raise InvalidArgument("Renaming a container with the same name as its current name")
            try:
                self.registry.claim(f"/{bare}", container.id)
            except InvalidArgument as error:
                raise InvalidArgument(f"Error when allocating new name: {error.message}") from None
            except Conflict as error:
                raise Conflict(f"Error when allocating new name: {error.message}") from None
            try:
                container = await self.registry.update(container.id, lambda c: c.replace(name=bare))
                faults.point("rename.recorded")
            except BaseException:
                self.registry.release(bare, container.id)
                raise
            self.registry.release(old, container.id)
            await self.lifecycle.connections.renamed(container.id, old, bare)
        self.lifecycle.publish(container, "rename", oldName=f"/{old}")

    async def update(self, container: Container, asked: HostConfig) -> list[str]:
        """Change resource limits and the restart policy; what is zero stays. Returns warnings."""
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase in (Phase.REMOVING, Phase.DEAD):
                raise Conflict(
                    f'Cannot update container {container.id}: container is marked for removal and cannot be "update"'
                )
            try:
                host, warnings = updated(container.host_config, asked, self._facts.kernel())
                if container.status.phase in (Phase.RUNNING, Phase.PAUSED):
                    await self._facts.update(container.id, host)
            except Conflict as error:
                raise Conflict(f"Cannot update container {container.id}: {error.message}") from None
            faults.point("update.applied")
            container = await self.registry.update(container.id, lambda c: c.replace(host_config=host))
        self.lifecycle.publish(container, "update")
        return warnings

    def _running(self, container: Container) -> None:
        self._health.watch(container)
        self._logs.watch(container, self.lifecycle.ended(container.id))

    def finish_logs(self) -> None:
        """Send on what ended containers wrote and an earlier daemon did not send."""
        for container in self.registry:
            if container.host_config.log_config.type in REMOTE and not container.status.running:
                self._logs.watch(container, self.lifecycle.ended(container.id))

    async def logs(self, container: Container, query: LogQuery) -> AsyncIterator[list[LogEntry]]:
        """What the container has written, in batches; raises Unsupported where its driver keeps nothing."""
        async for batch in self._logs.read(container, query, self.lifecycle.ended(container.id)):
            yield batch

    def check_logs(self, container: Container) -> None:
        """Raises Unsupported where the container's log driver keeps nothing."""
        if not readable(container.host_config.log_config):
            raise Unsupported("configured logging driver does not support reading")

    def log_details(self, container: Container) -> bytes:
        """What `logs --details` puts before each line."""
        return self._logs.details(container)

    async def resize(self, container: Container, height: int, width: int) -> None:
        must_run(container)
        await self._streams.resize(container.id, height, width)
        self.lifecycle.publish(container, "resize", height=str(height), width=str(width))

    async def top(self, container: Container, arguments: str) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of the host's `ps` for the container's processes."""
        must_run(container)
        found = await processes(set(await self._facts.pids(container.id)), arguments)
        self.lifecycle.publish(container, "top")
        return found

    async def stats(self, container: Container) -> dict[str, Any]:
        """Numbers of the control group, {} where nothing runs."""
        if container.status.phase not in (Phase.RUNNING, Phase.PAUSED):
            return {}
        return await self._facts.stats(container.id)

    async def changes(self, container: Container) -> list[tuple[int, str]]:
        """(0 modified, 1 added, 2 deleted), path."""
        return await run_blocking(self._layers.changes, container.id)

    async def size(self, container: Container) -> tuple[int, int]:
        """Bytes of the container's own layer, and of the whole root file system."""
        own = await run_blocking(self._snapshots.usage, container.id)
        try:
            base = (await self._images.get(container.image_id)).size if container.image_id else 0
        except GantryError:
            base = 0  # its name is gone; what is below is still there, and counted with the images
        return own, own + base

    def remap_of(self, container: Container) -> Remap | None:
        """How the ids in `root` are mapped; None where they are the container's own."""
        return self._remap.of(container.host_config) if self._remap is not None else None

    @asynccontextmanager
    async def root(self, container: Container) -> AsyncIterator[Path]:
        """The container's root directory as its process sees it; for a stopped one, all that it would see but tmpfs."""
        running = self._facts.root(container.id) if container.status.running else None
        if running is not None:
            yield running
            return
        async with AsyncExitStack() as stack:
            binds = []
            for point in container.mounts:
                source = point.source
                if point.type == "volume":
                    user = f"cp-{new_id()}"  # a user of its own: the container may start meanwhile
                    source = await self.lifecycle.volumes.mount(point.name, user)
                    stack.push_async_callback(self.lifecycle.volumes.unmount, point.name, user)
                if (
                    point.type in ("bind", "volume")
                    and not point.subpath
                    and await run_blocking(os.path.exists, source)
                ):
                    binds.append(Mount("bind", source, point.destination))
            shifted = self.remap_of(container) is not None
            yield await stack.enter_async_context(self._mounted(container, binds, shifted=shifted))

    @asynccontextmanager
    async def unmounted_root(self, container: Container) -> AsyncIterator[Path]:
        """The root file system alone, without volumes and other mounts."""
        async with self._mounted(container, ()) as path:
            yield path

    @asynccontextmanager
    async def _mounted(
        self, container: Container, binds: Iterable[Mount], *, shifted: bool = False
    ) -> AsyncIterator[Path]:
        mounts = await run_blocking(self._snapshots.mounts, container.id)
        async with AsyncExitStack() as stack:
            context = self._layers.mounted((*mounts, *binds), shifted=shifted)
            path = await run_blocking(context.__enter__)
            stack.push_async_callback(run_blocking, context.__exit__, None, None, None)
            yield path

    async def commit(
        self,
        container: Container,
        config: ContainerConfig | None,
        change: Callable[[ContainerConfig], ContainerConfig],
        *,
        reference: str,
        author: str,
        comment: str,
        pause: bool,
    ) -> Image:
        """An image of the container as it is now; `config` goes before the container's own, `change` over both."""
        if container.status.phase in (Phase.REMOVING, Phase.DEAD):
            raise Conflict(f"You cannot commit container {container.id} which is {container.status.phase}")
        merged = change(merge_config(config, container.config) if config is not None else container.config)
        merged = msgspec.structs.replace(merged, hostname="", domainname="", image="")
        base = await self._images.get(container.image_id) if container.image_id else None
        paused = pause and container.status.phase == Phase.RUNNING
        if paused:
            await self.lifecycle.pause(container, briefly=True)
        try:
            layer = await run_blocking(self._layers.capture, container.id)
            faults.point("commit.captured")
        finally:
            if paused:
                await self.lifecycle.unpause(container)
        now = timestamp.rfc3339(timestamp.now())
        command = " ".join((container.path, *container.args))
        image = await self._images.add(
            merged,
            [*(await self._images.layer_infos(base) if base else ()), layer],
            [
                *(base.history if base else ()),
                HistoryEntry(created=now, created_by=command, author=author, comment=comment),
            ],
            platform=Platform(base.os, base.architecture, base.variant) if base else Platform.host(),
            parent=container.image_id,
            author=author,
            comment=comment,
            created=now,
        )
        if reference:
            await self._images.tag(image.id, reference)
        faults.point("commit.done")
        self.lifecycle.publish(container, "commit", comment=comment, imageID=image.id, imageRef=reference)
        return image

    async def prune(self, keep: Callable[[Container], bool]) -> tuple[list[str], int]:
        """Remove every stopped container that `keep` does not want; returns their ids and the bytes that are free."""
        removed: list[str] = []
        freed = 0
        for container in self.registry:
            if container.status.phase not in (Phase.CREATED, Phase.EXITED, Phase.DEAD) or keep(container):
                continue
            try:
                size, _ = await self.size(container)
                await self.lifecycle.remove(container)
            except GantryError:
                continue  # it was started, or removed, meanwhile
            removed.append(container.id)
            freed += size
        self.lifecycle.pruned(freed)
        return removed, freed
