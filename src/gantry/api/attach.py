"""What a container writes and reads, over the Engine API: attach, logs, statistics."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

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
        async for entry in self._containers.logs(container, query):
            await connection.write(frame(entry.stream, entry.data) if framed else entry.data)

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
        entries = self._containers.logs(container, query)
        first = await anext(entries, None) if not query.follow else None  # an error is an answer, not a broken stream
        tty, times = container.config.tty, boolean(request, "timestamps")
        response = web.StreamResponse(headers={"Content-Type": stream_type(request, tty=tty)})
        await response.prepare(request)
        line_start: dict[int, bool] = {}
        with contextlib.suppress(ConnectionResetError):
            async for entry in _chain(first, entries):
                data = _stamped(entry, line_start) if times else entry.data
                await response.write(data if tty else frame(entry.stream, data))
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
            return web.Response(body=msgspec.json.encode(sample) + b"\n", content_type="application/json")
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


async def _chain(first: LogEntry | None, rest: AsyncIterator[LogEntry]) -> AsyncIterator[LogEntry]:
    if first is not None:
        yield first
    async for entry in rest:
        yield entry


def _moment(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    return moment(text) if text not in ("", "0") else 0


def _stamped(entry: LogEntry, line_start: dict[int, bool]) -> bytes:
    """The entry with its time in front, once for each line."""
    first = line_start.get(entry.stream, True)
    line_start[entry.stream] = entry.data.endswith(b"\n")
    return timestamp.rfc3339_fixed(entry.time).encode() + b" " + entry.data if first else entry.data
