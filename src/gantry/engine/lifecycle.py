"""A container's life: start, exit, restart, stop, removal, and what a new daemon makes of it all."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from gantry import trace
from gantry.aio import TaskOwner, run_blocking
from gantry.engine.create import event_attributes
from gantry.engine.merge import container_process, parse_signal
from gantry.engine.registry import Registry
from gantry.errors import Conflict, GantryError, NotFound, NotModified
from gantry.model import timestamp
from gantry.model.container import Container, MountPoint, Phase
from gantry.model.instance import Instance
from gantry.model.network import Endpoint, Sandbox
from gantry.model.task import ExitStatus, TaskSpec
from gantry.ports import (
    AttachStream,
    EndpointRequest,
    Events,
    Networks,
    Runtime,
    Snapshotter,
    TaskFacts,
    TaskStreams,
    Volumes,
)
from gantry.trace import span

HOST_CA = "io.gantry.host-ca"
STOP_TIMEOUT = 10
_FIRST_DELAY, _LONGEST_DELAY, _SETTLED = 0.1, 60.0, 10.0

Waiter = tuple[str, "asyncio.Future[int]"]


class Lifecycle:
    """Owns every change of a container's phase."""

    def __init__(
        self,
        instance: Instance,
        registry: Registry,
        snapshots: Snapshotter,
        runtime: Runtime,
        streams: TaskStreams,
        facts: TaskFacts,
        networks: Networks,
        volumes: Volumes,
        events: Events,
        owner: TaskOwner,
        *,
        ca_bundle: str = "",
        init: bool = False,
        stop_timeout: int = STOP_TIMEOUT,
        traces: Callable[[trace.Trace], None] = lambda _: None,
    ) -> None:
        self._instance = instance
        self.registry = registry
        self._snapshots = snapshots
        self._runtime = runtime
        self._streams = streams
        self._facts = facts
        self._networks = networks
        self._volumes = volumes
        self._events = events
        self._owner = owner
        self._ca_bundle = ca_bundle
        self._init = init
        self._stop_timeout = stop_timeout
        self._traces = traces
        self._waiters: dict[str, list[Waiter]] = {}
        self._attaching: dict[str, list[tuple[bool, asyncio.Future[AttachStream]]]] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._delays: dict[str, float] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self.endpoints: dict[str, dict[str, Endpoint]] = {}
        self.sandboxes: dict[str, Sandbox] = {}

    # --------------------------------------------------------------------------------------- questions

    def ended(self, container_id: str) -> asyncio.Event:
        """Set while the container does not run."""
        event = self._ended.get(container_id)
        if event is None:
            event = self._ended[container_id] = asyncio.Event()
            if not self.registry.get(container_id).status.running:
                event.set()
        return event

    def waiter(self, container: Container, condition: str) -> "asyncio.Future[int]":
        """A future of the exit code: condition is not-running, next-exit or removed."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not container.status.running:
            future.set_result(container.status.exit_code)
            return future
        self._waiters.setdefault(container.id, []).append((condition, future))
        return future

    def _tell(self, container_id: str, code: int, *conditions: str) -> None:
        waiting = self._waiters.pop(container_id, [])
        kept = []
        for condition, future in waiting:
            if condition not in conditions:
                kept.append((condition, future))
            elif not future.done():
                future.set_result(code)
        if kept:
            self._waiters[container_id] = kept

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish("container", action, container.id, event_attributes(container, **attributes))

    async def attach(self, container: Container, *, stdin: bool) -> AttachStream:
        """The container's streams: now where it runs, else as soon as its process exists and before it runs."""
        if container.status.phase in (Phase.RUNNING, Phase.PAUSED):
            return await self._streams.attach(container.id, stdin=stdin)
        future: asyncio.Future[AttachStream] = asyncio.get_running_loop().create_future()
        pending = self._attaching.setdefault(container.id, [])
        pending.append((stdin, future))
        try:
            return await future
        finally:
            if (stdin, future) in pending:
                pending.remove((stdin, future))

    # ------------------------------------------------------------------------------------------- start

    async def start(self, container: Container) -> None:
        """Raises NotModified where it runs already; a failed start leaves no process, mount or interface."""
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase == Phase.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.status.phase in (Phase.RUNNING, Phase.RESTARTING):
                raise NotModified("container is already running")
            if container.status.phase in (Phase.REMOVING, Phase.DEAD):
                raise Conflict("container is marked for removal and cannot be started")
            self._delays.pop(container.id, None)
            with trace.tracing(f"start {container.id[:12]}") as made:
                try:
                    await self._start(container)
                finally:
                    self._traces(made)

    async def _start(self, container: Container, *, restarts: int = 0) -> None:
        try:
            async with AsyncExitStack() as undo:
                pid = await self._bring_up(container, undo)
                undo.pop_all()
        except GantryError as error:
            code = 127 if "not found" in error.message or "no such file" in error.message else 128
            code = 126 if "permission denied" in error.message or "is a directory" in error.message else code
            failed, reason = container.status.phase, error.message
            await self.registry.update(
                container.id,
                lambda c: c.transition(
                    Phase.CREATED if failed == Phase.CREATED else Phase.EXITED,
                    exit_code=code,
                    error=reason,
                    finished_at=timestamp.now() if failed != Phase.CREATED else 0,
                ),
            )
            self._fail_attaching(container.id, error)
            if container.host_config.auto_remove:
                await self._remove(self.registry.get(container.id), volumes=True)
            raise
        with span("record"):
            running = await self.registry.update(
                container.id,
                lambda c: c.transition(
                    Phase.RUNNING, pid=pid, started_at=timestamp.now(), exit_code=0, error="", oom_killed=False,
                    manually_stopped=False, restart_count=restarts,
                ),
            )  # fmt: skip
        self.ended(container.id).clear()
        self.publish(running, "start")
        self._owner.spawn(self._watch(running), name=f"watch {container.id[:12]}")

    async def _bring_up(self, container: Container, undo: AsyncExitStack) -> int:
        host = container.host_config
        with span("volumes"):
            mounts = await self._resolve_mounts(container, undo)
        sandbox = await self._open_sandbox(container, undo)
        spec = await self._spec(container, sandbox, mounts)
        undo.push_async_callback(self._runtime.delete, container.id)
        if sandbox is not None and host.network_mode not in ("host", "none"):
            # The process is made while its network is; neither runs before both are there.
            attaching = self._owner.spawn(self._attach_networks(container), name="attach network")
            try:
                with span("create"):
                    state = await self._runtime.create(spec)
            finally:
                await asyncio.wait([attaching])
            self.endpoints[container.id] = attaching.result()
        else:
            with span("create"):
                state = await self._runtime.create(spec)
        with span("attach"):
            await self._serve_attaching(container.id)
        with span("start"):
            await self._runtime.start(container.id)
        return state.pid

    async def _open_sandbox(self, container: Container, undo: AsyncExitStack) -> Sandbox | None:
        mode = container.host_config.network_mode
        if mode.startswith("container:"):
            other = self._running(mode.partition(":")[2])
            donor = self.sandboxes.get(other.id)
            if donor is None:
                raise Conflict(f"cannot join network of a non running container: {other.id}")
            return donor
        undo.push_async_callback(self._networks.close_sandbox, container.id)
        with span("sandbox"):
            sandbox = await self._networks.open_sandbox(container, host=mode == "host")
        self.sandboxes[container.id] = sandbox
        return sandbox

    async def _attach_networks(self, container: Container) -> dict[str, Endpoint]:
        host = container.host_config
        made: dict[str, Endpoint] = {}
        for name, settings in container.networks.items():
            network = await self._networks.get(name)
            first = not made
            request = EndpointRequest(
                settings,
                hostname=container.config.hostname,
                names=(container.name, container.id[:12]),
                port_bindings=(host.port_bindings or {}) if first else {},
                publish_all=host.publish_all_ports and first,
                exposed=tuple(container.config.exposed_ports or ()),
            )
            with span("endpoint"):
                made[name] = await self._networks.attach(container, network, request)
            self._events.publish(
                "network",
                "connect",
                network.id,
                {"container": container.id, "name": network.name, "type": network.driver},
            )
        return made

    def _running(self, name: str) -> Container:
        other = self.registry.get(name)
        if not other.status.running:
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        return other

    def _join(self, mode: str) -> int:
        """A process whose namespace is shared: 0 for a new one, -1 for the host's."""
        if mode == "host":
            return -1
        if mode.startswith("container:"):
            return self._running(mode.partition(":")[2]).status.pid
        return 0

    async def _spec(self, container: Container, sandbox: Sandbox | None, mounts: list[MountPoint]) -> TaskSpec:
        host = container.host_config
        wants_ca = (host.annotations or {}).get(HOST_CA) == "true"
        return TaskSpec(
            id=container.id,
            name=container.name,
            process=container_process(container),
            rootfs=await run_blocking(self._snapshots.mounts, container.id),
            hostname=container.config.hostname,
            domainname=container.config.domainname,
            host_config=host,
            mounts=tuple(mounts),
            netns=sandbox.path if sandbox else "",
            hosts_file=sandbox.hosts if sandbox else "",
            hostname_file=sandbox.hostname if sandbox else "",
            resolv_conf_file=sandbox.resolv_conf if sandbox else "",
            log_path=container.log_path,
            join_pid=self._join(host.pid_mode),
            join_ipc=self._join(host.ipc_mode),
            join_uts=self._join(host.uts_mode),
            init=self._init if host.init is None else host.init,
            stop_signal=parse_signal(container.config.stop_signal),
            runtime=container.runtime,
            annotations=host.annotations or {},
            readonly_rootfs=host.readonly_rootfs,
            ca_bundle=self._ca_bundle if wants_ca else "",
            stdin_once=container.config.stdin_once,
        )

    async def _resolve_mounts(self, container: Container, undo: AsyncExitStack) -> list[MountPoint]:
        resolved: list[MountPoint] = []
        for mount in container.mounts:
            if mount.type == "volume":
                undo.push_async_callback(self._volumes.unmount, mount.name, container.id)
                source = await self._volumes.mount(mount.name, container.id)
                resolved.append(msgspec.structs.replace(mount, source=source))
                continue
            if mount.type == "bind" and "create" in mount.options:
                await run_blocking(_make_source, mount.source)
            resolved.append(mount)
        return resolved

    async def _serve_attaching(self, container_id: str) -> None:
        for stdin, future in self._attaching.pop(container_id, []):
            if not future.done():
                future.set_result(await self._streams.attach(container_id, stdin=stdin))

    def _fail_attaching(self, container_id: str, error: GantryError) -> None:
        for _, future in self._attaching.pop(container_id, []):
            if not future.done():
                future.set_exception(Conflict(error.message))

    # -------------------------------------------------------------------------------------------- exit

    async def _watch(self, container: Container) -> None:
        status = await self._runtime.wait(container.id)
        async with self.registry.lock(container.id):
            if container.id in self.registry:
                await self._exited(self.registry.get(container.id), status)

    async def _exited(self, container: Container, status: ExitStatus) -> None:
        if not container.status.running:
            return
        if status.oom_killed:
            self.publish(container, "oom")
        await self._release(container)
        delay = self._restart_delay(container, status)
        restarts = container.status.restart_count
        container = await self.registry.update(
            container.id,
            lambda c: c.transition(
                Phase.EXITED if delay is None else Phase.RESTARTING,
                pid=0, exit_code=status.code, finished_at=status.at, oom_killed=status.oom_killed,
            ),
        )  # fmt: skip
        self.ended(container.id).set()
        ran = max(0, (status.at - container.status.started_at) // 1_000_000_000)
        self.publish(container, "die", exitCode=str(status.code), execDuration=str(ran))
        if delay is None:
            self._tell(container.id, status.code, "not-running", "next-exit")
            if container.host_config.auto_remove:
                await self._remove(container, volumes=True)
            return
        self._tell(container.id, status.code, "next-exit")
        self._owner.spawn(self._restart_later(container.id, delay, restarts + 1), name=f"restart {container.id[:12]}")

    def _restart_delay(self, container: Container, status: ExitStatus) -> float | None:
        """Seconds until the next start, None for no restart (Docker's policies and back-off)."""
        policy = container.host_config.restart_policy
        if container.status.manually_stopped or policy.name in ("", "no"):
            return None
        if policy.name == "on-failure" and (
            status.code == 0
            or (policy.maximum_retry_count and container.status.restart_count >= policy.maximum_retry_count)
        ):
            return None
        ran = (status.at - container.status.started_at) / 1e9
        before = self._delays.get(container.id, 0.0)
        delay = _FIRST_DELAY if ran >= _SETTLED or not before else min(before * 2, _LONGEST_DELAY)
        self._delays[container.id] = delay
        return delay

    async def _restart_later(self, container_id: str, delay: float, restarts: int) -> None:
        wake = self._wake[container_id] = asyncio.Event()
        try:
            async with asyncio.timeout(delay):
                await wake.wait()
        except TimeoutError:
            pass
        finally:
            self._wake.pop(container_id, None)
        if container_id not in self.registry:
            return
        async with self.registry.lock(container_id):
            if container_id not in self.registry:
                return
            container = self.registry.get(container_id)
            if container.status.phase != Phase.RESTARTING or container.status.manually_stopped:
                return
            try:
                await self._start(container, restarts=restarts)
            except GantryError:
                # The reason is in the record; a start that fails ends the restarts, as with Docker.
                self._tell(container_id, self.registry.get(container_id).status.exit_code, "not-running")

    async def _release(self, container: Container) -> None:
        """Give back what only a running container needs."""
        endpoints = self.endpoints.pop(container.id, {})
        self.sandboxes.pop(container.id, None)
        await asyncio.gather(self._runtime.delete(container.id), self._networks.close_sandbox(container.id))
        for name, endpoint in endpoints.items():
            self._events.publish(
                "network", "disconnect", endpoint.network_id,
                {"container": container.id, "name": name, "type": "bridge"},
            )  # fmt: skip
        for mount in container.mounts:
            if mount.type == "volume":
                await self._volumes.unmount(mount.name, container.id)

    # --------------------------------------------------------------------------------- stop and remove

    async def kill(self, container: Container, text: str) -> None:
        number = parse_signal(text, signal.SIGKILL)
        if not container.status.running or container.status.phase == Phase.RESTARTING:
            raise Conflict(f"cannot kill container: {container.id}: container {container.id} is not running")
        if number in (int(signal.SIGKILL), parse_signal(container.config.stop_signal)):
            await self.registry.update(container.id, _manually_stopped)
        await self._signal(container, number)
        if number == int(signal.SIGKILL):
            await self._gone(container, 10)
        self.publish(container, "kill", signal=str(number))

    async def _signal(self, container: Container, number: int) -> None:
        try:
            if container.status.phase == Phase.PAUSED and number == int(signal.SIGKILL):
                await self._runtime.resume(container.id)
            await self._runtime.kill(container.id, number)
        except NotFound as error:
            raise Conflict(f"cannot kill container: {container.id}: container {container.id} is not running") from error

    async def stop(self, container: Container, timeout: int | None, text: str = "") -> None:  # noqa: ASYNC109
        """SIGTERM (or the container's own signal), then SIGKILL; NotModified where it does not run."""
        if not container.status.running:
            raise NotModified("container is already stopped")
        if container.status.phase == Phase.RESTARTING:
            await self._stop_restarting(container)
            return
        await self.registry.update(container.id, _manually_stopped)
        number = parse_signal(text or container.config.stop_signal)
        wanted = timeout if timeout is not None else container.config.stop_timeout
        patience = self._stop_timeout if wanted is None else wanted
        try:
            await self._signal(container, number)
            self.publish(container, "kill", signal=str(number))
            if not await self._gone(container, None if patience < 0 else patience):
                await self._signal(container, int(signal.SIGKILL))
                self.publish(container, "kill", signal="9")
        except Conflict:
            pass  # it ended by itself meanwhile
        await self._gone(container, 30)
        self.publish(container, "stop")

    async def _stop_restarting(self, container: Container) -> None:
        code = container.status.exit_code
        await self.registry.update(container.id, lambda c: c.transition(Phase.EXITED, manually_stopped=True))
        if wake := self._wake.get(container.id):
            wake.set()
        self._tell(container.id, code, "not-running", "next-exit")
        self.publish(container, "stop")

    async def _gone(self, container: Container, seconds: float | None) -> bool:
        """Whether the container ended within `seconds` (None: however long it takes), and was cleaned up after."""
        try:
            async with asyncio.timeout(seconds):
                await self.ended(container.id).wait()
        except TimeoutError:
            return False
        return True

    async def restart(self, container: Container, timeout: int | None, text: str = "") -> None:  # noqa: ASYNC109
        with suppress(NotModified):
            await self.stop(container, timeout, text)
        if container.id in self.registry:
            await self.start(self.registry.get(container.id))
            self.publish(container, "restart")

    async def pause(self, container: Container) -> None:
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase == Phase.PAUSED:
                raise Conflict(f"container {container.id} is already paused")
            if container.status.phase != Phase.RUNNING:
                raise Conflict(f"container {container.id} is not running")
            await self._runtime.pause(container.id)
            await self.registry.update(container.id, lambda c: c.transition(Phase.PAUSED))
        self.publish(container, "pause")

    async def unpause(self, container: Container) -> None:
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase != Phase.PAUSED:
                raise Conflict(f"Container {container.id} is not paused")
            await self._runtime.resume(container.id)
            await self.registry.update(container.id, lambda c: c.transition(Phase.RUNNING))
        self.publish(container, "unpause")

    async def remove(self, container: Container, *, force: bool = False, volumes: bool = False) -> None:
        """Raises Conflict for a running container without `force`."""
        if container.status.phase == Phase.REMOVING:
            raise Conflict(f"removal of container {container.name} is already in progress")
        if container.status.running:
            if not force:
                state = "paused" if container.status.phase == Phase.PAUSED else "running"
                if container.status.phase == Phase.RESTARTING:
                    state = "restarting"
                raise Conflict(
                    f'cannot remove container "/{container.name}": container is {state}: '
                    + ("stop the container before removing or force remove"
                       if state != "paused" else "unpause and then stop the container before removing or force remove")
                )  # fmt: skip
            with suppress(NotModified):
                await self.stop(container, 0, "KILL")
        async with self.registry.lock(container.id):
            if container.id in self.registry:
                await self._remove(self.registry.get(container.id), volumes=volumes)

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        container = await self.registry.update(container.id, lambda c: c.transition(Phase.REMOVING))
        await self._runtime.delete(container.id)
        await self._networks.close_sandbox(container.id)
        await run_blocking(self._snapshots.remove, container.id)
        directory = self._instance.data_root / "containers" / container.id
        await run_blocking(_remove_tree, directory)
        await self.registry.delete(container)
        if volumes:
            for mount in container.mounts:
                if mount.type == "volume" and mount.anonymous:
                    try:
                        await self._volumes.remove(mount.name)
                    except (Conflict, NotFound):
                        continue  # another container uses it, or someone was faster
        self.publish(container, "destroy")
        self._fail_attaching(container.id, Conflict("container was removed"))
        self._tell(container.id, container.status.exit_code, "not-running", "next-exit", "removed")
        for table in (self._ended, self._delays, self._waiters):
            table.pop(container.id, None)

    # ---------------------------------------------------------------------------------------- recovery

    async def recover(self) -> None:
        """Bring every record in line with what is true after the last daemon ended, however it ended."""
        alive: list[Container] = []
        for container in self.registry:
            state = await self._runtime.state(container.id)
            phase = container.status.phase
            if state is not None and state.phase in ("running", "paused"):
                if phase not in (Phase.RUNNING, Phase.PAUSED):
                    # Killed between the process's start and the record: the process is the truth.
                    container = await self._found_running(container, state.pid)
                alive.append(container)
        await self._networks.start([container.id for container in alive])
        for container in alive:
            await self._adopt(container)
        for container in self.registry:
            if container not in alive:
                await self._settle(container)

    async def _found_running(self, container: Container, pid: int) -> Container:
        return await self.registry.update(
            container.id, lambda c: c.transition(Phase.RUNNING, pid=pid, started_at=timestamp.now())
        )

    async def _adopt(self, container: Container) -> None:
        for endpoint in await self._networks.endpoints(container_id=container.id):
            network = await self._networks.get(endpoint.network_id)
            self.endpoints.setdefault(container.id, {})[network.name] = endpoint
        self.ended(container.id).clear()
        self._owner.spawn(self._watch(container), name=f"watch {container.id[:12]}")

    async def _settle(self, container: Container) -> None:
        phase = container.status.phase
        if phase == Phase.REMOVING:
            await self._remove(container, volumes=False)
        elif phase in (Phase.RUNNING, Phase.PAUSED):
            state = await self._runtime.state(container.id)
            status = state.exit if state is not None and state.exit is not None else ExitStatus(255, timestamp.now())
            await self._exited(container, status)
        elif phase == Phase.RESTARTING:
            restarts = container.status.restart_count + 1
            self._owner.spawn(self._restart_later(container.id, _FIRST_DELAY, restarts))
        else:
            await self._runtime.delete(container.id)
            await self._networks.close_sandbox(container.id)
            policy = container.host_config.restart_policy.name
            if phase == Phase.EXITED and (
                policy == "always" or (policy == "unless-stopped" and not container.status.manually_stopped)
            ):
                self._owner.spawn(self._autostart(container), name=f"autostart {container.id[:12]}")

    async def _autostart(self, container: Container) -> None:
        try:
            await self.start(container)
        except NotModified:
            return

    async def shutdown(self, seconds: float) -> None:
        """Stop every container, all at once, as Docker does without live-restore."""
        running = [container for container in self.registry if container.status.running]

        async def one(container: Container) -> None:
            try:
                await self.stop(container, None)
                # A daemon that ends is no reason to forget `always`.
                await self.registry.update(
                    container.id,
                    lambda c: c.replace(status=msgspec.structs.replace(c.status, manually_stopped=False)),
                )
            except (GantryError, KeyError):
                return

        if running:
            await asyncio.wait([self._owner.spawn(one(container)) for container in running], timeout=seconds)


def _manually_stopped(container: Container) -> Container:
    return container.replace(status=msgspec.structs.replace(container.status, manually_stopped=True))


def _make_source(path: str) -> None:
    if not os.path.lexists(path):
        Path(path).mkdir(parents=True, mode=0o755)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
