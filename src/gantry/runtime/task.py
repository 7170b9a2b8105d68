"""A task in the daemon's memory: the processes that are watched, and how they ended."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable

import msgspec

from gantry.linux.cgroups import Hierarchies
from gantry.linux.pidfd import open_verified, send_signal, start_time, watch_exit
from gantry.linux.process import disown
from gantry.model.task import ExitStatus, TaskState
from gantry.runtime.bundle import Bundle, Intent, Run
from gantry.runtime.streams import Hub

KILLED = 137  # what is reported where the monitor died before it could write the exit code


class Unit:
    """One process under conmon: a container's first one or an exec."""

    def __init__(self, bundle: Bundle, hub: Hub) -> None:
        self.bundle = bundle
        self.hub = hub
        self.run: Run | None = None
        self.exit: ExitStatus | None = None
        self.tty = False
        self._ended = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._stop: Callable[[], None] | None = None

    @property
    def pid(self) -> int:
        return self.run.pid if self.run is not None and self.exit is None else 0

    def watch(self, run: Run, process: "subprocess.Popen[bytes] | None") -> None:
        """Follow conmon to its end; `process` is given where it is our own child."""
        self.run = run
        self._process = process
        try:
            descriptor = open_verified(run.conmon, run.conmon_started)
        except ProcessLookupError:
            self._conmon_ended()
        else:
            self._stop = watch_exit(descriptor, self._conmon_ended)

    def release(self) -> None:
        """Watch no more; the process goes on without this daemon."""
        if self._stop is not None:
            self._stop()
        if self._process is not None:
            disown(self._process)
        self.hub.end()

    def _conmon_ended(self) -> None:
        if self._process is not None:
            self._process.wait()  # it has ended: this only takes its status from the kernel
            self._process = None
        status = self.bundle.exit_status()
        if status is None and self.run is not None:
            # The monitor died: nobody reads the process's output any more, and nobody can tell its status.
            with contextlib.suppress(ProcessLookupError):
                send_signal(self.run.pid, self.run.pid_started, 9)
            status = ExitStatus(KILLED, time.time_ns())
        self.finish(self.complete(status or ExitStatus(KILLED, time.time_ns())))

    def complete(self, status: ExitStatus) -> ExitStatus:
        """Add what only this process can tell of an end."""
        return status

    def finish(self, status: ExitStatus) -> None:
        if self.exit is None:
            self.exit = status
            self.hub.process_ended()
            self._ended.set()

    async def wait(self) -> ExitStatus:
        await self._ended.wait()
        assert self.exit is not None
        return self.exit

    def signal(self, number: int) -> None:
        """Send a signal to exactly this process; raises ProcessLookupError where it has ended."""
        if self.run is None or self.exit is not None or not self.run.pid_started:
            raise ProcessLookupError(3, "No such process")
        send_signal(self.run.pid, self.run.pid_started, number)

    def alive(self) -> bool:
        return self.run is not None and self.exit is None and start_time(self.run.pid) == self.run.pid_started


class Task(Unit):
    """A container's task with its execs."""

    def __init__(self, bundle: Bundle, hub: Hub, intent: Intent, hierarchies: Hierarchies) -> None:
        super().__init__(bundle, hub)
        self.intent = intent
        self.tty = intent.tty
        self.hierarchies = hierarchies
        self.paused = False
        self.execs: dict[str, Unit] = {}
        self.lock = asyncio.Lock()

    def complete(self, status: ExitStatus) -> ExitStatus:
        # The cgroup stays until the task is deleted, so the kernel can still be asked.
        killed = self.hierarchies.oom_killed(self.intent.cgroup)
        return msgspec.structs.replace(status, oom_killed=True) if killed else status

    def state(self) -> TaskState:
        if self.exit is not None:
            return TaskState("stopped", 0, self.exit)
        if self.run is None or not self.run.pid:
            return TaskState("created", 0)
        if self.paused:
            return TaskState("paused", self.run.pid)
        return TaskState("running" if self.bundle.started else "created", self.run.pid)


def pidfile_number(bundle: Bundle) -> int:
    """The process id that the runtime wrote, 0 where it did not come so far."""
    try:
        return int(bundle.pidfile.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0
