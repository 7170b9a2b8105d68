"""Exec: further processes in running containers."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from gantry import faults
from gantry.aio import TaskOwner
from gantry.engine.lifecycle import Lifecycle
from gantry.engine.merge import DEFAULT_PATH, merge_env
from gantry.engine.registry import Registry
from gantry.engine.streams import parse_keys
from gantry.errors import Conflict, GantryError, InvalidArgument, NotFound
from gantry.model.container import Container, Phase
from gantry.model.identity import new_id
from gantry.model.task import ExecSpec, ProcessSpec
from gantry.ports import AttachStream, Runtime, TaskStreams

KEPT = 256  # ended execs that can still be inspected


class ExecRequest(msgspec.Struct, frozen=True):
    """`POST /containers/{id}/exec` after decoding. `console_size` is height and width."""

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
    watch: asyncio.Task[None] | None = None
    """Ends when the process has ended and its event is told."""


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
        """Raises NotFound; an exec of a container that has ended is gone, too."""
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def of(self, container_id: str) -> list[str]:
        """The execs of a container that have not ended."""
        return [e.id for e in self._execs.values() if e.container_id == container_id and e.exit_code is None]

    async def create(self, name: str, request: ExecRequest) -> Exec:
        """Raises InvalidArgument, NotFound and Conflict."""
        if not request.cmd:
            raise InvalidArgument("No exec command specified")
        container = running(self._registry.get(name))
        if request.detach_keys:
            parse_keys(request.detach_keys)
        merge_env([], request.env or [])
        if request.user:
            await self._runtime.check_user(container.id, request.user)
        made = Exec(new_id(), container.id, request)
        ended = [e.id for e in self._execs.values() if e.exit_code is not None]
        for old in ended[: max(0, len(ended) - KEPT)]:
            del self._execs[old]
        self._execs[made.id] = made
        self._lifecycle.publish(container, f"exec_create: {_command(request.cmd)}", execID=made.id)
        return made

    def check(self, made: Exec) -> Container:
        """The container of an exec that may be started; raises Conflict otherwise."""
        if made.started:
            state = "is already running" if made.running else "has already run"
            raise Conflict(f"exec command {made.id} {state}")
        return running(self._registry.get(made.container_id))

    async def start(
        self, made: Exec, *, detach: bool, console_size: tuple[int, int] | None = None
    ) -> AttachStream | None:
        """Start the process; returns its streams, connected before it runs, or None where detached."""
        container = self.check(made)
        made.started = made.running = True
        request = made.request
        try:
            process = _process(container, request, console_size, self._lifecycle.connections.variables(container))
            state = await self._runtime.exec(ExecSpec(container.id, made.id, process, detached=detach))
            made.pid = state.pid
            faults.point("exec.started")
            stream = None if detach else await self._streams.attach(container.id, made.id, stdin=request.attach_stdin)
        except BaseException as error:
            made.running = False
            made.exit_code = _exit_code_of(error.message) if isinstance(error, GantryError) else 126
            raise
        self._lifecycle.publish(container, f"exec_start: {_command(request.cmd)}", execID=made.id)
        made.watch = self._owner.spawn(self._watch(container, made), name=f"exec {made.id[:12]}")
        return stream

    async def _watch(self, container: Container, made: Exec) -> None:
        await self.settled(made)
        if container.id in self._registry:
            self._lifecycle.publish(
                self._registry.get(container.id), "exec_die", execID=made.id, exitCode=str(made.exit_code)
            )

    async def settled(self, made: Exec) -> None:
        """Wait until the exit code is known; called when the output has ended."""
        try:
            status = await self._runtime.wait(made.container_id, made.id)
            code = status.code
        except GantryError:
            code = 137  # the container is gone, and this process with it
        made.running, made.exit_code = False, code

    async def run(
        self, container: Container, request: ExecRequest, output: bytearray, limit: int, seconds: float
    ) -> int:
        """Run a command to its end, with its output (at most `limit` bytes) in `output`; returns its exit code.

        Raises TimeoutError after `seconds`, when it has been killed, and GantryError where it cannot be started.
        """
        made = await self.create(container.id, request)
        try:
            async with asyncio.timeout(seconds):
                stream = await self.start(made, detach=False)
                assert stream is not None
                try:
                    async for _, data in stream:
                        output += data[: limit - len(output)]
                finally:
                    await stream.close()
                assert made.watch is not None
                await asyncio.shield(made.watch)  # what the caller tells of the result comes after the end's own event
        except TimeoutError:
            with suppress(GantryError):  # it ended just now
                await self._runtime.kill(container.id, int(signal.SIGKILL), made.id)
            raise
        finally:
            if not made.running:
                self._execs.pop(made.id, None)
        return made.exit_code or 0

    def detached(self, made: Exec) -> None:
        """The client left by its detach keys; the process goes on."""
        if made.container_id in self._registry:
            self._lifecycle.publish(self._registry.get(made.container_id), "exec_detach", execID=made.id)

    async def resize(self, made: Exec, height: int, width: int) -> None:
        """Raises NotFound where the process does not run."""
        if not made.running:
            raise NotFound(f"NotFound: process does not exist {made.id}: not found")
        await self._streams.resize(made.container_id, height, width, made.id)

    def forget(self, container_id: str) -> None:
        """The container is gone."""
        for exec_id in [e.id for e in self._execs.values() if e.container_id == container_id]:
            del self._execs[exec_id]


def running(container: Container) -> Container:
    """The container, where an exec can run in it; raises Conflict otherwise."""
    if container.status.phase == Phase.PAUSED:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    if container.status.phase == Phase.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if container.status.phase != Phase.RUNNING:
        raise Conflict(f"container {container.id} is not running")
    return container


def _process(
    container: Container, request: ExecRequest, console_size: tuple[int, int] | None, linked: list[str]
) -> ProcessSpec:
    env = [DEFAULT_PATH]
    if container.config.hostname:
        env.append(f"HOSTNAME={container.config.hostname}")
    if request.tty:
        env.append("TERM=xterm")
    size = request.console_size or [0, 0]
    asked = (size[0], size[1]) if len(size) == 2 and size[0] and size[1] else None
    return ProcessSpec(
        args=tuple(request.cmd),
        env=tuple(merge_env(merge_env([*env, *linked], container.config.env or []), request.env or [])),
        cwd=request.working_dir or container.config.working_dir or "/",
        user=request.user or container.config.user,
        groups=tuple(container.host_config.group_add or ()),
        tty=request.tty,
        stdin=request.attach_stdin,
        privileged=request.privileged,
        console_size=console_size or asked,
    )


def _exit_code_of(text: str) -> int:
    """The exit code of an exec that could not be started (Docker's rule on the runtime's words)."""
    words = text.lower()
    if "permission denied" in words or "is a directory" in words:
        return 126
    if "executable file not found" in words or "no such file or directory" in words:
        return 127
    return 128


def _command(words: Sequence[str]) -> str:
    """Program and arguments as the events show them: a blank stands between the two also where there is no argument."""
    return f"{words[0]} {' '.join(words[1:])}"
