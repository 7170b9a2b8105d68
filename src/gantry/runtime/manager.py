"""The runtime room's one object: it makes, watches and removes the processes of containers.

It implements `ports.Runtime`, `ports.TaskStreams` and `ports.TaskFacts`. All that it knows is also in the
exec root, so that a new daemon goes on where the last one was killed.
"""

import errno
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Conflict, GantryError, Internal, InvalidArgument, NotFound, Unavailable
from gantry.linux import pidfd
from gantry.linux.cgroups import Hierarchies
from gantry.linux.process import find_program
from gantry.model.container import HostConfig
from gantry.model.instance import Instance
from gantry.model.task import ExecSpec, ExitStatus, TaskSpec, TaskState
from gantry.ports import RuntimeInfo
from gantry.runtime import conmon, devices, facts, messages, prepare, probe, resources, stats
from gantry.runtime.bundle import Bundle, Bundles, Intent, Run, boot_id, find_conmon
from gantry.runtime.conmon import Command, Conmon, RuntimeFailed
from gantry.runtime.oci_runtime import OCIRuntime
from gantry.runtime.streams import Attachment, Hub
from gantry.runtime.task import Task, Unit, pidfile_number
from gantry.trace import span

log = logging.getLogger(__name__)

_SOCKET_PATH_LIMIT = 107
_CONSOLE_NAME = "/conmon-term.XXXXXX"
_EXECS_REMEMBERED = 256
_SIGKILL = 9
_END_TIMEOUT = 10.0


