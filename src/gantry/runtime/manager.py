"""The runtime room's one object: it makes, watches and removes the processes of containers.

It implements `ports.Runtime`, `ports.TaskStreams` and `ports.TaskFacts`. All that it knows is also in the
exec root, so that a new daemon goes on where the last one was killed.
"""

import asyncio
import contextlib
import posixpath
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gantry import faults
from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Conflict, GantryError, Internal, NotFound
from gantry.linux import pidfd
from gantry.linux.cgroups import Hierarchies
from gantry.linux.process import find_program
from gantry.model.container import HostConfig
from gantry.model.instance import Instance
from gantry.model.kernel import KernelLimits
from gantry.model.remap import Remap
from gantry.model.task import ExecSpec, ExitStatus, TaskSpec, TaskState
from gantry.ports import RuntimeInfo
from gantry.runtime import apparmor, cdi, conmon, devices, facts, inside, messages, prepare, probe, resources, stats
from gantry.runtime import users as container_users
from gantry.runtime.bundle import Bundle, Bundles, Intent, Run, boot_id, find_conmon
from gantry.runtime.conmon import RuntimeFailed
from gantry.runtime.launcher import Launcher
from gantry.runtime.security import parse_security_options
from gantry.runtime.streams import Attachment, Hub
from gantry.runtime.task import Task, Unit, pidfile_number
from gantry.trace import span

_EXECS_REMEMBERED = 256
_SIGKILL = 9
_UNKNOWN_END = 255  # Docker's code where nobody saw the end
_END_TIMEOUT = 10.0


