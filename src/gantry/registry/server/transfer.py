"""Blob bodies: sendfile from the page cache to a plain socket, blocks otherwise; ranges as HTTP has them."""

import asyncio
import io
import os
import re
import threading
from typing import BinaryIO

from aiohttp import web

from gantry.aio import run_blocking
from gantry.registry.server.errors import RegistryError

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_BLOCK = 1 << 20
_TURN = 16 << 20  # bytes that one turn on a thread may send


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """(start, length) of `Range: bytes=…` (RFC 9110, section 14); None for the whole, RANGE_INVALID for nothing."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(1, 2) == ("", ""):
        return None  # several ranges, or another unit: the whole is a good answer
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        start, end = size - length, size - 1
        satisfiable = length > 0
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < int(first):
            return None
        satisfiable = start < size
    if not satisfiable:
        raise RegistryError("RANGE_INVALID", header[:64], headers={"Content-Range": f"bytes */{size}"})
    return start, end - start + 1


async def send(
    request: web.BaseRequest, response: web.StreamResponse, source: BinaryIO, start: int, length: int, idle: float
) -> None:
    """Send `length` bytes of `source` (which stands at `start`) as the body; closes `source`.

    Raises ConnectionError where the client goes away or takes nothing for `idle` seconds; the connection is cut then.
    """
    try:
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        descriptor = _descriptor(source)
        if descriptor is None or transport.get_extra_info("sslcontext") is not None:
            await _send_blocks(response, source, length, idle)
        else:
            await _send_file(request, transport, descriptor, start, length, idle)
        await response.write_eof()
    except (ConnectionError, TimeoutError, OSError) as error:
        if request.transport is not None:
            request.transport.abort()  # the announced length cannot be kept
        raise ConnectionResetError(f"sending to {request.remote}: {error}") from error
    finally:
        await run_blocking(source.close)


def _descriptor(source: BinaryIO) -> int | None:
    try:
        return source.fileno()
    except (AttributeError, io.UnsupportedOperation, OSError):
        return None


async def _send_blocks(response: web.StreamResponse, source: BinaryIO, length: int, idle: float) -> None:
    while length:
        block = await run_blocking(source.read, min(length, _BLOCK))
        if not block:
            raise ConnectionResetError("the stored blob is shorter than it was")
        async with asyncio.timeout(idle):
            await response.write(block)
        length -= len(block)


async def _send_file(
    request: web.BaseRequest, transport: asyncio.Transport, source: int, start: int, length: int, idle: float
) -> None:
    transport.set_write_buffer_limits(0)  # "drained" means that the header is out
    try:
        async with asyncio.timeout(idle):
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)
                await request.writer.drain()
        target = _Target(transport.get_extra_info("socket").fileno())
        try:
            while length:
                sent = await run_blocking(target.push, source, start, length)
                start += sent
                length -= sent
                if length:
                    await _writable(target.descriptor, idle)
        finally:
            target.close()
    finally:
        transport.set_write_buffer_limits()


class _Target:
    """A descriptor of our own for a connection: the event loop lets nobody else wait for the transport's.

    It is never closed under a thread that still sends, as it would be when the request's task is cancelled.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = os.dup(descriptor)
        self._lock = threading.Lock()

    def push(self, source: int, start: int, length: int) -> int:
        """Send until the socket is full, or enough for one turn; how many bytes went out."""
        total = 0
        with self._lock:
            while self.descriptor >= 0 and total < min(length, _TURN):
                try:
                    sent = os.sendfile(self.descriptor, source, start + total, min(length - total, _TURN))
                except BlockingIOError:
                    break
                if not sent:
                    raise ConnectionResetError("the stored blob is shorter than it was")
                total += sent
        return total

    def close(self) -> None:
        with self._lock:
            os.close(self.descriptor)
            self.descriptor = -1


async def _writable(descriptor: int, idle: float) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def now() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, now)
    try:
        async with asyncio.timeout(idle):
            await ready
    finally:
        loop.remove_writer(descriptor)
