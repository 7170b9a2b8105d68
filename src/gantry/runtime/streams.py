"""Standard streams: one connection to conmon's attach socket, shared by everyone who is attached.

conmon closes a process's standard input when any of its clients goes away, and blocks while a client does
not read. So the daemon is its only client; the readers here get every frame, and the slowest of them sets
the pace, up to the process itself.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from gantry.errors import Conflict

_FRAME_LIMIT = 64 << 10  # more than any conmon puts in one packet
_WRITE_LIMIT = 8 << 10  # what every conmon takes in one packet
_QUEUE_LIMIT = 64  # frames that wait for one reader before conmon has to wait
_STDERR = 3  # conmon's mark; 2 is standard output


def connect(directory: Path) -> socket.socket:
    """Connect to the attach socket in `directory`, however long its path is; raises OSError."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{handle}/attach")
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(handle)


class Attachment:
    """One reader of a task's streams (`ports.AttachStream`)."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._frames: deque[tuple[int, bytes]] = deque()
        self._more = asyncio.Event()
        self._ended = False

    @property
    def full(self) -> bool:
        return len(self._frames) >= _QUEUE_LIMIT

    def put(self, frame: tuple[int, bytes]) -> None:
        self._frames.append(frame)
        self._more.set()

    def end(self) -> None:
        self._ended = True
        self._more.set()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._hub.resume()
                yield frame
            if self._ended:
                return
            self._more.clear()
            await self._more.wait()

    async def write(self, data: bytes) -> None:
        await self._hub.write(data)

    async def close_stdin(self) -> None:
        await self._hub.close_stdin()

    async def close(self) -> None:
        self._frames.clear()
        self.end()
        self._hub.detach(self)


class Hub:
    """The daemon's connection to one task, open while somebody is attached (or as long as `keep` says)."""

    def __init__(self, directory: Path, *, stdin: bool, tty: bool, keep: bool) -> None:
        self._directory = directory
        self._stdin = stdin
        self._tty = tty
        self._keep = keep
        self._connection: socket.socket | None = None
        self._reading = False
        self._readers: set[Attachment] = set()
        self._writing = asyncio.Lock()
        self._first: Attachment | None = None
        self.ended = False

    def attach(self) -> Attachment:
        """A new reader, of output from now on; raises Conflict where the task's streams have ended."""
        if self._first is not None:
            held, self._first = self._first, None
            return held
        if self._connection is None:
            if self.ended:
                raise Conflict("the process has ended")
            try:
                self._connection = connect(self._directory)
            except OSError as error:
                raise Conflict(f"cannot attach: {error.strerror}") from error
        attachment = Attachment(self)
        self._readers.add(attachment)
        self.resume()
        return attachment

    def hold(self) -> None:
        """Connect before the process starts and keep its output for the first `attach`."""
        self._first = self.attach()

    def resume(self) -> None:
        """Read again where no reader is behind."""
        if self._connection is not None and not self._reading and not any(reader.full for reader in self._readers):
            asyncio.get_running_loop().add_reader(self._connection.fileno(), self._readable)
            self._reading = True

    def _pause(self) -> None:
        if self._connection is not None and self._reading:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._reading = False

    def _readable(self) -> None:
        assert self._connection is not None
        while True:
            try:
                packet = self._connection.recv(_FRAME_LIMIT)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self.end()
                return
            self._hand_out(packet)
            if any(reader.full for reader in self._readers):
                self._pause()
                return

    def _hand_out(self, packet: bytes) -> None:
        frame = (2 if packet[0] == _STDERR else 1, packet[1:])
        for reader in self._readers:
            reader.put(frame)

    def end(self) -> None:
        """The process's streams are closed: every reader comes to its end."""
        self.ended = True
        self._disconnect()
        for reader in self._readers:
            reader.end()
        self._readers.clear()

    def process_ended(self) -> None:
        """conmon is gone; what it sent is in the socket's buffer, which bounds its size: readers still get it all."""
        while self._connection is not None:
            try:
                packet = self._connection.recv(_FRAME_LIMIT)
            except OSError:
                break
            if not packet:
                break
            self._hand_out(packet)
        self.end()

    def _disconnect(self) -> None:
        self._pause()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def detach(self, attachment: Attachment) -> None:
        self._readers.discard(attachment)
        if self._readers or self._keep:
            self.resume()
        else:
            self._disconnect()

    async def write(self, data: bytes) -> None:
        """Pass on standard input in order, waiting while the process does not read; ignored where it is closed."""
        if not self._stdin:
            return
        async with self._writing:
            for start in range(0, len(data), _WRITE_LIMIT):
                if not await self._send(data[start : start + _WRITE_LIMIT]):
                    return

    async def _send(self, packet: bytes) -> bool:
        while (connection := self._connection) is not None:
            try:
                connection.send(packet)
            except BlockingIOError:
                await _writable(connection)
            except OSError:
                return False  # the process has closed its input, or ended: the reader side tells
            else:
                return True
        return False

    async def close_stdin(self) -> None:
        """End the process's standard input after what was written; a terminal has no end and stays."""
        if not self._stdin or self._tty:
            return
        async with self._writing:
            self._stdin = False
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_WR)


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    # A descriptor of its own: the event loop keeps reading on the connection's at the same time.
    descriptor = os.dup(connection.fileno())
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)
        os.close(descriptor)