class RuntimeManager:
    """Use `open` to make one. Methods of one container are called one after another (the engine's lock)."""

    def __init__(self, instance: Instance, hierarchies: Hierarchies, launcher: Launcher) -> None:
        self._hierarchies = hierarchies
        self._launcher = launcher
        self._parent = instance.cgroup_parent
        self._bundles = Bundles(instance)
        self._tasks: dict[str, Task] = {}
        self._owner = TaskOwner("runtime")

    @classmethod
    def open(
        cls,
        instance: Instance,
        *,
        default_runtime: str = "",
        runtimes: Mapping[str, tuple[str, tuple[str, ...]]] | None = None,
        cdi_directories: tuple[str, ...] = cdi.DIRECTORIES,
        remap: Remap | None = None,
        patience: float = 60.0,
    ) -> "RuntimeManager":
        """Probe this machine (blocking; some tens of milliseconds the first time, then cached).

        `patience` is how long a runtime may take to make a process, in seconds. `runtimes` are further ones by name:
        (path, arguments). A missing part is no error here: what needs
        it says so.
        """
        hierarchies = Hierarchies.find()
        infos = probe.probe_all(instance, hierarchies, runtimes or {})
        default = probe.choose(infos, default_runtime)
        host = msgspec.structs.replace(facts.probe(hierarchies), cdi_directories=cdi_directories, remap=remap)
        return cls(
            instance,
            hierarchies,
            Launcher(instance, hierarchies, host, infos, default, find_program("conmon"), patience=patience),
        )

    async def close(self) -> None:
        """Stop watching; every container goes on."""
        await self._owner.close()
        for task in self._tasks.values():
            for unit in (*task.execs.values(), task):
                unit.release()
        self._tasks.clear()
        if not self._bundles.ids():
            await run_blocking(self._launcher.tidy)

    # ------------------------------------------------------------------------------------------ Runtime

    async def create(self, spec: TaskSpec) -> TaskState:
        return await self._whole(self._create(spec), lambda: self.delete(spec.id))

    async def _create(self, spec: TaskSpec) -> TaskState:
        bundle = self._bundles.get(spec.id)
        runtime = self._launcher.runtime(spec.runtime)
        if (old := await self._find(spec.id)) is not None:
            if old.exit is None and old.run is not None:
                raise Conflict(f"container {spec.id} is already running")
            await self.delete(spec.id)
        parent = posixpath.normpath("/" + (spec.host_config.cgroup_parent or self._parent).lstrip("/"))
        intent = prepare.intent_of(bundle, spec, runtime.info.name, f"{parent.rstrip('/')}/{spec.id}")
        task = Task(bundle, _hub(bundle, intent), intent, self._hierarchies)
        self._tasks[spec.id] = task
        try:
            run, monitor = await self._launcher.create(bundle, spec, intent, runtime, self._shm_of(spec.join_ipc))
            task.watch(run, monitor.process)
        except RuntimeFailed as failure:
            said = str(failure) or await run_blocking(conmon.early_errors, bundle.path)
            await self.delete(spec.id)
            command = spec.process.args[0] if spec.process.args else ""
            raise messages.create_error(runtime.info.name, said, command) from None
        except BaseException:
            await self.delete(spec.id)
            raise
        self._launcher.separate(self._owner, run.conmon)
        return task.state()

    async def start(self, container_id: str) -> None:
        task = await self._get(container_id)
        runtime = self._launcher.runtime(task.intent.runtime)

        def release() -> None:
            runtime.start(container_id)
            faults.point("task.released")
            task.bundle.mark_started()

        with span("start"):
            await run_blocking(release)

    async def exec(self, spec: ExecSpec) -> TaskState:
        return await self._whole(self._exec(spec), lambda: self.kill(spec.container_id, _SIGKILL, spec.exec_id))

    async def _exec(self, spec: ExecSpec) -> TaskState:
        task = await self._get(spec.container_id)
        if task.exit is not None or not task.bundle.started:
            raise Conflict(f"container {spec.container_id} is not running")
        if task.paused:
            raise Conflict(f"container {spec.container_id} is paused, unpause the container before exec")
        bundle = task.bundle.exec(spec.exec_id)
        process = spec.process
        unit = Unit(bundle, Hub(bundle.path, stdin=process.stdin, tty=process.tty, keep=False))
        unit.tty = process.tty
        runtime = self._launcher.runtime(task.intent.runtime)

        try:
            with span("exec"):
                monitor = await self._launcher.exec(task.bundle, bundle, spec, runtime)
                faults.point("exec.launched")
                if not spec.detached:
                    try:
                        await monitor.attachable()
                        unit.hub.hold()
                    except BaseException:
                        await run_blocking(monitor.kill)
                        monitor.close()
                        raise
                    monitor.go()
                run = await self._launcher.answer(bundle, monitor)
            unit.watch(run, monitor.process)
        except RuntimeFailed as failure:
            said = str(failure) or await run_blocking(conmon.early_errors, bundle.path)
            unit.hub.end()
            await run_blocking(bundle.remove)
            raise messages.exec_error(said, process.args[0] if process.args else "") from None
        except BaseException:
            unit.hub.end()
            await run_blocking(bundle.remove)
            raise
        task.execs[spec.exec_id] = unit
        self._owner.spawn(self._tidy_exec(task, unit), name=f"exec {spec.exec_id[:12]}")
        self._launcher.separate(self._owner, run.conmon)
        return TaskState("running", run.pid)

    async def check_user(self, container_id: str, user: str) -> None:
        task = await self._get(container_id)
        await run_blocking(container_users.resolve, task.bundle.rootfs, user)

    async def kill(self, container_id: str, signal: int, exec_id: str = "") -> None:
        unit = await self._unit(container_id, exec_id)
        try:
            unit.signal(signal)
        except ProcessLookupError:
            raise Conflict(f"container {container_id} is not running") from None
        if isinstance(unit, Task) and unit.paused and signal == _SIGKILL:
            await self.resume(container_id)  # a frozen process does not die

    async def pause(self, container_id: str) -> None:
        await self._freeze(container_id, True)

    async def resume(self, container_id: str) -> None:
        await self._freeze(container_id, False)

    async def wait(self, container_id: str, exec_id: str = "") -> ExitStatus:
        return await (await self._unit(container_id, exec_id)).wait()

    async def state(self, container_id: str) -> TaskState | None:
        task = await self._find(container_id)
        return None if task is None else task.state()

    async def delete(self, container_id: str) -> None:
        bundle = self._bundles.get(container_id)
        task = await self._find(container_id)
        if task is None:
            return
        if task.run is not None and task.exit is None:
            await run_blocking(self._launcher.kill, task.intent)
            with contextlib.suppress(TimeoutError):  # a conmon that does not end is killed below
                async with asyncio.timeout(_END_TIMEOUT):
                    await task.wait()
        for unit in task.execs.values():
            with contextlib.suppress(TimeoutError):  # their monitors end with their processes
                async with asyncio.timeout(_END_TIMEOUT):
                    await unit.wait()
        await run_blocking(self._launcher.release, bundle, task.intent, task.run)
        if task.run is not None:
            await task.wait()
        for unit in (*task.execs.values(), task):
            unit.release()
        self._tasks.pop(container_id, None)

    # -------------------------------------------------------------------------------------- TaskStreams

    async def attach(self, container_id: str, exec_id: str = "", *, stdin: bool = False) -> Attachment:  # noqa: ARG002
        return (await self._unit(container_id, exec_id)).hub.attach()

    async def resize(self, container_id: str, height: int, width: int, exec_id: str = "") -> None:
        unit = await self._unit(container_id, exec_id)
        if not unit.tty:
            return
        try:
            conmon.resize(unit.bundle.control, height, width)
        except OSError:
            raise Conflict(f"container {container_id} is not running") from None

    async def reopen_log(self, container_id: str) -> None:
        unit = await self._get(container_id)
        try:
            conmon.reopen_log(unit.bundle.control)
        except OSError:
            raise Conflict(f"container {container_id} is not running") from None

    # ---------------------------------------------------------------------------------------- TaskFacts

    def apparmor_profile(self, config: HostConfig) -> str:
        asked = parse_security_options(config.security_opt or ()).apparmor
        return apparmor.profile(asked, self._launcher.host.apparmor, privileged=config.privileged)

    async def pids(self, container_id: str) -> list[int]:
        task = await self._get(container_id)
        return await run_blocking(self._hierarchies.pids, task.intent.cgroup)

    async def stats(self, container_id: str) -> dict[str, Any]:
        task = await self._get(container_id)
        network_pid = task.pid if task.intent.own_network else 0
        return await run_blocking(stats.read, self._hierarchies, task.intent.cgroup, network_pid)

    async def update(self, container_id: str, host_config: HostConfig) -> None:
        task = await self._get(container_id)
        runtime = self._launcher.runtime(task.intent.runtime)

        def change() -> None:
            numbers = devices.resolve(msgspec.structs.replace(host_config, devices=None, privileged=False))
            if limits := resources.limits(host_config, numbers, self._launcher.host):
                runtime.update(container_id, limits)
            # What is no limit any more is told to the kernel: runtimes change only what they are given.
            if host_config.pids_limit is None:
                self._hierarchies.lift_pids(task.intent.cgroup)
            if host_config.cpu_quota < 0:
                self._hierarchies.lift_quota(task.intent.cgroup)

        await run_blocking(change)

    def check(self, host_config: HostConfig) -> None:
        parse_security_options(host_config.security_opt or ())
        for rule in host_config.device_cgroup_rules or ():
            resources.parse_rule(rule)

    def kernel(self) -> KernelLimits:
        return self._launcher.host.limits

    async def devices(self) -> list[str]:
        return sorted((await run_blocking(cdi.Registry.load, self._launcher.host.cdi_directories)).devices)

    async def socket(self, container_id: str, family: int) -> socket.socket:
        task = await self._get(container_id)
        if not task.pid:
            raise NotFound(f"container {container_id} is not running")
        return await run_blocking(inside.tcp_socket, task.pid, family)

    def root(self, container_id: str) -> Path | None:
        task = self._tasks.get(container_id)
        return Path(f"/proc/{task.pid}/root") if task is not None and task.pid else None

    def runtimes(self) -> dict[str, RuntimeInfo]:
        return dict(self._launcher.infos)

    def default_runtime(self) -> str:
        return self._launcher.default

    def ids(self) -> list[str]:
        return self._bundles.ids()

    # ------------------------------------------------------------------------------------------ helpers

    async def _whole(self, work: Coroutine[Any, Any, TaskState], undo: Callable[[], Awaitable[None]]) -> TaskState:
        """Run `work` to its end even where the caller is cancelled, and undo it then: a thread cannot be stopped."""

        async def outcome() -> TaskState | GantryError:
            try:
                return await work
            except GantryError as error:
                return error

        running = self._owner.spawn(outcome(), name="start")
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            with contextlib.suppress(GantryError):
                await undo()
            raise
        if isinstance(result, GantryError):
            raise result
        return result

    async def _find(self, container_id: str) -> Task | None:
        """The task in memory, or what an earlier daemon left of it."""
        if (task := self._tasks.get(container_id)) is not None:
            return task
        bundle = self._bundles.get(container_id)
        if not bundle.path.exists():
            return None
        intent, run, execs = await run_blocking(_recover, bundle)
        if (task := self._tasks.get(container_id)) is not None:
            return task  # another caller was faster
        task = Task(bundle, _hub(bundle, intent), intent, self._hierarchies)
        self._tasks[container_id] = task
        if run is not None:
            task.watch(run, None)
            task.paused = task.exit is None and self._hierarchies.frozen(intent.cgroup)
        else:  # it ended, or the machine was started anew, or it was never made as a whole
            task.finish(bundle.exit_status() or ExitStatus(_UNKNOWN_END, time.time_ns()))
        for exec_id, exec_run in execs.items():
            own = bundle.exec(exec_id)
            unit = Unit(own, Hub(own.path, stdin=False, tty=False, keep=False))
            unit.tty = True  # unknown; a fifo without a terminal behind it ignores a size
            unit.watch(exec_run, None)
            task.execs[exec_id] = unit
        return task

    async def _get(self, container_id: str) -> Task:
        task = await self._find(container_id)
        if task is None:
            raise NotFound(f"No such container: {container_id}")
        return task

    async def _unit(self, container_id: str, exec_id: str) -> Unit:
        task = await self._get(container_id)
        if not exec_id:
            return task
        if (unit := task.execs.get(exec_id)) is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return unit

    async def _freeze(self, container_id: str, frozen: bool) -> None:
        task = await self._get(container_id)
        try:
            await run_blocking(self._hierarchies.freeze, task.intent.cgroup, frozen)
        except OSError as error:
            verb = "pause" if frozen else "unpause"
            raise Internal(f"Cannot {verb} container {container_id}: {error.strerror}") from error
        task.paused = frozen

    async def _tidy_exec(self, task: Task, unit: Unit) -> None:
        await unit.wait()
        await run_blocking(unit.bundle.remove)
        finished = [name for name, other in task.execs.items() if other.exit is not None]
        for name in finished[:-_EXECS_REMEMBERED]:
            del task.execs[name]

    def _shm_of(self, pid: int) -> str:
        """The /dev/shm that a joined IPC namespace's container shares."""
        return next((task.intent.shm for task in self._tasks.values() if pid > 0 and task.pid == pid), "")


def _hub(bundle: Bundle, intent: Intent) -> Hub:
    keep = intent.stdin and intent.stdin_once and not intent.tty
    return Hub(bundle.path, stdin=intent.stdin, tty=intent.tty, keep=keep)


def _recover(bundle: Bundle) -> tuple[Intent, Run | None, dict[str, Run]]:
    """What an earlier daemon wrote down, completed from the running processes where it was killed in between."""
    intent = bundle.read_intent() or Intent(bundle.container_id, "", "")
    run = bundle.read_run()
    if run is None and bundle.exit_status() is None and (number := find_conmon(bundle.path)):
        pid = pidfile_number(bundle)
        if pid:
            run = Run(boot_id(), number, pidfd.start_time(number), pid, pidfd.start_time(pid))
    execs = {}
    for exec_id in bundle.execs():
        if (exec_run := bundle.exec(exec_id).read_run()) is not None:
            execs[exec_id] = exec_run
    return intent, run, execs
