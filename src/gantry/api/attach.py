"""What a container writes and reads, over the Engine API: attach, logs, statistics."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.query import boolean
from gantry.api.routing import Route, api_version
from gantry.api.stream import MULTIPLEXED, RAW, frame, hijack
from gantry.api.websocket import WebSocketConnection
from gantry.engine.containers import Containers
from gantry.engine.streams import DEFAULT_DETACH_KEYS, Connection, Pump, parse_keys
from gantry.errors import Conflict, GantryError, InvalidArgument
from gantry.model import timestamp
from gantry.model.container import Container, Phase
from gantry.ports import AttachStream, LogEntry, LogQuery
from gantry.wire import containers as wire
from gantry.wire.times import moment

_STREAMS = ("stdin", "stdout", "stderr")
_WEBSOCKET_CHOOSES = (1, 42)  # older versions join all three streams, whatever the query says
_WRITE = 64 << 10
_SAMPLE_INTERVAL = 1.0  # seconds between two samples of statistics


def stream_type(request: web.Request, *, tty: bool) -> str:
    """The content type of a stream: API 1.42 and newer name the multiplexed form."""
    return MULTIPLEXED if not tty and api_version(request) >= (1, 42) else RAW


def routes(containers: Containers) -> list[Route]:
    h = _Handlers(containers)
    return [
        Route("POST", "/containers/{id}/attach", h.attach),
        Route("GET", "/containers/{id}/attach/ws", h.attach_websocket),
        Route("GET", "/containers/{id}/logs", h.logs),
        Route("GET", "/containers/{id}/stats", h.stats),
    ]


class _Handlers:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._life = containers.lifecycle

    def _get(self, request: web.Request) -> Container:
        return self._containers.get(request.match_info["id"])

    async def attach(self, request: web.Request) -> web.StreamResponse:
        container = self._attachable(request)
        keys = parse_keys(request.query.get("detachKeys") or DEFAULT_DETACH_KEYS)
        connection = await hijack(request, stream_type(request, tty=container.config.tty))
        streams = frozenset(name for name in _STREAMS if boolean(request, name))
        await self._carry(request, container, connection, streams, keys)
        return connection.response

    async def attach_websocket(self, request: web.Request) -> web.StreamResponse:
        container = self._attachable(request)
        keys = parse_keys(request.query.get("detachKeys") or DEFAULT_DETACH_KEYS)
        connection = await WebSocketConnection.open(request)
        every = api_version(request) < _WEBSOCKET_CHOOSES
        streams = frozenset(name for name in _STREAMS if every or boolean(request, name))
        await self._carry(request, container, connection, streams, keys, websocket=True)
        return connection.response

    def _attachable(self, request: web.Request) -> Container:
        container = self._get(request)
        if container.status.phase == Phase.PAUSED:
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if container.status.phase == Phase.RESTARTING:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        return container

    async def _carry(
        self,
        request: web.Request,
        container: Container,
        connection: Connection,
        streams: frozenset[str],
        keys: bytes,
        *,
        websocket: bool = False,
    ) -> None:
        """Join a connection to the container's streams until one of both ends."""
        live, tty = boolean(request, "stream"), container.config.tty
        stdin = live and "stdin" in streams and container.config.open_stdin
        stdout, stderr = "stdout" in streams, "stderr" in streams
        framed = not tty and not websocket
        self._life.publish(container, "attach")
        if not live:
            if boolean(request, "logs"):
                await self._replay(connection, container, LogQuery(stdout=stdout, stderr=stderr), framed=framed)
            await connection.close()
            return
        try:
            stream = await self._connected(container, connection, stdin=stdin)
        except GantryError:
            await connection.close()  # the start that was waited for failed, and says so itself
            return
        if boolean(request, "logs"):
            # Connected first: what is written from here on waits in the stream.
            earlier = LogQuery(stdout=stdout, stderr=stderr, until=timestamp.now())
            await self._replay(connection, container, earlier, framed=framed)
        detached = await Pump(
            connection,
            stream,
            tty=tty,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            keys=keys if tty else b"",
            close_stdin=container.config.stdin_once,
            websocket=websocket,
        ).run()
        if detached:
            self._life.publish(container, "detach")

    async def _connected(self, container: Container, connection: Connection, *, stdin: bool) -> AttachStream:
        try:
            return await self._life.attach(container, stdin=stdin)
        except asyncio.CancelledError:
            await connection.close()
            raise

    async def _replay(self, connection: Connection, container: Container, query: LogQuery, *, framed: bool) -> None:
        """Send what was written so far."""
        async for batch in self._containers.logs(container, query):
            await connection.write(b"".join(frame(e.stream, e.data) if framed else e.data for e in batch))

    async def logs(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        stdout, stderr = boolean(request, "stdout"), boolean(request, "stderr")
        if not (stdout or stderr):
            raise InvalidArgument("Bad parameters: you must choose at least one stream")
        tail = request.query.get("tail", "all")
        query = LogQuery(
            stdout=stdout,
            stderr=stderr,
            follow=boolean(request, "follow"),
            tail=min(int(tail), 1 << 31) if tail.isascii() and tail.isdecimal() else -1,
            since=_moment(request, "since"),
            until=_moment(request, "until"),
        )
        self._containers.check_logs(container)
        batches = self._containers.logs(container, query)
        first = await anext(batches, None) if not query.follow else None  # an error is an answer, not a broken stream
        prefix = self._containers.log_details(container) if boolean(request, "details") else b""
        tty, times = container.config.tty, boolean(request, "timestamps")
        response = web.StreamResponse(headers={"Content-Type": stream_type(request, tty=tty)})
        await response.prepare(request)
        line_start: dict[int, bool] = {}
        with contextlib.suppress(ConnectionResetError):
            async for batch in _chain(first, batches):
                for block in _blocks(batch, line_start, framed=not tty, times=times, prefix=prefix):
                    await response.write(block)
            await response.write_eof()
        return response

    async def stats(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        stream = boolean(request, "stream", True)
        if stream and boolean(request, "one-shot"):
            raise InvalidArgument("cannot have stream=true and one-shot=true")
        before = None
        if not stream and not boolean(request, "one-shot") and container.status.running:
            before = await self._sample(container)
            await asyncio.sleep(_SAMPLE_INTERVAL)
        if not stream:
            sample = _after(before, await self._sample(self._containers.get(container.id)))
            return json_answer(sample)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            while container.id in self._containers.registry:
                sample = await self._sample(self._containers.get(container.id))
                await response.write(msgspec.json.encode(_after(before, sample)) + b"\n")
                before = sample
                await asyncio.sleep(_SAMPLE_INTERVAL)
            await response.write_eof()
        return response

    async def _sample(self, container: Container) -> dict[str, Any]:
        return wire.stats(container, await self._containers.stats(container), timestamp.now())


def _after(before: dict[str, Any] | None, sample: dict[str, Any]) -> dict[str, Any]:
    """A sample with the one before it, from which clients compute percentages."""
    if before is None:
        return sample
    return {**sample, "precpu_stats": before["cpu_stats"], "preread": before["read"]}


async def _chain(first: list[LogEntry] | None, rest: AsyncIterator[list[LogEntry]]) -> AsyncIterator[list[LogEntry]]:
    if first is not None:
        yield first
    async for batch in rest:
        yield batch


def _blocks(
    batch: list[LogEntry], line_start: dict[int, bool], *, framed: bool, times: bool, prefix: bytes
) -> Iterator[bytes]:
    """The bytes of a batch: many entries in one write, frames of their own."""
    parts: list[bytes] = []
    size = 0
    decorated = bool(times or prefix)
    for entry in batch:
        data = entry.data
        if decorated:
            if line_start.get(entry.stream, True):
                data = (timestamp.rfc3339_fixed(entry.time).encode() + b" " if times else b"") + prefix + data
            line_start[entry.stream] = entry.data.endswith(b"\n")
        parts.append(frame(entry.stream, data) if framed else data)
        size += len(data)
        if size >= _WRITE:
            yield b"".join(parts)
            parts.clear()
            size = 0
    if parts:
        yield b"".join(parts)


def _moment(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    return moment(text) if text not in ("", "0") else 0
