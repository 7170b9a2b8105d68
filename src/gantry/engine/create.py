"""Creating a container: image, configuration, mounts, a writable snapshot, a record."""

import os
import posixpath
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from gantry.aio import run_blocking
from gantry.engine.merge import merge_config, parse_signal
from gantry.engine.mounts import requested_mounts
from gantry.engine.naming import invent_name
from gantry.engine.registry import Registry
from gantry.errors import InvalidArgument, NotFound
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, LogConfig, MountPoint
from gantry.model.identity import new_id
from gantry.model.image import Image
from gantry.model.instance import Instance
from gantry.model.network import EndpointSettings
from gantry.model.platform import Platform
from gantry.oci.archive import real_directory
from gantry.ports import Events, Images, Layers, Networks, Snapshotter, TaskFacts, Volumes

MEMORY_MINIMUM = 6 << 20
SHM_SIZE = 64 << 20
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?/(tcp|udp|sctp)")
_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")


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
        networks: Networks,
        facts: TaskFacts,
        events: Events,
        *,
        defaults: Callable[[HostConfig], HostConfig] = lambda host: host,
    ) -> None:
        """`defaults` fills in what the daemon's configuration says for containers that say nothing."""
        self._instance = instance
        self._registry = registry
        self._images = images
        self._snapshots = snapshots
        self._layers = layers
        self._volumes = volumes
        self._networks = networks
        self._facts = facts
        self._events = events
        self._defaults = defaults

    async def create(
        self,
        name: str,
        config: ContainerConfig,
        host: HostConfig,
        endpoints: dict[str, EndpointSettings],
        platform: Platform | None = None,
    ) -> tuple[Container, list[str]]:
        """A new container and the warnings that Docker would print; nothing is left behind where it raises."""
        if not config.image:
            raise InvalidArgument("config cannot be empty in order to create a container")
        image = await self._images.get(config.image, platform)
        merged = merge_config(config, image.config)
        command = [*(merged.entrypoint or ()), *(merged.cmd or ())]
        if not command or not command[0]:
            raise InvalidArgument("no command specified")
        host, warnings = validate(merged, self._defaults(host), self._facts)
        inherited = self._inherited(host)
        container_id = new_id()
        async with AsyncExitStack() as undo:
            chosen = self._claim(name, container_id)
            undo.callback(self._registry.release, chosen, container_id)
            if not merged.hostname and host.network_mode != "host" and not host.uts_mode:
                merged = msgspec.structs.replace(merged, hostname=container_id[:12])
            elif not merged.hostname:
                merged = msgspec.structs.replace(merged, hostname=os.uname().nodename)
            mounts = requested_mounts(merged, host, inherited)
            await self._check_binds(mounts, host)
            chain = await self._images.ensure_unpacked(image)
            undo.push_async_callback(run_blocking, self._snapshots.remove, container_id)
            await run_blocking(self._snapshots.prepare, container_id, chain)
            mounts = await self._make_volumes(mounts, undo)
            directory = self._instance.data_root / "containers" / container_id
            await run_blocking(directory.mkdir, parents=True, mode=0o710)
            undo.push_async_callback(run_blocking, _remove_directory, directory)
            container = Container(
                id=container_id,
                name=chosen,
                created_at=timestamp.now(),
                image_id=image.id,
                image_ref=config.image,
                platform=image.os,
                path=command[0],
                args=tuple(command[1:]),
                config=merged,
                host_config=host,
                runtime=host.runtime or self._facts.default_runtime(),
                driver="overlay2",
                networks=_networks(host, endpoints),
                mounts=tuple(mounts),
                log_path="" if host.log_config.type == "none" else str(directory / f"{container_id}.log"),
                chain_id=chain,
            )
            await self._copy_up(container, image)
            await self._registry.save(container)
            undo.pop_all()
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

    def _inherited(self, host: HostConfig) -> list[MountPoint]:
        found: list[MountPoint] = []
        for text in host.volumes_from or ():
            name, _, mode = text.partition(":")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidArgument(f"invalid mode: {mode}")
            for mount in self._registry.get(name).mounts:
                if mount.type != "tmpfs":
                    writable = mount.read_write and mode != "ro"
                    found.append(msgspec.structs.replace(mount, read_write=writable, no_copy=True))
        return found

    async def _check_binds(self, mounts: list[MountPoint], host: HostConfig) -> None:
        from_mounts = {posixpath.normpath(request.target) for request in host.mounts or () if request.type == "bind"}
        for mount in mounts:
            strict = mount.type == "bind" and mount.destination in from_mounts and "create" not in mount.options
            if strict and not await run_blocking(os.path.lexists, mount.source):
                raise InvalidArgument(
                    f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
                )

    async def _make_volumes(self, mounts: list[MountPoint], undo: AsyncExitStack) -> list[MountPoint]:
        made: list[MountPoint] = []
        for mount in mounts:
            if mount.type != "volume":
                made.append(mount)
                continue
            name = mount.name or new_id()
            existed = await self._exists(name)
            volume = await self._volumes.create(name, mount.driver, {}, {}, anonymous=mount.anonymous)
            if not existed:
                undo.push_async_callback(self._volumes.remove, name, force=True)
            made.append(msgspec.structs.replace(mount, name=name, source=volume.mountpoint, driver=volume.driver))
        return made

    async def _exists(self, name: str) -> bool:
        try:
            await self._volumes.get(name)
        except NotFound:
            return False
        return True

    async def _copy_up(self, container: Container, image: Image) -> None:
        """Empty volumes get what the image has at their place."""
        wanted = [mount for mount in container.mounts if mount.type == "volume" and not mount.no_copy]
        if not wanted or not image.chain_id:
            return
        for mount in wanted:
            source = await self._volumes.mount(mount.name, container.id)
            try:
                if await run_blocking(_has_entries, source):
                    continue
                await self._copy_one(container, mount)
            finally:
                await self._volumes.unmount(mount.name, container.id)

    async def _copy_one(self, container: Container, mount: MountPoint) -> None:
        mounts = await run_blocking(self._snapshots.mounts, container.id)
        async with AsyncExitStack() as stack:
            context = self._layers.mounted(mounts)
            root = await run_blocking(context.__enter__)
            stack.push_async_callback(run_blocking, context.__exit__, None, None, None)
            try:
                source = await run_blocking(real_directory, root, mount.destination)
            except (FileNotFoundError, NotADirectoryError):
                return
            await self._volumes.copy_up(mount.name, source, mount.subpath)


