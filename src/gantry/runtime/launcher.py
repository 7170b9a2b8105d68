"""From a specification to waiting processes, and from ended processes to nothing: the steps that block."""

import asyncio
import errno
import logging
from collections.abc import Mapping
from pathlib import Path

from gantry import faults
from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Internal, InvalidArgument, Unavailable
from gantry.linux import pidfd
from gantry.linux.cgroups import Hierarchies
from gantry.model.instance import Instance
from gantry.model.task import ExecSpec, TaskSpec
from gantry.ports import RuntimeInfo
from gantry.runtime import prepare, probe
from gantry.runtime.bundle import Bundle, Intent, Run, boot_id, find_conmon
from gantry.runtime.conmon import Command, Conmon
from gantry.runtime.facts import HostFacts
from gantry.runtime.filters import FilterCache
from gantry.runtime.oci_runtime import OCIRuntime
from gantry.trace import span

log = logging.getLogger(__name__)

_SOCKET_PATH_LIMIT = 107
_CONSOLE_NAME = "/conmon-term.XXXXXX"
_SIGKILL = 9
_END_TIMEOUT = 10.0


class Launcher:
    """Starts conmon with a runtime and cleans up behind both."""

    def __init__(
        self,
        instance: Instance,
        hierarchies: Hierarchies,
        host: HostFacts,
        runtimes: Mapping[str, RuntimeInfo],
        default: str,
        monitor: str,
        *,
        patience: float = 60.0,
    ) -> None:
        """`patience` is how long a runtime may take to make a process, in seconds."""
        self.host = host
        self.infos = dict(runtimes)
        self.default = default
        self._instance = instance
        self._hierarchies = hierarchies
        self._monitor = monitor
        self._patience = patience
        self._boot = boot_id()
        self._filters = FilterCache()
        self._leave = hierarchies.foreign_groups()
        self._terminals = _terminal_directory(instance)

    def runtime(self, name: str) -> OCIRuntime:
        """A usable runtime by name, "" for the default; InvalidArgument or Unavailable otherwise."""
        name = name or self.default
        if not name:
            raise Unavailable(probe.INSTALL_HINT)
        if (info := self.infos.get(name)) is None:
            raise InvalidArgument(f"unknown or invalid runtime name: {name}")
        if info.problem:
            raise Unavailable(f"runtime {name} cannot be used: {info.problem}")
        if not self._monitor:
            raise Unavailable("conmon was not found: install it (apt-get install conmon)")
        return self._of(info)

    def _of(self, info: RuntimeInfo) -> OCIRuntime:
        return OCIRuntime(info, self._instance.exec_root / "runtimes" / info.name)

    async def create(
        self, bundle: Bundle, spec: TaskSpec, intent: Intent, runtime: OCIRuntime, donor_shm: str
    ) -> tuple[Run, Conmon]:
        """Make a container whose process waits; raises RuntimeFailed or GantryError, then `release` is due."""

        def launch() -> tuple[Conmon, str]:
            runtime.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_terminals()
            document = prepare.prepare(bundle, spec, intent, self.host, donor_shm)
            filter_key = self._filters.apply(document, runtime)
            prepare.write_configuration(bundle, document)
            with span("conmon launch"):
                return Conmon.launch(self._create_command(bundle, spec, intent, runtime)), filter_key

        with span("bundle"):
            monitor, filter_key = await run_blocking(launch)
            faults.point("task.launched")
        with span("conmon+create"):
            run = await self.answer(bundle, monitor)
        if filter_key:
            await run_blocking(self._filters.learn, filter_key, runtime, spec.id)
        return run, monitor

    def _create_command(self, bundle: Bundle, spec: TaskSpec, intent: Intent, runtime: OCIRuntime) -> Command:
        return Command(
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

    async def exec(self, container: Bundle, bundle: Bundle, spec: ExecSpec, runtime: OCIRuntime) -> Conmon:
        """Start conmon for an exec; `answer` tells the process."""

        def launch() -> Conmon:
            bundle.path.mkdir(parents=True)
            self._make_terminals()
            bundle.write("process.json", prepare.exec_document(container, spec, self.host))
            faults.point("exec.written")
            command = Command(
                conmon=self._monitor,
                runtime=runtime.info.path,
                runtime_args=runtime.arguments,
                container_id=spec.container_id,
                unit_id=spec.exec_id,
                name=spec.exec_id,
                directory=bundle.path,
                tty=spec.process.tty,
                stdin=spec.process.stdin,
                temporary=self._terminals if spec.process.tty else "",
                process_file=str(bundle.path / "process.json"),
                attach=not spec.detached,
            )
            return Conmon.launch(command)

        return await run_blocking(launch)

    def _make_terminals(self) -> None:
        Path(self._terminals).mkdir(mode=0o700, parents=True, exist_ok=True)

    async def answer(self, bundle: Bundle, monitor: Conmon) -> Run:
        """Wait for the runtime's answer and write the processes down; raises RuntimeFailed."""
        try:
            async with asyncio.timeout(self._patience):
                pid = await monitor.process_id()
        except TimeoutError:
            await run_blocking(monitor.kill)
            raise Internal(
                f"the runtime did not make the process within {self._patience:g} seconds: it has been killed"
            ) from None
        except BaseException:
            await run_blocking(monitor.kill)
            raise
        finally:
            monitor.close()
        faults.point("task.answered")
        number = monitor.process.pid
        run = Run(self._boot, number, pidfd.start_time(number), pid, pidfd.start_time(pid))
        await run_blocking(bundle.write, "run.json", run)
        faults.point("task.written")
        return run

    def separate(self, owner: TaskOwner, pid: int) -> None:
        """Move a conmon out of the daemon's own cgroup, so that what stops the daemon does not stop it."""
        if not self._leave:
            return

        async def move() -> None:
            group = f"{self._instance.cgroup_parent}/monitors"
            try:
                await run_blocking(self._hierarchies.add, group, pid, self._leave)
            except ProcessLookupError:
                return  # it has ended already
            except OSError as error:
                log.warning("conmon %d stays in the daemon's cgroup: %s", pid, error)

        owner.spawn(move(), name=f"separate {pid}")

    def release(self, bundle: Bundle, intent: Intent, run: Run | None) -> None:
        """End and remove everything of a task (blocking): processes, conmon, runtime's state, cgroup, mounts, files."""
        with span("kill"):
            self.kill(intent)
        with span("monitor"):
            _end_monitor(bundle, run)
        self.kill(intent)  # what a conmon without a written process made in between
        faults.point("task.ended")
        if (info := self.infos.get(intent.runtime)) is not None:
            self._of(info).delete(intent.id)
        if intent.cgroup:
            try:
                with span("cgroup"):
                    self._hierarchies.remove(intent.cgroup)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                raise Internal(f"cannot remove the cgroup of container {intent.id}: {error.strerror}") from error
        faults.point("task.forgotten")
        with span("unmount"):
            prepare.release(bundle)

    def kill(self, intent: Intent) -> None:
        """SIGKILL all processes of a container and wait for their end (blocking)."""
        if intent.cgroup and not self._hierarchies.kill(intent.cgroup):
            raise Internal(f"cannot kill the processes of container {intent.id}")

    def tidy(self) -> None:
        """Remove what the instance itself has outside its directories where no container is left (blocking)."""
        self._hierarchies.remove_empty(self._instance.cgroup_parent)
        terminals = Path(self._terminals)
        if terminals.parent != self._instance.exec_root and terminals.is_dir() and not any(terminals.iterdir()):
            terminals.rmdir()


def _end_monitor(bundle: Bundle, run: Run | None) -> None:
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


def _terminal_directory(instance: Instance) -> str:
    """Where conmon puts its console socket: the path of a socket is limited to 107 bytes."""
    directory = instance.exec_root / "tty"
    if len(str(directory)) + len(_CONSOLE_NAME) > _SOCKET_PATH_LIMIT:
        directory = Path("/run", f"{instance.name}-tty")
    return str(directory)