class RuntimeManager:
    """Use `open` to make one. Methods of one container are called one after another (the engine's lock)."""

    def __init__(
        self,
        instance: Instance,
        hierarchies: Hierarchies,
        host: facts.HostFacts,
        runtimes: Mapping[str, RuntimeInfo],
        default: str,
        monitor: str,
    ) -> None:
        self._instance = instance
        self._hierarchies = hierarchies
        self._host = host
        self._infos = dict(runtimes)
        self._default = default
        self._monitor = monitor
        self._bundles = Bundles(instance)
        self._tasks: dict[str, Task] = {}
        self._boot = boot_id()
        self._owner = TaskOwner("runtime")
        self._leave = hierarchies.foreign_groups()
        self._terminals = _terminal_directory(instance)

    @classmethod
    def open(
        cls,
        instance: Instance,
        *,
        default_runtime: str = "",
        runtimes: Mapping[str, tuple[str, tuple[str, ...]]] | None = None,
    ) -> "RuntimeManager":
        """Probe this machine (blocking; some tens of milliseconds the first time, then cached).

        `runtimes` are further ones by name: (path, arguments). A missing part is no error here: what needs
        it says so.
        """
        hierarchies = Hierarchies.find()
        infos = probe.probe_all(instance, hierarchies, runtimes or {})
        default = probe.choose(infos, default_runtime)
        return cls(instance, hierarchies, facts.probe(hierarchies), infos, default, find_program("conmon"))

    async def close(self) -> None:
        """Stop watching; every container goes on."""
        await self._owner.close()
        for task in self._tasks.values():
            for unit in (*task.execs.values(), task):
                unit.release()
        self._tasks.clear()

    # ------------------------------------------------------------------------------------------ Runtime

    async def create(self, spec: TaskSpec) -> TaskState:
        bundle = self._bundles.get(spec.id)
        runtime = self._runtime(spec.runtime)
        if (old := await self._find(spec.id)) is not None:
            if old.exit is None and old.run is not None:
                raise Conflict(f"container {spec.id} is already running")
            await self.delete(spec.id)
        parent = spec.host_config.cgroup_parent or self._instance.cgroup_parent
        intent = prepare.intent_of(bundle, spec, runtime.info.name, f"{parent.rstrip('/')}/{spec.id}")
        task = Task(bundle, _hub(bundle, intent), intent, self._hierarchies)
        donor = self._shm_of(spec.join_ipc)
        self._tasks[spec.id] = task
        try:
            with span("bundle"):
                monitor = await run_blocking(self._prepare_and_launch, bundle, spec, intent, runtime, donor)
            with span("conmon+create"):
                run = await self._answer(bundle, monitor)
            task.watch(run, monitor.process)
        except RuntimeFailed as failure:
            said = str(failure) or await run_blocking(conmon.early_errors, bundle.path)
            await self.delete(spec.id)
            raise messages.create_error(
                runtime.info.name, said, spec.process.args[0] if spec.process.args else ""
            ) from None
        except BaseException:
            await self.delete(spec.id)
            raise
        self._separate(run.conmon)
        return task.state()

    async def start(self, container_id: str) -> None:
        task = await self._get(container_id)
        runtime = self._runtime(task.intent.runtime)

        def release() -> None:
            task.bundle.mark_started()
            runtime.start(container_id)

        with span("start"):
            await run_blocking(release)

    async def exec(self, spec: ExecSpec) -> TaskState:
        task = await self._get(spec.container_id)
        if task.exit is not None or not task.bundle.started:
            raise Conflict(f"container {spec.container_id} is not running")
        if task.paused:
            raise Conflict(f"container {spec.container_id} is paused, unpause the container before exec")
        bundle = task.bundle.exec(spec.exec_id)
        process = spec.process
        unit = Unit(bundle, Hub(bundle.path, stdin=process.stdin, tty=process.tty, keep=False))
        unit.tty = process.tty
        runtime = self._runtime(task.intent.runtime)

        def launch() -> Conmon:
            bundle.path.mkdir(parents=True)
            bundle.write("process.json", prepare.exec_document(task.bundle, spec, self._host))
            return Conmon.launch(
                Command(
                    conmon=self._monitor,
                    runtime=runtime.info.path,
                    runtime_args=runtime.arguments,
                    container_id=spec.container_id,
                    unit_id=spec.exec_id,
                    name=spec.exec_id,
                    directory=bundle.path,
                    tty=process.tty,
                    stdin=process.stdin,
                    temporary=self._terminals if process.tty else "",
                    process_file=str(bundle.path / "process.json"),
                    attach=not spec.detached,
                )
            )

        try:
            with span("exec"):
                monitor = await run_blocking(launch)
                try:
                    if not spec.detached:
                        await monitor.attachable()
                        unit.hub.hold()
                        monitor.go()
                except BaseException:
                    monitor.process.kill()
                    monitor.process.wait()
                    monitor.close()
                    raise
                run = await self._answer(bundle, monitor)
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
        if process.tty and process.console_size:
            conmon.resize(bundle.control, *process.console_size)
        task.execs[spec.exec_id] = unit
        self._owner.spawn(self._tidy_exec(task, unit), name=f"exec {spec.exec_id[:12]}")
        self._separate(run.conmon)
        return TaskState("running", run.pid)

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
        group = task.intent.cgroup
        if group and not await run_blocking(self._hierarchies.kill, group):
            raise Internal(f"cannot kill the processes of container {container_id}")
        await run_blocking(self._end_monitor, bundle, task.run)
        if task.run is not None:
            await task.wait()
        task.hub.end()
        for unit in task.execs.values():
            unit.release()
        await run_blocking(self._release, bundle, task.intent)
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

    # ---------------------------------------------------------------------------------------- TaskFacts

    async def pids(self, container_id: str) -> list[int]:
        task = await self._get(container_id)
        return await run_blocking(self._hierarchies.pids, task.intent.cgroup)

    async def stats(self, container_id: str) -> dict[str, Any]:
        task = await self._get(container_id)
        network_pid = task.pid if task.intent.own_network else 0
        return await run_blocking(stats.read, self._hierarchies, task.intent.cgroup, network_pid)

    async def update(self, container_id: str, host_config: HostConfig) -> None:
        task = await self._get(container_id)
        runtime = self._runtime(task.intent.runtime)

        def change() -> None:
            numbers = devices.resolve(msgspec.structs.replace(host_config, devices=None, privileged=False))
            if limits := resources.limits(host_config, numbers, self._host):
                runtime.update(container_id, limits)

        await run_blocking(change)

    def root(self, container_id: str) -> Path | None:
        task = self._tasks.get(container_id)
        return Path(f"/proc/{task.pid}/root") if task is not None and task.pid else None

    def runtimes(self) -> dict[str, RuntimeInfo]:
        return dict(self._infos)

    def default_runtime(self) -> str:
        return self._default

    def ids(self) -> list[str]:
        return self._bundles.ids()

    # ------------------------------------------------------------------------------------------ helpers

    def _runtime(self, name: str) -> OCIRuntime:
        name = name or self._default
        if not name:
            raise Unavailable(probe.INSTALL_HINT)
        if (info := self._infos.get(name)) is None:
            raise InvalidArgument(f"unknown or invalid runtime name: {name}")
        if info.problem:
            raise Unavailable(f"runtime {name} cannot be used: {info.problem}")
        if not self._monitor:
            raise Unavailable("conmon was not found: install it (apt-get install conmon)")
        return OCIRuntime(info, self._instance.exec_root / "runtimes" / name)

    def _prepare_and_launch(
        self, bundle: Bundle, spec: TaskSpec, intent: Intent, runtime: OCIRuntime, donor: str
    ) -> Conmon:
        runtime.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        prepare.prepare(bundle, spec, intent, self._host, donor)
        command = Command(
            conmon=self._monitor,
            runtime=runtime.info.path,
            runtime_args=runtime.arguments,
            container_id=spec.id,
            unit_id=spec.id,
            name=spec.name or spec.id[:12],
            directory=bundle.path,
            log=prepare.log_argument(bundle, spec.log_path),
            tty=intent.tty,
            stdin=intent.stdin,
            leave_stdin_open=intent.stdin and (intent.tty or not intent.stdin_once),
            temporary=self._terminals if intent.tty else "",
        )
        with span("conmon launch"):
            return Conmon.launch(command)

    async def _answer(self, bundle: Bundle, monitor: Conmon) -> Run:
        """Wait for the runtime's answer and write the processes down."""
        try:
            pid = await monitor.process_id()
        except BaseException:
            # Without an answer conmon ends by itself, unless we are what is being stopped.
            monitor.process.kill()
            monitor.process.wait()
            raise
        finally:
            monitor.close()
        number = monitor.process.pid
        run = Run(self._boot, number, pidfd.start_time(number), pid, pidfd.start_time(pid))
        await run_blocking(bundle.write, "run.json", run)
        return run

    async def _find(self, container_id: str) -> Task | None:
        """The task in memory, or what an earlier daemon left of it."""
        if (task := self._tasks.get(container_id)) is not None:
            return task
        bundle = self._bundles.get(container_id)
        if not bundle.path.exists():
            return None
        intent, run, execs = await run_blocking(_recover, bundle, self._boot)
        if (task := self._tasks.get(container_id)) is not None:
            return task  # another caller was faster
        task = Task(bundle, _hub(bundle, intent), intent, self._hierarchies)
        self._tasks[container_id] = task
        if run is not None:
            task.watch(run, None)
            task.paused = task.exit is None and self._hierarchies.frozen(intent.cgroup)
        elif (status := bundle.exit_status()) is not None:
            task.finish(status)
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

    def _end_monitor(self, bundle: Bundle, run: Run | None) -> None:
        """conmon ends when its process has; one that does not, or that never got a process, is killed."""
        number = run.conmon if run is not None else find_conmon(bundle.path)
        started = run.conmon_started if run is not None else pidfd.start_time(number) if number else 0
        if not number or not started:
            return
        if run is not None and pidfd.wait_blocking(number, started, _END_TIMEOUT):
            return
        try:
            pidfd.send_signal(number, started, _SIGKILL)
        except ProcessLookupError:
            return
        pidfd.wait_blocking(number, started, _END_TIMEOUT)

    def _release(self, bundle: Bundle, intent: Intent) -> None:
        if intent.cgroup:
            self._hierarchies.kill(intent.cgroup)
        if (info := self._infos.get(intent.runtime)) is not None:
            OCIRuntime(info, self._instance.exec_root / "runtimes" / intent.runtime).delete(intent.id)
        if intent.cgroup:
            try:
                self._hierarchies.remove(intent.cgroup)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                raise Internal(f"cannot remove the cgroup of container {intent.id}: {error.strerror}") from error
        prepare.release(bundle)

    def _shm_of(self, pid: int) -> str:
        """The /dev/shm that a joined IPC namespace's container shares."""
        return next((task.intent.shm for task in self._tasks.values() if pid > 0 and task.pid == pid), "")

    def _separate(self, pid: int) -> None:
        """Move conmon out of the daemon's own cgroup, so that what stops the daemon does not stop it."""
        if not self._leave:
            return

        async def move() -> None:
            group = f"{self._instance.cgroup_parent}/monitors"
            try:
                await run_blocking(self._hierarchies.add, group, pid, self._leave)
            except (OSError, GantryError) as error:
                if not isinstance(error, ProcessLookupError):
                    log.warning("conmon %d stays in the daemon's cgroup: %s", pid, error)

        self._owner.spawn(move(), name=f"separate {pid}")


