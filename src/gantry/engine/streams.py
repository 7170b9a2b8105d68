"""Between a client's connection and a process's streams: frames, standard input, detach keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gantry.aio import TaskOwner
from gantry.errors import InvalidArgument
from gantry.ports import AttachStream

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


class Connection(Protocol):
    """A connection that was taken over (implemented by `api.stream`)."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...


def parse_keys(text: str) -> bytes:
    """The bytes of a key sequence such as `ctrl-p,ctrl-q` or `a,ctrl-[`; raises InvalidArgument."""
    codes = bytearray()
    for part in text.split(","):
        if len(part) == 1 and part.isascii():
            codes.append(ord(part))
            continue
        name = part.removeprefix("ctrl-")
        if name == part or len(name) != 1 or name not in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            raise InvalidArgument(f"invalid detach keys ({text}): Unknown character: '{part}'")
        codes.append(ord(name.upper()) & 0x1F)
    return bytes(codes)


class KeyFilter:
    """Finds the detach sequence in what is typed; what only looked like its beginning is passed on."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the whole sequence was typed."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._held]
            self._held = 1 if byte == self._keys[0] else 0
            if not self._held:
                passed.append(byte)
        return bytes(passed), False


def frame(stream: int, data: bytes) -> bytes:
    """One frame of the multiplexed stream: kind, three zero bytes, the length in four."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Pump:
    """Carries one attachment until the process's output ends, the client leaves, or detaches."""

    def __init__(
        self,
        connection: Connection,
        stream: AttachStream,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        keys: bytes = b"",
        close_stdin: bool = True,
        websocket: bool = False,
    ) -> None:
        """With `close_stdin`, the end of what the client sends is the end of the process's input.

        Over a WebSocket output has no frames, and a client that has closed its direction is gone.
        """
        self._connection = connection
        self._stream = stream
        self._tty = tty
        self._stdin = stdin
        self._websocket = websocket
        self._framed = not tty and not websocket
        self._detached = False
        self._wanted = ({1} if stdout else set()) | ({2} if stderr else set())
        self._keys = KeyFilter(keys) if keys else None
        self._close_stdin = close_stdin and stdin and not tty
        self.before_close: Callable[[], Awaitable[None]] | None = None

    async def run(self) -> bool:
        """Returns whether the client detached by its keys."""
        stopped = False
        try:
            async with TaskOwner("attach") as owner:
                output = owner.spawn(self._output())
                waiting: set[asyncio.Task[bool]] = {output}
                if self._stdin or self._websocket:
                    waiting.add(owner.spawn(self._input()))
                while output in waiting and not stopped:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    stopped = any(task.result() for task in done if not task.cancelled() and not task.exception())
            if not stopped and self.before_close is not None and output not in waiting:
                await self.before_close()  # whoever sees the end may ask for the exit code at once
        finally:
            if self._close_stdin:
                await self._stream.close_stdin()  # also where the client was cut off
            await self._stream.close()
            await self._connection.close()
        return self._detached

    async def _output(self) -> bool:
        async for kind, data in self._stream:
            if self._tty or kind in self._wanted:
                await self._connection.write(frame(kind, data) if self._framed else data)
        return False

    async def _input(self) -> bool:
        """Returns whether that is the end of the attachment."""
        while data := await self._connection.read():
            if self._keys is not None:
                data, self._detached = self._keys.feed(data)
            if data and self._stdin:
                await self._stream.write(data)
            if self._detached:
                return True
        if self._close_stdin:
            await self._stream.close_stdin()
        return self._websocket
