"""An upload as a file: the event loop puts chunks in, a thread reads them out, and neither runs ahead of the other."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, TypeVar, cast

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import InvalidArgument

T = TypeVar("T")

_HIGH, _LOW = 8 << 20, 4 << 20  # bytes that wait for the reader before the sender pauses, and goes on
_BATCH = 1 << 20  # bytes before the reader is woken: two threads that wake each other per packet do little else


class Upload:
    """The reader's side is a binary file that only knows `read`; an upload that breaks off raises InvalidArgument."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failed = False
        self._unread = threading.Condition()
        self._room = asyncio.Event()
        self._room.set()

    async def fill(self, chunks: AsyncIterator[bytes]) -> None:
        """Take everything that comes. Its end, good or bad, is what the reader sees."""
        failed = True
        try:
            async for chunk in chunks:
                if chunk:
                    self._put(chunk)
                    await self._room.wait()
            failed = False
        except (OSError, EOFError, asyncio.IncompleteReadError):
            return  # the client is gone
        finally:
            with self._unread:
                self._ended, self._failed = True, failed
                self._unread.notify()

    def _put(self, chunk: bytes) -> None:
        with self._unread:
            self._chunks.append(chunk)
            self._size += len(chunk)
            if self._size > _HIGH:
                self._room.clear()
            if self._size >= _BATCH:
                self._unread.notify()

    def read(self, size: int = -1) -> bytes:
        """Blocking: `size` bytes or a batch of them, less only at the end; everything where `size` is negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_LOW), b""))
        with self._unread:
            while self._size < min(size, _BATCH) and not self._ended:
                self._unread.wait()
            if not self._chunks:
                if self._failed:
                    raise InvalidArgument("unexpected EOF")
                return b""
            taken, room = [], size
            while self._chunks and room:
                chunk = self._chunks.popleft()
                if len(chunk) > room:
                    self._chunks.appendleft(chunk[room:])
                    chunk = chunk[:room]
                taken.append(chunk)
                room -= len(chunk)
            before, self._size = self._size, self._size - (size - room)
            resume = before > _LOW >= self._size
        if resume:
            self._loop.call_soon_threadsafe(self._room.set)
        return taken[0] if len(taken) == 1 else b"".join(taken)


async def consume(chunks: AsyncIterator[bytes], reader: Callable[[BinaryIO], T]) -> T:
    """Run blocking `reader` on an upload while it comes in; what `reader` leaves is not waited for."""
    upload = Upload()
    async with TaskOwner("upload") as owner:
        owner.spawn(upload.fill(chunks))
        return await run_blocking(reader, cast("BinaryIO", upload))
