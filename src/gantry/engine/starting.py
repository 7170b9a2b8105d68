"""From a record to a running process: volumes, network, runtime, in this order and partly at the same time."""

import asyncio
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from gantry import faults
from gantry.aio import run_blocking
from gantry.engine.links import environment
from gantry.engine.merge import container_process, parse_signal
from gantry.engine.mounts import CREATE
from gantry.engine.networking import ContainerNetworks
from gantry.engine.registry import Registry
from gantry.engine.undo import Undo
from gantry.engine.waiting import Attachers
from gantry.errors import Conflict, GantryError, Internal, InvalidArgument
from gantry.model import timestamp
from gantry.model.container import Container, MountPoint
from gantry.model.network import EndpointSettings, Sandbox
from gantry.model.task import Mount, TaskSpec
from gantry.ports import Events, Runtime, Snapshotter, Volumes
from gantry.trace import span

HOST_CA = "io.gantry.host-ca"


class Started(NamedTuple):
    """What is known of a container once its process runs; `at` is nanoseconds since the epoch."""

    pid: int
    at: int
    sandbox: Sandbox
    networks: dict[str, EndpointSettings]


class Starter:
    """Brings containers up, and takes back what only a running one needs. Not aware of phases."""

    def __init__(
        self,
        registry: Registry,
        snapshots: Snapshotter,
        runtime: Runtime,
        networks: ContainerNetworks,
        volumes: Volumes,
        events: Events,
        attachers: Attachers,
        *,
        ca_bundle: str,
        init: bool,
    ) -> None:
        self._registry = registry
        self._snapshots = snapshots
        self._runtime = runtime
        self._networks = networks
        self._volumes = volumes
        self._events = events
        self._attachers = attachers
        self._ca_bundle = ca_bundle
        self._init = init

    async def bring_up(self, container: Container, undo: Undo) -> Started:
        """Start the process; `undo` takes every step back."""
        with span("volumes"):
            mounts = await self._mount(container, undo)
            images = await self._view_images(container, undo)
        undo.step(self._networks.release, container)
        faults.point("start.volumes")
        sandbox = await self._networks.open(container)
        faults.point("start.sandbox")
        spec = await self._spec(container, sandbox, mounts, images)
        undo.step(self._runtime.delete, container.id)
        # The process is made while its network is; it does not run before both are there.
        made, attached = await asyncio.gather(
            self._create(spec), self._networks.attach(container), return_exceptions=True
        )
        for result in (attached, made):
            if isinstance(result, BaseException):
                raise result
        assert not isinstance(made, BaseException)
        assert not isinstance(attached, BaseException)
        with span("attach"):
            await self._attachers.serve(container.id)
            faults.point("start.made")
        began = timestamp.now()
        await self._runtime.start(container.id)
        faults.point("start.released")
        return Started(made, began, sandbox, attached)

    async def _create(self, spec: TaskSpec) -> int:
        with span("create"):
            return (await self._runtime.create(spec)).pid

    async def release(self, container: Container, *, task: bool = True) -> list[str]:
        """Give back everything that bring_up took; what cannot be given back is returned in words.

        Without `task` the runtime's part is left to whoever removes the container.
        """
        problems: list[str] = []

        async def end_task() -> None:
            try:
                if task:
                    await self._runtime.delete(container.id)
            except GantryError as error:
                problems.append(error.message)

        await asyncio.gather(end_task(), self._networks.release(container))
        for key in image_views(container):
            try:
                await run_blocking(self._snapshots.remove, key)
            except GantryError as error:
                problems.append(error.message)
        for mount in container.mounts:
            if mount.type == "volume":
                try:
                    await self._unmount(mount, container.id)
                except GantryError as error:
                    problems.append(error.message)
        return problems

    async def _mount(self, container: Container, undo: Undo) -> list[MountPoint]:
        resolved: list[MountPoint] = []
        for mount in container.mounts:
            if mount.type == "bind" and CREATE in mount.options:
                await run_blocking(_make_source, mount.source)
            if mount.type != "volume":
                resolved.append(mount)
                continue
            source = await self._volumes.mount(mount.name, container.id)
            undo.step(self._unmount, mount, container.id)
            resolved.append(msgspec.structs.replace(mount, source=source))
            self._events.publish(
                "volume", "mount", mount.name,
                {
                    "container": container.id, "destination": mount.destination, "driver": mount.driver,
                    "propagation": mount.propagation, "read/write": str(mount.read_write).lower(),
                },
            )  # fmt: skip
        return resolved

    async def _unmount(self, mount: MountPoint, container_id: str) -> None:
        await self._volumes.unmount(mount.name, container_id)
        self._events.publish("volume", "unmount", mount.name, {"container": container_id, "driver": mount.driver})

    async def _view_images(self, container: Container, undo: Undo) -> dict[str, tuple[Mount, ...]]:
        """The mounts of the images that are mounted, by destination."""
        found = {}
        for key, point in image_views(container).items():
            await run_blocking(self._snapshots.remove, key)  # a killed daemon may have left it
            undo.step(run_blocking, self._snapshots.remove, key)
            found[point.destination] = await run_blocking(self._snapshots.view, key, point.chain)
        return found

    async def _spec(
        self, container: Container, sandbox: Sandbox, mounts: list[MountPoint], images: dict[str, tuple[Mount, ...]]
    ) -> TaskSpec:
        host, config = container.host_config, container.config
        donor = self._networks.donor(container)
        annotations = host.annotations or {}
        return TaskSpec(
            id=container.id,
            name=container.name,
            process=container_process(container, environment(container, self._networks.links(container))),
            rootfs=await run_blocking(self._snapshots.mounts, container.id, volatile=host.auto_remove),
            hostname=donor.config.hostname if donor else config.hostname,
            domainname=donor.config.domainname if donor else config.domainname,
            host_config=host,
            mounts=tuple(mounts),
            images=images,
            netns=sandbox.path,
            hosts_file=sandbox.hosts,
            hostname_file=sandbox.hostname,
            resolv_conf_file=sandbox.resolv_conf,
            log_path=container.log_path,
            join_pid=self._join(host.pid_mode, "PID"),
            join_ipc=self._join(host.ipc_mode, "IPC"),
            join_uts=self._join(host.uts_mode, "UTS"),
            init=self._init if host.init is None else host.init,
            stop_signal=parse_signal(config.stop_signal),
            runtime=container.runtime,
            annotations=annotations,
            readonly_rootfs=host.readonly_rootfs,
            ca_bundle=self._ca_bundle if annotations.get(HOST_CA) == "true" else "",
            stdin_once=config.stdin_once,
        )

    def _join(self, mode: str, what: str) -> int:
        """A process whose namespace is shared: 0 for a new one, -1 for the host's."""
        if mode == "host":
            return -1
        kind, _, name = mode.partition(":")
        if kind != "container":
            return 0
        other = self._registry.get(name)
        if not other.status.pid:
            raise Conflict(f"cannot join {what} namespace of a non running container: {other.id}")
        if what == "IPC" and other.host_config.ipc_mode not in ("shareable", "host"):
            raise InvalidArgument(
                f"failed to join IPC namespace: container {other.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
        return other.status.pid


def image_views(container: Container) -> dict[str, MountPoint]:
    """The images that a container mounts, by the keys of their snapshots."""
    return {f"{container.id}-{number}": point for number, point in enumerate(container.mounts) if point.type == "image"}


def exit_code_of(error: GantryError) -> int:
    """The exit code of a container that could not be started (Docker's rule on the runtime's words)."""
    text = error.message.lower()
    if "oci runtime" not in text:
        return 128
    if "permission denied" in text or "is a directory" in text:
        return 126
    if "executable file not found" in text or "no such file or directory" in text or "not a directory" in text:
        return 127
    return 128


def _make_source(path: str) -> None:
    """The source of a `-v` bind, made where it is missing."""
    if os.path.lexists(path):
        return
    try:
        Path(path).mkdir(parents=True, mode=0o755, exist_ok=True)
    except OSError as error:
        raise Internal(f"error while creating mount source path '{path}': mkdir {path}: {error.strerror}") from error
