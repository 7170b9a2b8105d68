"""Creating a container: image, configuration, mounts, a writable snapshot, a record."""

import os
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from gantry import faults
from gantry.aio import run_blocking
from gantry.engine.attributes import event_attributes
from gantry.engine.directory import name_volumes, remove_directory
from gantry.engine.links import DEFAULT, checked_links
from gantry.engine.merge import command_of, merge_config
from gantry.engine.mounts import CREATE, clean, inherited_mounts, requested_mounts
from gantry.engine.naming import invent_name
from gantry.engine.registry import Registry
from gantry.engine.undo import Undo
from gantry.engine.validate import check_config, check_host, hostname_of, with_defaults
from gantry.errors import InvalidArgument, NotFound
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, MountPoint, VolumeOptions
from gantry.model.identity import new_id
from gantry.model.image import manifest_descriptor
from gantry.model.instance import Instance
from gantry.model.network import EndpointSettings
from gantry.model.platform import Platform
from gantry.model.remap import Remap
from gantry.oci.archive import real_directory
from gantry.ports import Events, Images, Layers, Leases, Networks, Snapshotter, TaskFacts, Volumes

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}")


class Creator:
    """`POST /containers/create`."""

    def __init__(
        self,
        instance: Instance,
        registry: Registry,
        images: Images,
        snapshots: Snapshotter,
        layers: Layers,
        volumes: Volumes,
        facts: TaskFacts,
        events: Events,
        *,
        leases: Leases,
        networks: Networks,
        defaults: Callable[[HostConfig], HostConfig] = lambda host: host,
        remap: Remap | None = None,
    ) -> None:
        """`defaults` fills in what the daemon's configuration says for containers that say nothing."""
        self._instance = instance
        self._registry = registry
        self._images = images
        self._snapshots = snapshots
        self._layers = layers
        self._leases = leases
        self._networks = networks
        self._volumes = volumes
        self._facts = facts
        self._events = events
        self._defaults = defaults
        self._remap = remap

    async def create(
        self,
        name: str,
        config: ContainerConfig,
        host: HostConfig,
        endpoints: dict[str, EndpointSettings],
        platform: Platform | None = None,
    ) -> tuple[Container, list[str]]:
        """A new container and the warnings that Docker would print; nothing is left behind where it raises."""
        if config == ContainerConfig():
            raise InvalidArgument("config cannot be empty in order to create a container")
        with self._leases.lease() as lease:
            image = await self._images.get(config.image, platform) if config.image else None
            host, warnings = check_host(config, host, self._facts.runtimes(), self._facts.kernel())
            self._facts.check(host)
            merged = check_config(merge_config(config, image.config) if image else config)
            program, arguments = command_of(merged)
            host = with_defaults(
                self._defaults(host), self._facts.default_runtime(), unified=self._facts.kernel().unified
            )
            host = self._resolve_joins(host)
            inherited = inherited_mounts(host.volumes_from, self._mounts_of)
            mounts = requested_mounts(merged, host, inherited)
            await self._check_sources(mounts)
            networks = self._networks_of(host, endpoints)
            if image is not None:
                lease.add(image.id, image.manifest, image.config_digest, *image.layers)
            async with Undo() as undo:
                container_id = new_id()
                chosen = self._claim(name, container_id)
                undo.callback(self._registry.release, chosen, container_id)
                host = checked_links(host, chosen, self._registry)
                # The directory is the intent: one without a record is what recovery cleans up after.
                directory = self._instance.data_root / "containers" / container_id
                undo.step(run_blocking, remove_directory, directory)
                await run_blocking(directory.mkdir, parents=True, mode=0o710)
                faults.point("create.directory")
                chain = await self._images.ensure_unpacked(image) if image else ""
                lease.add(container_id, *([chain] if chain else []))
                undo.step(run_blocking, self._snapshots.remove, container_id)
                await run_blocking(self._snapshots.prepare, container_id, chain)
                faults.point("create.snapshot")
                mounts = [await self._resolved_image(mount) for mount in mounts]
                lease.add(*(mount.chain for mount in mounts if mount.chain))
                mounts = await self._make_volumes(mounts, host, directory, undo)
                container = Container(
                    id=container_id,
                    name=chosen,
                    created_at=timestamp.now(),
                    image_id=image.id if image else "",
                    image_ref=config.image,
                    platform=image.os if image else "linux",
                    path=program,
                    args=tuple(arguments),
                    config=msgspec.structs.replace(merged, hostname=hostname_of(merged, host, container_id)),
                    host_config=host,
                    runtime=host.runtime,
                    driver="overlay2",
                    networks=networks,
                    mounts=tuple(mounts),
                    log_path=str(directory / f"{container_id}.log") if host.log_config.type != "none" else "",
                    chain_id=chain,
                    image_manifest=manifest_descriptor(image) if image else None,
                )
                if image is not None:
                    await self._copy_up(container)
                faults.point("create.copied-up")
                await self._registry.save(container)
                faults.point("create.recorded")
                undo.pop_all()
        await run_blocking(name_volumes, directory, [])
        self._events.publish("container", "create", container.id, event_attributes(container))
        return container, warnings

    def _claim(self, name: str, container_id: str) -> str:
        if name:
            self._registry.claim(name, container_id)
            return name.removeprefix("/")
        for attempt in range(64):
            chosen = invent_name(attempt)
            if not self._registry.taken(chosen):
                self._registry.claim(chosen, container_id)
                return chosen
        self._registry.claim(container_id[:12], container_id)
        return container_id[:12]

    def _mounts_of(self, name: str) -> tuple[MountPoint, ...]:
        return self._other(name).mounts

    def _other(self, name: str) -> Container:
        """Another container that this one refers to."""
        try:
            return self._registry.get(name)
        except NotFound as error:
            raise InvalidArgument(error.message) from None

    def _resolve_joins(self, host: HostConfig) -> HostConfig:
        """Other containers by id: their names may change. A missing network donor is told at the start."""
        changes = {}
        for field in ("pid_mode", "ipc_mode", "network_mode"):
            kind, colon, name = getattr(host, field).partition(":")
            if kind != "container" or not colon:
                continue
            if field == "network_mode":
                try:
                    other = self._registry.get(name)
                except NotFound:
                    continue
            else:
                other = self._other(name)
            changes[field] = f"container:{other.id}"
        return msgspec.structs.replace(host, **changes) if changes else host

    @staticmethod
    async def _check_sources(mounts: list[MountPoint]) -> None:
        """`--mount type=bind` makes nothing; what `-v` names is made at the start."""
        for mount in mounts:
            if mount.type != "bind" or CREATE in mount.options:
                continue
            if not await run_blocking(os.path.exists, mount.source):
                raise InvalidArgument(
                    f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
                )

    def _networks_of(self, host: HostConfig, endpoints: dict[str, EndpointSettings]) -> dict[str, EndpointSettings]:
        """Network names with what was asked of each, the container's own network mode first."""
        mode = host.network_mode
        if mode.startswith("container:"):
            return {}
        chosen = {("bridge" if name == "default" else name): settings for name, settings in endpoints.items()}
        chosen = {mode: chosen.pop(mode, EndpointSettings()), **chosen}
        if host.links and mode != DEFAULT and not chosen[mode].links:
            chosen[mode] = msgspec.structs.replace(chosen[mode], links=list(host.links))
        if mode == "host" and len(chosen) == 1 and chosen[mode].mac_address:
            raise InvalidArgument("conflicting options: mac-address and the network mode")
        for name, settings in chosen.items():
            if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
                raise InvalidArgument(f"invalid config for network {name}: invalid MAC address {settings.mac_address}")
            try:
                self._networks.check_addresses(name, settings)
            except InvalidArgument as error:
                raise InvalidArgument(f"invalid config for network {name}: {error.message}") from error
            if name in ("bridge", "host", "none") and settings.aliases:
                raise InvalidArgument(
                    f"invalid config for network {name}: invalid endpoint settings:\n"
                    "network-scoped alias is supported only for containers in user defined networks"
                )
        return chosen

    async def _resolved_image(self, mount: MountPoint) -> MountPoint:
        """An image that is mounted, by the snapshot of its layers."""
        if mount.type != "image":
            return mount
        image = await self._images.get(mount.source)
        return msgspec.structs.replace(mount, chain=await self._images.ensure_unpacked(image))

    async def _make_volumes(
        self, mounts: list[MountPoint], host: HostConfig, directory: Path, undo: Undo
    ) -> list[MountPoint]:
        """Named volumes are found or made; anonymous ones are written down before they are made."""
        named = [
            msgspec.structs.replace(mount, name=mount.name or new_id()) if mount.type == "volume" else mount
            for mount in mounts
        ]
        if anonymous := [mount.name for mount in named if mount.type == "volume" and mount.anonymous]:
            await run_blocking(name_volumes, directory, anonymous)
            faults.point("create.volumes-named")
        requests = {clean(request.target): request.volume_options for request in host.mounts or ()}
        made: list[MountPoint] = []
        for mount in named:
            if mount.type != "volume":
                made.append(mount)
                continue
            existed = await self._exists(mount.name)
            asked = requests.get(mount.destination) or VolumeOptions()
            options = (asked.driver_config.options if asked.driver_config else None) or {}
            volume = await self._volumes.create(
                mount.name, mount.driver, options, asked.labels or {}, anonymous=mount.anonymous
            )
            if not existed:
                undo.step(self._volumes.remove, mount.name, force=True)
            made.append(msgspec.structs.replace(mount, source=volume.mountpoint, driver=volume.driver))
            faults.point("create.volume")
        return made

    async def _exists(self, name: str) -> bool:
        try:
            await self._volumes.get(name)
        except NotFound:
            return False
        return True

    async def _copy_up(self, container: Container) -> None:
        """Empty volumes get what the image has at their place."""
        wanted = [mount for mount in container.mounts if mount.type == "volume" and not mount.no_copy]
        empty = [mount for mount in wanted if await self._is_empty(mount.name, container.id)]
        if not empty:
            return
        async with AsyncExitStack() as stack:
            shifted = self._remap is not None and self._remap.of(container.host_config) is not None
            mounts = await run_blocking(self._snapshots.mounts, container.id)
            context = self._layers.mounted(mounts, shifted=shifted)
            root = await run_blocking(context.__enter__)
            stack.push_async_callback(run_blocking, context.__exit__, None, None, None)
            for mount in empty:
                try:
                    source = await run_blocking(real_directory, root, mount.destination)
                except OSError:
                    continue  # the image has no directory there
                await self._volumes.mount(mount.name, container.id)
                try:
                    await self._volumes.copy_up(mount.name, source, mount.subpath)
                finally:
                    await self._volumes.unmount(mount.name, container.id)

    async def _is_empty(self, name: str, container_id: str) -> bool:
        path = await self._volumes.mount(name, container_id)
        try:
            return not await run_blocking(_has_entries, path)
        finally:
            await self._volumes.unmount(name, container_id)


def _has_entries(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is not None
