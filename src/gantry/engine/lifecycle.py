"""A container's life: start, exit, restart, stop, pause, removal. Every change of a phase happens here."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from gantry import faults, trace
from gantry.aio import TaskOwner, run_blocking
from gantry.engine.attributes import event_attributes
from gantry.engine.directory import empty_directory, name_volumes, named_volumes, remove_directory
from gantry.engine.merge import parse_signal
from gantry.engine.networking import ContainerNetworks
from gantry.engine.policy import BackOff, wants_restart
from gantry.engine.registry import Registry
from gantry.engine.starting import Starter, exit_code_of, image_views
from gantry.engine.undo import Undo
from gantry.engine.waiting import Attachers, Waiters
from gantry.errors import Conflict, GantryError, Internal, NotFound, NotModified
from gantry.model.container import Container, Phase
from gantry.model.instance import Instance
from gantry.model.network import Endpoint, Sandbox
from gantry.model.task import ExitStatus
from gantry.ports import (
    AttachStream,
    Events,
    NetworkNames,
    Networks,
    Runtime,
    Snapshotter,
    TaskFacts,
    TaskStreams,
    Volumes,
)
from gantry.trace import span

log = logging.getLogger(__name__)

STOP_TIMEOUT = 10  # seconds
_KILL_TIMEOUT = 30
_SIGKILL = int(signal.SIGKILL)
_LIVE = (Phase.RUNNING, Phase.PAUSED)


class Lifecycle:
    """Operations on one container take its lock while they change it; waiting for an end does not."""

    def __init__(
        self,
        instance: Instance,
        registry: Registry,
        snapshots: Snapshotter,
        runtime: Runtime,
        streams: TaskStreams,
        facts: TaskFacts,
        networks: Networks,
        names: NetworkNames,
        volumes: Volumes,
        events: Events,
        owner: TaskOwner,
        *,
        ca_bundle: str = "",
        init: bool = False,
        stop_timeout: int = STOP_TIMEOUT,
        traces: Callable[[trace.Trace], None] = lambda _: None,
    ) -> None:
        self.instance = instance
        self.registry = registry
        self.runtime = runtime
        self.networks = networks
        self.volumes = volumes
        self.snapshots = snapshots
        self.facts = facts
        self.owner = owner
        self.waiters = Waiters(registry)
        self.connections = ContainerNetworks(registry, networks, names, events)
        self._events = events
        self._attachers = Attachers(streams)
        self._starter = Starter(
            registry, snapshots, runtime, self.connections, volumes, events, self._attachers,
            ca_bundle=ca_bundle, init=init,
        )  # fmt: skip
        self._stop_timeout = stop_timeout
        self._traces = traces
        self._back_off = BackOff()
        self._final: set[str] = set()  # their next end is the last one, whatever the policy says
        self._kept: set[str] = set()  # their next end does not remove them
        self._wake: dict[str, asyncio.Event] = {}
        self._removals = TaskOwner("removals")
        self.on_running: Callable[[Container], None] = lambda _: None
        self.before_start: Callable[[Container], Awaitable[None]] = _nothing
        self.before_removal: Callable[[str], Awaitable[None]] = _nothing
        self.on_removed: Callable[[str], None] = lambda _: None

    # --------------------------------------------------------------------------------------- questions

    @property
    def endpoints(self) -> dict[str, dict[str, Endpoint]]:
        """Who is on what network now, by container id and network name."""
        return self.connections.endpoints

    @property
    def sandboxes(self) -> dict[str, Sandbox]:
        return self.connections.sandboxes

    def ended(self, container_id: str) -> asyncio.Event:
        """Set while the container does not run."""
        return self.waiters.ended(container_id)

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish("container", action, container.id, event_attributes(container, **attributes))

    def pruned(self, freed: int) -> None:
        """Tell of a prune; `freed` is bytes."""
        self._events.publish("container", "prune", "", {"reclaimed": str(freed)})

    async def attach(self, container: Container, *, stdin: bool) -> AttachStream:
        """The container's streams: now where it runs, else as soon as its process exists and before it runs."""
        return await self._attachers.attach(container, stdin=stdin)

    # ------------------------------------------------------------------------------------------- start

    async def start(self, container: Container) -> None:
        """Raises NotModified where it runs already; a failed start leaves no process, mount or interface."""
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase == Phase.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.status.running:
                raise NotModified("container is already running")
            if container.status.phase in (Phase.REMOVING, Phase.DEAD):
                raise Conflict("container is marked for removal and cannot be started")
            self._back_off.reset(container.id)
            with trace.tracing(f"start {container.id[:12]}") as made:
                try:
                    await self._start(container, restarts=0)
                finally:
                    self._traces(made)

    async def _start(self, container: Container, *, restarts: int) -> None:
        self._final.discard(container.id)
        try:
            async with Undo() as undo:
                await self.before_start(container)
                started = await self._starter.bring_up(container, undo)
                with span("record"):
                    running = await self.registry.update(
                        container.id,
                        lambda c: c.replace(sandbox=started.sandbox, networks={**c.networks, **started.networks})
                        .transition(
                            Phase.RUNNING, pid=started.pid, started_at=started.at, exit_code=0, error="", health=None,
                            oom_killed=False, manually_stopped=False, restart_count=restarts, restart_asked=False,
                        ),
                    )  # fmt: skip
                undo.pop_all()
        except BaseException as error:
            reason = error if isinstance(error, GantryError) else Internal(f"the start was broken off: {error!r}")
            await self._start_failed(container, reason)
            raise
        faults.point("start.recorded")
        self.ended(container.id).clear()
        self.publish(running, "start")
        self.owner.spawn(self._watch(running.id), name=f"watch {running.id[:12]}")
        await self._attachers.serve(running.id)  # who came after the process was there and before this was written down
        self.on_running(running)

    async def _start_failed(self, container: Container, error: GantryError) -> None:
        phase = Phase.CREATED if container.status.phase == Phase.CREATED else Phase.EXITED
        code = exit_code_of(error)
        failed = await self.registry.update(
            container.id,
            lambda c: c.replace(sandbox=None).transition(
                phase, pid=0, exit_code=code, error=error.message, restart_asked=False
            ),
        )
        self._attachers.fail(container.id, error)
        if container.status.phase == Phase.RESTARTING:
            self.waiters.tell(container.id, code, "not-running", "next-exit")
        if container.host_config.auto_remove:
            try:
                await self._remove(failed, volumes=True)
            except GantryError as problem:
                log.error("container %s: %s", container.id[:12], problem)  # noqa: TRY400

    # -------------------------------------------------------------------------------------------- exit

    def watch(self, container_id: str) -> None:
        """Follow a running container to its end."""
        self.ended(container_id).clear()
        self.owner.spawn(self._watch(container_id), name=f"watch {container_id[:12]}")

    async def _watch(self, container_id: str) -> None:
        status = await self.runtime.wait(container_id)
        async with self.registry.lock(container_id):
            if container_id in self.registry:
                with trace.tracing(f"end {container_id[:12]}") as made:
                    try:
                        await self.exited(self.registry.get(container_id), status)
                    finally:
                        self._traces(made)

    async def exited(self, container: Container, status: ExitStatus) -> None:
        """The process of a container has ended; the caller holds its lock."""
        if container.status.phase not in _LIVE:
            return
        if status.oom_killed:
            self.publish(container, "oom")
        again = container.id not in self._final and wants_restart(container, status.code)
        kept = container.id in self._kept or container.status.restart_asked
        leaves = not again and container.host_config.auto_remove and not kept
        with span("release"):
            problems = await self._starter.release(container, task=not leaves)
        for problem in problems:
            log.error("container %s: %s", container.id[:12], problem)
        faults.point("exit.released")
        container = await self.registry.update(
            container.id,
            lambda c: c.replace(sandbox=None).transition(
                Phase.RESTARTING if again else Phase.EXITED,
                pid=0, exit_code=status.code, finished_at=status.at, oom_killed=status.oom_killed, thaw=False,
                health=c.status.health and {**c.status.health, "Status": "unhealthy"},  # as Docker says it
                restart_count=c.status.restart_count + again,
            ),
        )  # fmt: skip
        faults.point("exit.recorded")
        self.ended(container.id).set()
        ran = max(0, status.at - container.status.started_at) // 1_000_000_000
        self.publish(container, "die", exitCode=str(status.code), execDuration=str(ran))
        self.waiters.tell(container.id, status.code, "not-running", "next-exit")
        if again:
            self.restart_later(container.id, self._back_off.next(container, status))
        elif leaves:
            await self._vanish(container)

    def restart_later(self, container_id: str, delay: float) -> None:
        """Start a restarting container again after `delay` seconds, unless it is stopped or removed before."""
        self.owner.spawn(self._restart_later(container_id, delay), name=f"restart {container_id[:12]}")

    async def _restart_later(self, container_id: str, delay: float) -> None:
        wake = self._wake[container_id] = asyncio.Event()
        try:
            async with asyncio.timeout(delay):
                await wake.wait()
        except TimeoutError:
            pass
        finally:
            if self._wake.get(container_id) is wake:
                del self._wake[container_id]
        if wake.is_set() or container_id not in self.registry:
            return
        async with self.registry.lock(container_id):
            if wake.is_set() or container_id not in self.registry:
                return
            container = self.registry.get(container_id)
            if container.status.phase != Phase.RESTARTING:
                return
            try:
                await self._start(container, restarts=container.status.restart_count)
            except GantryError as error:
                # It is in the record, too; a start that fails ends the restarts, as with Docker.
                log.warning("container %s: cannot be restarted: %s", container_id[:12], error)

    # -------------------------------------------------------------------------------------------- stop

    async def kill(self, container: Container, text: str) -> None:
        """Send a signal; Conflict where nothing runs. SIGKILL waits for the end."""
        number = parse_signal(text, signal.SIGKILL)
        if not container.status.running:
            raise Conflict(f"container {container.id} is not running")
        if container.status.phase == Phase.RESTARTING:
            await self._end_restarting(container)
            return
        await self._signal(container, number)
        if number == _SIGKILL and not await self._gone(container.id, _KILL_TIMEOUT):
            raise Internal("tried to kill container, but did not receive an exit event")

    async def _signal(self, container: Container, number: int) -> None:
        """Send a signal and tell of it; the one that ends a container also ends its restarts, and thaws it."""
        own = parse_signal(container.config.stop_signal)
        ends = number in (_SIGKILL, own) or not container.config.stop_signal
        if ends:
            self._final.add(container.id)
        await self.registry.update(container.id, lambda c: c.noted(manually_stopped=True))
        try:
            await self.runtime.kill(container.id, number)
        except (NotFound, Conflict):
            raise Conflict(f"container {container.id} is not running") from None
        faults.point("stop.signalled")
        self.publish(container, "kill", signal=str(number))
        if ends and container.status.phase == Phase.PAUSED:
            with suppress(GantryError):  # it ended, or somebody was faster
                await self.unpause(container)

    async def strike(self, container: Container) -> None:
        """SIGKILL as an accident: the restart policy says what follows. Conflict where nothing runs."""
        await self.runtime.kill(container.id, _SIGKILL)
        self.publish(container, "kill", signal=str(_SIGKILL))

    async def stop(self, container: Container, timeout: int | None, text: str = "") -> None:  # noqa: ASYNC109
        """SIGTERM (or the container's own signal), then SIGKILL; NotModified where it does not run."""
        if not container.status.running:
            raise NotModified("container is already stopped")
        number = parse_signal(text or container.config.stop_signal)
        if container.status.phase == Phase.RESTARTING:
            await self._end_restarting(container)
        else:
            wanted = timeout if timeout is not None else container.config.stop_timeout
            patience = self._stop_timeout if wanted is None else wanted
            self._final.add(container.id)
            try:
                await self._signal(container, number)
            except Conflict:
                pass  # it ended by itself, and is being cleaned up after
            else:
                if not await self._gone(container.id, None if patience < 0 else patience):
                    await self._kill_for_good(container)
            if not await self._gone(container.id, _KILL_TIMEOUT):
                raise Internal(f"cannot stop container: {container.id}: it does not end")
        self.publish(container, "stop")

    async def _kill_for_good(self, container: Container) -> None:
        with suppress(Conflict):  # it ended by itself meanwhile
            await self._signal(container, _SIGKILL)

    async def _end_restarting(self, container: Container) -> None:
        if wake := self._wake.get(container.id):
            wake.set()
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase == Phase.RESTARTING:
                await self.registry.update(container.id, lambda c: c.transition(Phase.EXITED, manually_stopped=True))
                self.waiters.tell(container.id, container.status.exit_code, "not-running", "next-exit")
                return
        if container.status.phase in _LIVE:  # the restart was faster
            await self._kill_for_good(container)
            await self._gone(container.id, _KILL_TIMEOUT)

    async def _gone(self, container_id: str, seconds: float | None) -> bool:
        """Whether the container ended within `seconds` (None: however long it takes), and was cleaned up after."""
        if container_id not in self.registry:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self.ended(container_id).wait()
        except TimeoutError:
            return False
        return True

    async def restart(self, container: Container, timeout: int | None, text: str = "") -> None:  # noqa: ASYNC109
        """Stop, then start; a container that is removed at its end is not removed by this."""
        self._kept.add(container.id)
        try:
            if container.status.running:
                await self.registry.update(container.id, lambda c: c.noted(restart_asked=True))
            with suppress(NotModified):
                await self.stop(container, timeout, text)
            faults.point("restart.stopped")
            await self.start(self.registry.get(container.id))
        except BaseException:
            with suppress(NotFound):
                await self.registry.update(container.id, lambda c: c.noted(restart_asked=False))
            raise
        finally:
            self._kept.discard(container.id)
        self.publish(container, "restart")

    async def pause(self, container: Container, *, briefly: bool = False) -> None:
        """`briefly` is a pause that the daemon makes for itself, and that does not outlive it."""
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase == Phase.PAUSED:
                raise Conflict(f"Container {container.id} is already paused")
            must_run(container)
            if briefly:
                await self.registry.update(container.id, lambda c: c.noted(thaw=True))
            await self.runtime.pause(container.id)
            faults.point("pause.frozen")
            await self.registry.update(container.id, lambda c: c.transition(Phase.PAUSED))
            faults.point("pause.recorded")
        self.publish(container, "pause")

    async def unpause(self, container: Container) -> None:
        async with self.registry.lock(container.id):
            container = self.registry.get(container.id)
            if container.status.phase != Phase.PAUSED:
                raise Internal(f"Container {container.id} is not paused")
            await self.runtime.resume(container.id)
            faults.point("unpause.thawed")
            await self.registry.update(container.id, lambda c: c.transition(Phase.RUNNING, thaw=False))
        self.publish(container, "unpause")

    # ------------------------------------------------------------------------------------------ remove

    async def remove(
        self, container: Container, *, force: bool = False, volumes: bool = False, shown: str = ""
    ) -> None:
        """Raises Conflict for a running container without `force`; `shown` is what the user called it."""
        while container.id in self.registry:
            container = self.registry.get(container.id)
            self._check_removal(container, shown or container.name, force=force)
            if container.status.running:
                with suppress(Conflict, NotFound):  # it ended, or was removed, by itself meanwhile
                    await self.kill(container, "KILL")
                if not await self._gone(container.id, _KILL_TIMEOUT):
                    raise Internal(f"cannot remove container {container.id}: it does not end")
            async with self.registry.lock(container.id):
                if container.id not in self.registry:
                    return
                container = self.registry.get(container.id)
                if not container.status.running:  # else it was started meanwhile
                    await self._remove(container, volumes=volumes)
                    return

    @staticmethod
    def _check_removal(container: Container, shown: str, *, force: bool) -> None:
        if container.status.phase == Phase.REMOVING:
            raise Conflict(f"removal of container {shown} is already in progress")
        if container.status.running and not force:
            state = {Phase.PAUSED: "paused", Phase.RESTARTING: "restarting"}.get(container.status.phase, "running")
            advice = (
                " and must be unpaused first" if state == "paused"
                else ": stop the container before removing or force remove"
            )  # fmt: skip
            raise Conflict(f'cannot remove container "{shown}": container is {state}{advice}')

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        """The caller holds the lock. What cannot be removed leaves a dead container that can be removed again.

        The directory goes last: one without a record tells the next daemon which volumes still have to go.
        """
        going = await self._name_volumes(container, going=volumes)
        container = await self.registry.update(container.id, lambda c: c.transition(Phase.REMOVING))
        faults.point("remove.recorded")
        try:
            await self._take_away(container)
        except (GantryError, OSError) as error:
            reason = error.message if isinstance(error, GantryError) else str(error)
            await self.registry.update(container.id, lambda c: c.transition(Phase.DEAD, error=reason))
            self.waiters.tell(container.id, container.status.exit_code, "removed", error=reason)
            raise Internal(f"container {container.id}: cannot remove it: {reason}") from error
        with span("forget"):
            await self.registry.delete(container)
        faults.point("remove.forgotten")
        await self._remove_volumes(going)
        faults.point("remove.volumes")
        await self._remove_directory(container)
        self._gone_for_all(container)

    async def _name_volumes(self, container: Container, *, going: bool) -> list[str]:
        """The volumes that go with a container, after writing down which: none unless `going`."""
        anonymous = [mount.name for mount in container.mounts if mount.type == "volume" and mount.anonymous]
        named = anonymous if going else []
        if anonymous:
            await run_blocking(name_volumes, self._directory(container), named)
        return named

    def _directory(self, container: Container) -> Path:
        return self.instance.data_root / "containers" / container.id

    async def _take_away(self, container: Container) -> None:
        """Everything of a container but its record, its volumes and its directory itself."""
        await self.runtime.delete(container.id)
        await self.connections.release(container)
        faults.point("remove.released")
        with span("snapshot"):
            for key in (*image_views(container), container.id):
                await run_blocking(self.snapshots.remove, key)
        faults.point("remove.snapshot")
        await self.before_removal(container.id)
        with span("directory"):
            await run_blocking(empty_directory, self._directory(container))
        faults.point("remove.emptied")

    async def _remove_volumes(self, names: list[str]) -> None:
        for name in names:
            with suppress(Conflict, NotFound):  # another container uses it, or someone was faster
                await self.volumes.remove(name)

    async def _remove_directory(self, container: Container) -> None:
        directory = self._directory(container)
        try:
            await run_blocking(remove_directory, directory)
        except OSError as error:
            log.error("container %s: %s is left until the next start: %s", container.id[:12], directory, error)  # noqa: TRY400

    def _gone_for_all(self, container: Container) -> None:
        self.publish(container, "destroy")
        self._attachers.fail(container.id, Conflict("container was removed"))
        self.waiters.tell(container.id, container.status.exit_code, "not-running", "next-exit", "removed")
        self.waiters.forget(container.id)
        self._back_off.reset(container.id)
        self._final.discard(container.id)
        self.on_removed(container.id)

    async def _vanish(self, container: Container) -> None:
        """Remove a container of which nobody will ask again: it is gone for all to see, its files go afterwards.

        Its record stays until they have, under its id, so that the name is free: a daemon that is killed in between
        finishes at its next start. The caller holds the lock.
        """
        going = await self._name_volumes(container, going=True)
        hidden = await self.registry.update(container.id, lambda c: c.replace(name=c.id).transition(Phase.REMOVING))
        faults.point("vanish.recorded")
        self.registry.hide(container)
        await self._remove_volumes(going)
        faults.point("vanish.volumes")
        self._removals.spawn(self._finish(hidden), name=f"remove {container.id[:12]}")
        self._gone_for_all(container)

    async def _finish(self, container: Container) -> None:
        try:
            await self._take_away(container)
        except (GantryError, OSError) as error:
            log.error("container %s: cannot remove it: %s", container.id[:12], error)  # noqa: TRY400
            await self.registry.save(container.transition(Phase.DEAD, error=str(error)))
        else:
            await self.registry.delete(container)
            faults.point("remove.forgotten")
            await self._remove_directory(container)

    async def settle(self) -> None:
        """Wait until the files of every container that is gone are gone, too."""
        await self._removals.drain()

    async def finish_removing(self, container: Container) -> None:
        """Go on with a removal that an earlier daemon had begun."""
        volumes = bool(await run_blocking(named_volumes, self._directory(container)))
        async with self.registry.lock(container.id):
            await self._remove(container, volumes=volumes)

    # ---------------------------------------------------------------------------------------- recovery

    async def recover(self) -> None:
        """Bring every record in line with what is true after the last daemon ended, however it ended."""
        from gantry.engine.recovery import Recovery

        await Recovery(self).run()

    async def shutdown(self, seconds: float) -> None:
        """Stop every container, all at once, as Docker does without live-restore."""

        async def one(container: Container) -> None:
            try:
                await self.stop(container, None)
                # A daemon that ends is no reason to forget `unless-stopped`.
                await self.registry.update(container.id, lambda c: c.noted(manually_stopped=False))
            except (NotModified, NotFound):
                return  # it ended, or was removed by its end

        running = [container for container in self.registry if container.status.running]
        if running:
            await asyncio.wait([self.owner.spawn(one(container)) for container in running], timeout=seconds)


def must_run(container: Container) -> None:
    """Raises Conflict, with Docker's words, where there is no process (a paused one is there)."""
    if container.status.phase == Phase.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.status.running:
        raise Conflict(f"container {container.id} is not running")


async def _nothing(_: object) -> None:
    """Where nobody else has a part in it."""
