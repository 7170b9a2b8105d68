"""Exec: further processes in running containers."""

import msgspec

from gantry.aio import TaskOwner
from gantry.engine.lifecycle import Lifecycle
from gantry.engine.merge import DEFAULT_PATH, merge_env
from gantry.engine.registry import Registry
from gantry.errors import Conflict, GantryError, InvalidArgument, NotFound
from gantry.model.container import Container, Phase
from gantry.model.identity import new_id
from gantry.model.task import ExecSpec, ProcessSpec
from gantry.ports import AttachStream, Runtime, TaskStreams

KEPT = 256  # ended execs that can still be inspected


class ExecRequest(msgspec.Struct, frozen=True):
    """`POST /containers/{id}/exec` after decoding."""

    cmd: list[str]
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    user: str = ""
    privileged: bool = False
    working_dir: str = ""
    console_size: list[int] | None = None


class Exec(msgspec.Struct):
    """One exec; it lives in memory, as long as its container or until many later ones have ended."""

    id: str
    container_id: str
    request: ExecRequest
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    started: bool = False


class Execs:
    """Creates, starts and remembers execs."""

    def __init__(
        self, registry: Registry, lifecycle: Lifecycle, runtime: Runtime, streams: TaskStreams, owner: TaskOwner
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._runtime = runtime
        self._streams = streams
        self._owner = owner
        self._execs: dict[str, Exec] = {}

    def get(self, exec_id: str) -> Exec:
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def of(self, container_id: str) -> list[str]:
        return [e.id for e in self._execs.values() if e.container_id == container_id and e.exit_code is None]

    def create(self, name: str, request: ExecRequest) -> Exec:
        container = self._running(self._registry.get(name))
        if not request.cmd:
            raise InvalidArgument("No exec command specified")
        made = Exec(new_id(), container.id, request)
        ended = [e.id for e in self._execs.values() if e.exit_code is not None]
        for old in ended[: max(0, len(ended) - KEPT)]:
            del self._execs[old]
        self._execs[made.id] = made
        self._lifecycle.publish(container, f"exec_create: {' '.join(request.cmd)}", execID=made.id)
        return made

    @staticmethod
    def _running(container: Container) -> Container:
        if container.status.phase == Phase.PAUSED:
            raise Conflict(f"Container {container.id} is paused, unpause the container before exec")
        if container.status.phase == Phase.RESTARTING:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if container.status.phase != Phase.RUNNING:
            raise Conflict(f"container {container.id} is not running")
        return container

    def check(self, made: Exec) -> Container:
        """The container of an exec that may be started; raises Conflict otherwise."""
        container = self._running(self._registry.get(made.container_id))
        if made.started:
            state = "is already running" if made.running else "has already run"
            raise Conflict(f"Error: Exec command {made.id} {state}")
        return container

    async def start(
        self, made: Exec, *, tty: bool, detach: bool, console_size: tuple[int, int] | None = None
    ) -> AttachStream | None:
        """Start the process; returns its streams, connected before it runs, or None where detached."""
        container = self.check(made)
        made.started = True
        request = made.request
        env = [DEFAULT_PATH]
        if container.config.hostname:
            env.append(f"HOSTNAME={container.config.hostname}")
        if tty or request.tty:
            env.append("TERM=xterm")
        size = request.console_size
        process = ProcessSpec(
            args=tuple(request.cmd),
            env=tuple(merge_env(merge_env(env, container.config.env or []), request.env or [])),
            cwd=request.working_dir or container.config.working_dir or "/",
            user=request.user or container.config.user,
            groups=tuple(container.host_config.group_add or ()),
            tty=request.tty,
            stdin=request.attach_stdin,
            privileged=request.privileged,
            console_size=console_size or ((size[0], size[1]) if size and len(size) == 2 and size[0] else None),
        )
        try:
            state = await self._runtime.exec(ExecSpec(container.id, made.id, process, detached=detach))
            made.running, made.pid = True, state.pid
            stream = None if detach else await self._streams.attach(container.id, made.id, stdin=request.attach_stdin)
        except GantryError as error:
            made.running = False
            made.exit_code = 127 if "not found" in error.message or "no such file" in error.message else 126
            raise
        self._lifecycle.publish(container, f"exec_start: {' '.join(request.cmd)}", execID=made.id)
        self._owner.spawn(self._watch(container, made), name=f"exec {made.id[:12]}")
        return stream

    async def _watch(self, container: Container, made: Exec) -> None:
        status = await self._runtime.wait(container.id, made.id)
        made.running, made.exit_code = False, status.code
        if container.id in self._registry:
            self._lifecycle.publish(
                self._registry.get(container.id), "exec_die", execID=made.id, exitCode=str(status.code)
            )

    async def settled(self, made: Exec) -> None:
        """Wait until the exit code is known; called when the output has ended."""
        status = await self._runtime.wait(made.container_id, made.id)
        made.running, made.exit_code = False, status.code

    async def resize(self, made: Exec, height: int, width: int) -> None:
        if not made.running:
            raise Conflict(f"cannot resize a stopped exec: {made.id}")
        await self._streams.resize(made.container_id, height, width, made.id)

    def forget(self, container_id: str) -> None:
        for exec_id in [e.id for e in self._execs.values() if e.container_id == container_id]:
            del self._execs[exec_id]
