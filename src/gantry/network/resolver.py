"""The daemon's end of the resolver process (`gantry.network.dns`): started when needed, found again, kept alive.

Its listening socket `<exec root>/resolver.sock` is made here and inherited by the process, so that there is no
moment at which nobody answers; it is the record of the process, too. What is to be said waits in a queue: the event
loop never waits for the process, and the start of a container does not wait for its start.
"""

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gantry
from gantry.aio import TaskOwner, run_blocking
from gantry.linux.cgroups import Hierarchies
from gantry.linux.nfnetlink import rewrite_ports
from gantry.linux.process import ENVIRONMENT, disown, spawn
from gantry.model.instance import Instance
from gantry.network.dns import control

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.11"
_PORT = 53
_TABLE = "gantry_dns"  # in the container's namespace; nothing else of ours is there
_RECEIVE_BUFFER = 1 << 20  # bytes: what waits while the process is started or another container is served
_SOCKET = "resolver.sock"
_TIMEOUT = 5.0  # seconds
_CALM = 10.0  # seconds that a process must live for the next one to be started at once
_PAUSE = 1.0  # seconds otherwise


def open_sockets(*, again: bool = False) -> tuple[int, int]:
    """Inside a container's namespace: descriptors of the UDP and TCP sockets behind 127.0.0.11, port 53.

    They have ports of their own, and port 53 is rewritten, so that the container can have it on 0.0.0.0 and even on
    127.0.0.11, as with Docker. Takes a third of a millisecond, some more `again`, where dead sockets have left their
    rules. Raises OSError.
    """
    with contextlib.ExitStack() as undo:
        udp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        udp.bind((ADDRESS, 0))
        tcp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        tcp.bind((ADDRESS, 0))
        tcp.listen(64)
        ports = {socket.IPPROTO_UDP: udp.getsockname()[1], socket.IPPROTO_TCP: tcp.getsockname()[1]}
        rewrite_ports(_TABLE, socket.inet_aton(ADDRESS), _PORT, ports, replace=again)
        return udp.detach(), tcp.detach()


