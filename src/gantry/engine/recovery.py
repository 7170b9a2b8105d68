"""After the last daemon ended, by itself or by SIGKILL at any instruction: what is true, and what follows from it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from gantry.aio import run_blocking
from gantry.engine.directory import named_volumes, remove_directory
from gantry.engine.policy import FIRST_DELAY, wants_autostart
from gantry.errors import Conflict, GantryError, NotFound, NotModified
from gantry.model import timestamp
from gantry.model.container import Container, Phase
from gantry.model.identity import ID_FORM
from gantry.model.task import ExitStatus, TaskState

if TYPE_CHECKING:
    from gantry.engine.lifecycle import Lifecycle

log = logging.getLogger(__name__)

_UNKNOWN_END = 255  # the exit code where nothing tells it, for example after a reboot


class Recovery:
    """Runs once, before anything else is asked of the daemon. One container's trouble does not stop the others."""

    def __init__(self, lifecycle: "Lifecycle") -> None:
        self._life = lifecycle
        self._registry = lifecycle.registry

    async def run(self) -> None:
        await self._undo_half_made()
        states: dict[str, TaskState | None] = {}
        for container in self._registry:
            states[container.id] = await self._life.runtime.state(container.id)
        alive = [cid for cid, state in states.items() if state is not None and state.phase in ("running", "paused")]
        await self._life.networks.start(alive)
        for container in self._registry:
            state = states[container.id]
            try:
                if state is not None and container.id in alive:
                    await self._adopt(container, state)
                else:
                    await self._settle(container, state)
            except (GantryError, OSError) as error:
                log.error("container %s: cannot be recovered: %s", container.id[:12], error)  # noqa: TRY400

    async def _undo_half_made(self) -> None:
        """A directory without a record: the daemon was killed while it created or removed that container."""
        top = self._life.instance.data_root / "containers"
        for name in await run_blocking(_entries, top):
            if not ID_FORM.fullmatch(name) or name in self._registry:
                continue
            try:
                await self._life.runtime.delete(name)
                for volume in await run_blocking(named_volumes, top / name):
                    await self._remove_volume(volume)
                await run_blocking(self._life.snapshots.remove, name)
                await run_blocking(remove_directory, top / name)
            except (GantryError, OSError) as error:
                log.error("container %s: what is left of it cannot be removed: %s", name[:12], error)  # noqa: TRY400

    async def _remove_volume(self, name: str) -> None:
        try:
            await self._life.volumes.remove(name)
        except (Conflict, NotFound):
            return  # it was not made any more, or somebody else has it

    async def _adopt(self, container: Container, state: TaskState) -> None:
        """The process lives: it is watched again, and its state is the truth."""
        phase = Phase.PAUSED if state.phase == "paused" else Phase.RUNNING
        if container.status.phase == Phase.REMOVING:
            await self._life.finish_removing(container)
            return
        if container.status.phase != phase or container.status.pid != state.pid:
            if container.status.phase == Phase.DEAD:
                await self._life.runtime.delete(container.id)
                return
            began = container.status.started_at if container.status.running else timestamp.now()
            container = await self._registry.update(
                container.id,
                # From created straight to paused is no move that a user could make; a killed daemon's can be.
                lambda c: c.transition(Phase.RUNNING, pid=state.pid, started_at=began).transition(phase),
            )
        container = await self._finish_intents(container)
        await self._life.connections.adopt(container)
        for mount in container.mounts:
            if mount.type == "volume":
                await self._life.volumes.mount(mount.name, container.id)
        self._life.watch(container.id)
        self._life.on_running(container)

    async def _finish_intents(self, container: Container) -> Container:
        """A pause that was meant to be short ends; a restart that had not stopped it yet is given up."""
        if container.status.thaw and container.status.phase == Phase.PAUSED:
            await self._life.runtime.resume(container.id)
            container = await self._registry.update(container.id, lambda c: c.transition(Phase.RUNNING, thaw=False))
        if container.status.thaw or container.status.restart_asked:
            container = await self._registry.update(container.id, lambda c: c.noted(thaw=False, restart_asked=False))
        return container

    async def _settle(self, container: Container, state: TaskState | None) -> None:
        """No process: bring the record to its end, and start again what should run."""
        phase = container.status.phase
        if phase == Phase.REMOVING:
            await self._life.finish_removing(container)
        elif phase in (Phase.RUNNING, Phase.PAUSED):
            status = state.exit if state is not None and state.exit is not None else None
            async with self._registry.lock(container.id):
                await self._life.exited(container, status or ExitStatus(_UNKNOWN_END, timestamp.now()))
            if container.status.restart_asked and container.id in self._registry:
                self._start_later(self._registry.get(container.id))
        elif phase == Phase.RESTARTING:
            await self._life.runtime.delete(container.id)
            self._life.restart_later(container.id, FIRST_DELAY)
        else:
            await self._life.runtime.delete(container.id)
            if container.sandbox is not None:
                await self._registry.update(container.id, lambda c: c.replace(sandbox=None))
            if wants_autostart(container):
                self._start_later(container)

    def _start_later(self, container: Container) -> None:
        self._life.owner.spawn(self._autostart(container), name=f"autostart {container.id[:12]}")

    async def _autostart(self, container: Container) -> None:
        try:
            await self._life.start(container)
        except NotModified:
            return
        except GantryError as error:
            log.warning("container %s: cannot be started: %s", container.id[:12], error)


def _entries(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return []