def _has_entries(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is not None


def _remove_directory(directory: Path) -> None:
    import shutil

    shutil.rmtree(directory, ignore_errors=False)


def _networks(host: HostConfig, endpoints: dict[str, EndpointSettings]) -> dict[str, EndpointSettings]:
    mode = host.network_mode
    if mode.startswith("container:"):
        return {}
    chosen = dict(endpoints)
    if "default" in chosen:
        chosen["bridge"] = chosen.pop("default")
    return chosen if mode in chosen else {mode: EndpointSettings(), **chosen}


def event_attributes(container: Container, **more: str) -> dict[str, str]:
    """What every event of a container carries."""
    return {**(container.config.labels or {}), "image": container.image_ref, "name": container.name, **more}


def validate(config: ContainerConfig, host: HostConfig, facts: TaskFacts) -> tuple[HostConfig, list[str]]:
    """Check what does not depend on other objects, and fill Docker's defaults in; returns warnings as well."""
    warnings: list[str] = []
    policy = host.restart_policy
    if policy.name not in _POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            + (" and cannot be negative" if policy.maximum_retry_count < 0 else "")
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if host.auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    if host.memory and host.memory < MEMORY_MINIMUM:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if host.memory_swap > 0 and host.memory_swap < host.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory_swap > 0 and not host.memory:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory and not host.memory_swap:
        host = msgspec.structs.replace(host, memory_swap=2 * host.memory)
    if host.memory_reservation and host.memory and host.memory_reservation > host.memory:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    cpus = os.cpu_count() or 1
    if host.nano_cpus < 0 or host.nano_cpus > cpus * 10**9:
        raise InvalidArgument(f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.nano_cpus and (host.cpu_period or host.cpu_quota):
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    _check_cpuset(host.cpuset_cpus, cpus)
    if host.runtime and host.runtime not in facts.runtimes():
        raise InvalidArgument(f"unknown or invalid runtime name: {host.runtime}")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if len(config.hostname) > 63 and "." not in config.hostname:
        raise InvalidArgument(f"invalid hostname: {config.hostname}")
    parse_signal(config.stop_signal)
    for port in (*(host.port_bindings or ()), *(config.exposed_ports or ())):
        if not _PORT.fullmatch(port if "/" in port else f"{port}/tcp"):
            raise InvalidArgument(f"invalid port specification: {port!r}")
    if host.privileged and host.userns_mode == "" and host.security_opt is None:
        host = msgspec.structs.replace(host, security_opt=["label=disable"])
    return (
        msgspec.structs.replace(
            host,
            network_mode="bridge" if host.network_mode in ("", "default") else host.network_mode,
            shm_size=host.shm_size or SHM_SIZE,
            ipc_mode=host.ipc_mode or "private",
            runtime=host.runtime or facts.default_runtime(),
            log_config=host.log_config if host.log_config.type else LogConfig("json-file", {}),
            restart_policy=policy if policy.name else msgspec.structs.replace(policy, name="no"),
        ),
        warnings,
    )


def _check_cpuset(text: str, cpus: int) -> None:
    if not text:
        return
    wanted: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not low.isdecimal() or (high and not high.isdecimal()):
            raise InvalidArgument(f"Invalid value {text} for cpuset cpus")
        wanted.update(range(int(low), min(int(high or low), 8192) + 1))
    if not wanted <= set(range(cpus)):
        available = f"0-{cpus - 1}" if cpus > 1 else "0"
        raise InvalidArgument(f"Requested CPUs are not available - requested {text}, available: {available}")