def _hub(bundle: Bundle, intent: Intent) -> Hub:
    keep = intent.stdin and intent.stdin_once and not intent.tty
    return Hub(bundle.path, stdin=intent.stdin, tty=intent.tty, keep=keep)


def _recover(bundle: Bundle, boot: str) -> tuple[Intent, Run | None, dict[str, Run]]:
    """What an earlier daemon wrote down, completed from the running processes where it was killed in between."""
    intent = bundle.read_intent() or Intent(bundle.container_id, "", "")
    run = bundle.read_run()
    if run is None and bundle.exit_status() is None and (number := find_conmon(bundle.path)):
        pid = pidfile_number(bundle)
        if pid:
            run = Run(boot, number, pidfd.start_time(number), pid, pidfd.start_time(pid))
    execs = {}
    for exec_id in bundle.execs():
        if (exec_run := bundle.exec(exec_id).read_run()) is not None:
            execs[exec_id] = exec_run
    return intent, run, execs


def _terminal_directory(instance: Instance) -> str:
    """Where conmon puts its console socket: the path of a socket is limited to 107 bytes."""
    directory = instance.exec_root / "tty"
    if len(str(directory)) + len(_CONSOLE_NAME) > _SOCKET_PATH_LIMIT:
        directory = Path("/run", f"{instance.name}-tty")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(directory)