class ResolverProcess:
    """`on_connected` is awaited with the sandboxes that the process holds, whenever a conversation begins."""

    def __init__(
        self, instance: Instance, tasks: TaskOwner, on_connected: Callable[[Sequence[str]], Awaitable[None]]
    ) -> None:
        self._instance = instance
        self._tasks = tasks
        self._on_connected = on_connected
        self._reader: control.Reader | None = None
        self._connection: socket.socket | None = None
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._writing = False
        self._greeting: asyncio.Future[dict[str, Any]] | None = None
        self._ended = asyncio.Event()
        self._starting = asyncio.Lock()
        self._started_at = -_CALM
        self.wanted = False
        self.connected = False
        self.pid = 0
        self._child = 0
        self._making = threading.Lock()

    # -------------------------------------------------------------------------------- beginning and end

    async def adopt(self) -> bool:
        """Connect to the process that an earlier daemon left; whether there is one that understands us."""
        async with self._starting:
            connection = await run_blocking(self._connect)
            return connection is not None and await self._greet(connection)

    async def ensure(self) -> None:
        """Start the process where none is connected. What fails is logged, and tried again when it is wanted again."""
        async with self._starting:
            if self.connected or not self.wanted:
                return
            loop = asyncio.get_running_loop()
            if loop.time() - self._started_at < _CALM:
                await asyncio.sleep(_PAUSE)
            self._started_at = loop.time()
            try:
                connection = await run_blocking(self._spawn)
            except OSError as error:
                log.error("the resolver of container names cannot be started: %s", error)  # noqa: TRY400
                return
            if not await self._greet(connection):
                log.error("the resolver of container names has ended at once")

    async def end(self) -> None:
        """Let the process end, and forget it."""
        self.wanted = False
        ending = self.pid if self.connected else 0
        if self.connected:
            self.send({"do": "end"})
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await self._ended.wait()
            except TimeoutError:
                log.warning("the resolver of container names (process %d) does not end: it is killed", self.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
        self._lose()
        await run_blocking(self._tidy, ending)

    def leave(self) -> None:
        """Let the process go on without us."""
        self.wanted = False
        self._lose()

    def _tidy(self, ending: int) -> None:
        _wait_for_exit(ending)  # its connection ends before it has left its control group
        with self._making:  # a start that was broken off goes on in its thread
            self._reap()
        if not self._instance.exec_root.is_dir():
            return
        with self._directory() as directory, contextlib.suppress(FileNotFoundError):
            os.unlink(_SOCKET, dir_fd=directory)
        hierarchies = Hierarchies.find()
        if hierarchies.foreign_groups():
            hierarchies.remove_unused(self._group)
            hierarchies.remove_empty(self._instance.cgroup_parent)  # who went before us left it for our sake

    @property
    def _group(self) -> str:
        return f"{self._instance.cgroup_parent}/resolver"

    @contextlib.contextmanager
    def _directory(self) -> Iterator[int]:
        """The exec root: a socket's path may be too long for the kernel, one that begins here never is."""
        descriptor = os.open(self._instance.exec_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_TIMEOUT)
        try:
            with self._directory() as directory:
                connection.connect(f"/proc/self/fd/{directory}/{_SOCKET}")
        except OSError:
            connection.close()
            return None
        return connection

    def _spawn(self) -> socket.socket:
        """Start the process on a new listening socket and connect to it; raises OSError."""
        with (
            self._making,
            self._directory() as directory,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        ):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_SOCKET, dir_fd=directory)
            listener.bind(f"/proc/self/fd/{directory}/{_SOCKET}")
            os.chmod(_SOCKET, 0o600, dir_fd=directory)
            listener.listen(4)
            self._reap()
            program = Path(gantry.__file__).parent / "network" / "dns" / "__main__.py"
            process = spawn(
                [sys.executable, "-I", "-S", str(program), str(listener.fileno())],
                environment=ENVIRONMENT,
                directory=Path("/"),
                keep=[listener.fileno()],
            )
            disown(process)
            self._child = process.pid
            self._separate(self._child)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(f"/proc/self/fd/{directory}/{_SOCKET}")
            return connection

    def _reap(self) -> None:
        """A child leaves its number behind until it is asked for; one that nobody told to end must go."""
        child, self._child = self._child, 0
        if child:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)

    def _separate(self, pid: int) -> None:
        """Out of the daemon's own control group: what stops the daemon must not stop the resolver."""
        hierarchies = Hierarchies.find()
        if foreign := hierarchies.foreign_groups():
            try:
                hierarchies.add(self._group, pid, foreign)
            except OSError as error:
                log.warning("the resolver (process %d) stays in the daemon's cgroup: %s", pid, error)

    # ------------------------------------------------------------------------------------- conversation

    async def _greet(self, connection: socket.socket) -> bool:
        """Begin the conversation; whether the other side speaks our version of it."""
        connection.setblocking(False)
        self._connection, self._reader = connection, control.Reader(connection)
        self._ended.clear()
        loop = asyncio.get_running_loop()
        self._greeting = loop.create_future()
        loop.add_reader(connection.fileno(), self._readable)
        try:
            async with asyncio.timeout(_TIMEOUT):
                hello = await self._greeting
        except (TimeoutError, ConnectionError):
            self._lose()
            return False
        self.connected, self.pid = True, hello["pid"]
        if hello["version"] != control.VERSION:
            log.info("the resolver of an earlier version is replaced")
            self.send({"do": "end"})
            await self._ended.wait()
            return False
        await self._on_connected(hello["sandboxes"])
        return True

    def _readable(self) -> None:
        assert self._reader is not None
        try:
            messages = self._reader.read()
        except (OSError, ValueError):
            messages = None
        if messages is None:
            self._lose()
            return
        for message in messages:
            if self._greeting is not None and not self._greeting.done():
                self._greeting.set_result(message)

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Say something, soon; the descriptors are closed then. Nothing happens where nobody is connected."""
        if not self.connected:
            for each in descriptors:
                os.close(each)
            return
        self._queue.append((control.frame(message), tuple(descriptors)))
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        connection = self._connection
        assert connection is not None
        while self._queue:
            data, descriptors = self._queue[0]
            try:
                sent = connection.sendmsg([data], control.descriptors(descriptors))
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    asyncio.get_running_loop().add_writer(connection.fileno(), self._flush)
                return
            except OSError:
                self._lose()
                return
            for each in descriptors:
                os.close(each)
            if sent < len(data):
                self._queue[0] = (data[sent:], ())
            else:
                self._queue.popleft()
        if self._writing:
            self._writing = False
            asyncio.get_running_loop().remove_writer(connection.fileno())

    def _lose(self) -> None:
        """The conversation is over; a process that is wanted is started again."""
        connection, self._connection = self._connection, None
        if connection is None or self._reader is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(connection.fileno())
        loop.remove_writer(connection.fileno())
        self._reader.close()
        for _, descriptors in self._queue:
            for each in descriptors:
                os.close(each)
        self._queue.clear()
        self._writing = self.connected = False
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(ConnectionResetError())
        self._ended.set()
        if self.wanted:
            self._tasks.spawn(self.ensure(), name="resolver")


def _wait_for_exit(pid: int) -> None:
    """Until a process that is ending, a child of ours or of an earlier daemon's, is gone; 0 for none (blocking)."""
    try:
        descriptor = os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return
    if descriptor >= 0:
        select.select([descriptor], [], [], _TIMEOUT)
        os.close(descriptor)
