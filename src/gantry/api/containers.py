"""The `/containers` operations of the Engine API."""

import asyncio
import contextlib
import json
import re
from typing import Any

import msgspec
from aiohttp import web

from gantry.api.filters import ContainerFilter, prune_filter
from gantry.api.query import boolean, filters, integer, json_body
from gantry.api.routing import Route, api_version
from gantry.api.stream import hijack
from gantry.engine.containers import Containers
from gantry.engine.streams import DEFAULT_DETACH_KEYS, Pump, frame, parse_keys
from gantry.errors import Conflict, GantryError, InvalidArgument
from gantry.model.container import Container, HostConfig, Phase
from gantry.model.platform import Platform
from gantry.model.timestamp import rfc3339
from gantry.ports import LogEntry, LogQuery
from gantry.wire import containers as wire
from gantry.wire.images import apply_changes
from gantry.wire.times import moment

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_CONDITIONS = ("not-running", "next-exit", "removed")


def stream_type(request: web.Request, *, tty: bool) -> str:
    """The content type of a stream: API 1.42 and newer name the multiplexed form."""
    return MULTIPLEXED if not tty and api_version(request) >= (1, 42) else RAW


def routes(containers: Containers) -> list[Route]:
    h = _Handlers(containers)
    return [
        Route("GET", "/containers/json", h.list),
        Route("POST", "/containers/create", h.create),
        Route("POST", "/containers/prune", h.prune),
        Route("GET", "/containers/{id}/json", h.inspect),
        Route("POST", "/containers/{id}/start", h.start),
        Route("POST", "/containers/{id}/stop", h.stop),
        Route("POST", "/containers/{id}/restart", h.restart),
        Route("POST", "/containers/{id}/kill", h.kill),
        Route("POST", "/containers/{id}/pause", h.pause),
        Route("POST", "/containers/{id}/unpause", h.unpause),
        Route("POST", "/containers/{id}/rename", h.rename),
        Route("POST", "/containers/{id}/update", h.update),
        Route("POST", "/containers/{id}/resize", h.resize),
        Route("POST", "/containers/{id}/wait", h.wait),
        Route("POST", "/containers/{id}/attach", h.attach),
        Route("GET", "/containers/{id}/logs", h.logs),
        Route("GET", "/containers/{id}/top", h.top),
        Route("GET", "/containers/{id}/stats", h.stats),
        Route("GET", "/containers/{id}/changes", h.changes),
        Route("DELETE", "/containers/{id}", h.remove),
        Route("POST", "/commit", h.commit),
    ]


class _Handlers:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._life = containers.lifecycle

    def _get(self, request: web.Request) -> Container:
        return self._containers.get(request.match_info["id"])

    async def create(self, request: web.Request) -> web.StreamResponse:
        config, host, endpoints = wire.decode_create(await json_body(request))
        text = request.query.get("platform", "")
        container, warnings = await self._containers.create(
            request.query.get("name", ""), config, host, endpoints, Platform.parse(text) if text else None
        )
        return web.json_response({"Id": container.id, "Warnings": warnings}, status=201)

    async def list(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        limit = integer(request, "limit")
        match = ContainerFilter(wanted, self._containers)
        everything = boolean(request, "all") or limit > 0 or match.names_a_state
        answer: list[dict[str, Any]] = []
        for container in sorted(self._containers.registry, key=lambda c: c.created_at, reverse=True):
            if not (everything or container.status.running) or not match(container):
                continue
            size = await self._containers.size(container) if boolean(request, "size") else None
            answer.append(
                wire.summary(container, self._life.endpoints.get(container.id, {}), api_version(request), size)
            )
            if 0 < limit <= len(answer):
                break
        return web.json_response(answer)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        size = await self._containers.size(container) if boolean(request, "size") else None
        return web.json_response(
            wire.inspect(
                container,
                self._life.endpoints.get(container.id, {}),
                self._life.sandboxes.get(container.id),
                self._containers.execs.of(container.id),
                api_version(request),
                size,
            )
        )

    async def start(self, request: web.Request) -> web.StreamResponse:
        await self._life.start(self._get(request))
        return web.Response(status=204)

    async def stop(self, request: web.Request) -> web.StreamResponse:
        await self._life.stop(self._get(request), _timeout(request), request.query.get("signal", ""))
        return web.Response(status=204)

    async def restart(self, request: web.Request) -> web.StreamResponse:
        await self._life.restart(self._get(request), _timeout(request), request.query.get("signal", ""))
        return web.Response(status=204)

    async def kill(self, request: web.Request) -> web.StreamResponse:
        await self._life.kill(self._get(request), request.query.get("signal", ""))
        return web.Response(status=204)

    async def pause(self, request: web.Request) -> web.StreamResponse:
        await self._life.pause(self._get(request))
        return web.Response(status=204)

    async def unpause(self, request: web.Request) -> web.StreamResponse:
        await self._life.unpause(self._get(request))
        return web.Response(status=204)

    async def rename(self, request: web.Request) -> web.StreamResponse:
        await self._containers.rename(self._get(request), request.query.get("name", ""))
        return web.Response(status=204)

    async def update(self, request: web.Request) -> web.StreamResponse:
        plain = wire.plain_object(await json_body(request))
        decoded = wire.convert(plain, HostConfig)
        names = {field.encode_name: field.name for field in msgspec.structs.fields(HostConfig)}
        changes = {
            names[key]: getattr(decoded, names[key])
            for key in plain
            if key in names and (getattr(decoded, names[key]) or key in ("PidsLimit", "OomKillDisable"))
        }
        if "restart_policy" in changes and not changes["restart_policy"].name:
            del changes["restart_policy"]
        warnings = await self._containers.update(self._get(request), changes)
        return web.json_response({"Warnings": warnings or None})

    async def resize(self, request: web.Request) -> web.StreamResponse:
        height, width = size_of(request)
        await self._containers.resize(self._get(request), height, width)
        return web.Response(status=200)

    async def wait(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        condition = request.query.get("condition", "") or "not-running"
        if condition not in _CONDITIONS:
            raise InvalidArgument(f'invalid condition: "{condition}"')
        future = self._life.waiter(container, condition)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        # The head goes out at once: a client starts the container only when it knows that the wait has begun.
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            await response.write(b"")
            code = await future
            await response.write(json.dumps({"StatusCode": code}).encode() + b"\n")
            await response.write_eof()
        return response

    async def attach(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        if container.status.phase == Phase.PAUSED:
            raise Conflict(f"Container {container.id} is paused, unpause the container before attach.")
        if container.status.phase == Phase.RESTARTING:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running.")
        keys = parse_keys(request.query.get("detachKeys") or DEFAULT_DETACH_KEYS)
        tty = container.config.tty
        live = boolean(request, "stream")
        stdin = boolean(request, "stdin") and container.config.open_stdin and live
        connection = await hijack(request, stream_type(request, tty=tty))
        self._life.publish(container, "attach")
        if boolean(request, "logs"):
            async for entry in self._containers.logs(container, LogQuery()):
                await connection.write(entry.data if tty else frame(entry.stream, entry.data))
        if not live:
            await connection.close()
            return connection.response
        try:
            stream = await self._life.attach(container, stdin=stdin)
        except GantryError:
            await connection.close()
            return connection.response
        detached = await Pump(
            connection,
            stream,
            tty=tty,
            stdin=stdin,
            stdout=boolean(request, "stdout"),
            stderr=boolean(request, "stderr"),
            keys=keys if tty else b"",
        ).run()
        if detached:
            self._life.publish(container, "detach")
        return connection.response

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
            tail=int(tail) if tail.isdecimal() else -1,
            since=_moment(request, "since"),
            until=_moment(request, "until"),
        )
        tty = container.config.tty
        times = boolean(request, "timestamps")
        response = web.StreamResponse(headers={"Content-Type": stream_type(request, tty=tty)})
        await response.prepare(request)
        line_start: dict[int, bool] = {}
        with contextlib.suppress(ConnectionResetError):
            async for entry in self._containers.logs(container, query):
                data = _stamped(entry, line_start) if times else entry.data
                await response.write(data if tty else frame(entry.stream, data))
            await response.write_eof()
        return response

    async def top(self, request: web.Request) -> web.StreamResponse:
        arguments = request.query.get("ps_args", "")
        if re.search(r"(^|\s)-?[a-zA-Z]*o\s*pid=", arguments):
            raise InvalidArgument("Couldn't find PID field in ps output")
        titles, rows = await self._containers.top(self._get(request), arguments)
        return web.json_response({"Titles": titles, "Processes": rows})

    async def stats(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        stream = boolean(request, "stream", True)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        before = await self._sample(container)
        if not stream and not boolean(request, "one-shot"):
            await asyncio.sleep(1)
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            while True:
                now = await self._sample(self._containers.get(container.id))
                if before.get("cpu_stats"):
                    now["precpu_stats"], now["preread"] = before["cpu_stats"], before["read"]
                await response.write(json.dumps(now).encode() + b"\n")
                if not stream:
                    break
                before = now
                await asyncio.sleep(1)
                if container.id not in self._containers.registry:
                    break
            await response.write_eof()
        return response

    async def _sample(self, container: Container) -> dict[str, Any]:
        from gantry.model.timestamp import now

        zero = "0001-01-01T00:00:00Z"
        numbers = await self._containers.stats(container)
        return {
            "name": f"/{container.name}",
            "id": container.id,
            "read": rfc3339(now()) if numbers else zero,
            "preread": zero,
            "pids_stats": {},
            "blkio_stats": {},
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": {},
            "precpu_stats": {},
            "memory_stats": {},
            **numbers,
        }

    async def changes(self, request: web.Request) -> web.StreamResponse:
        found = await self._containers.changes(self._get(request))
        return web.json_response([{"Path": path, "Kind": kind} for kind, path in found])

    async def remove(self, request: web.Request) -> web.StreamResponse:
        if boolean(request, "link"):
            raise InvalidArgument("links are not supported")
        container = self._get(request)
        await self._life.remove(container, force=boolean(request, "force"), volumes=boolean(request, "v"))
        self._containers.execs.forget(container.id)
        return web.Response(status=204)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        removed, freed = await self._containers.prune(prune_filter(filters(request)))
        return web.json_response({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})

    async def commit(self, request: web.Request) -> web.StreamResponse:
        container = self._containers.get(request.query.get("container", ""))
        body = await json_body(request)
        config = wire.decode_create(body)[0] if body.strip() not in (b"", b"null") else container.config
        if not config.cmd and not config.entrypoint:
            config = container.config
        config = apply_changes(config, request.query.getall("changes", []))
        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        image = await self._containers.commit(
            container,
            config,
            reference=f"{repository}:{tag}" if repository and tag else repository,
            author=request.query.get("author", ""),
            comment=request.query.get("comment", ""),
            pause=boolean(request, "pause", True),
        )
        return web.json_response({"Id": image.id}, status=201)


def size_of(request: web.Request) -> tuple[int, int]:
    """Height and width of a terminal from the query; raises InvalidArgument."""
    found = []
    for name in ("h", "w"):
        text = request.query.get(name, "")
        if not text.isdecimal() or int(text) > 65535:
            raise InvalidArgument(f'strconv.ParseUint: parsing "{text}": invalid syntax')
        found.append(int(text))
    return found[0], found[1]


def _timeout(request: web.Request) -> int | None:
    return integer(request, "t") if request.query.get("t") else None


def _moment(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    return moment(text) if text not in ("", "0") else 0


def _stamped(entry: LogEntry, line_start: dict[int, bool]) -> bytes:
    """The entry with its time in front, once for each line."""
    first = line_start.get(entry.stream, True)
    line_start[entry.stream] = entry.data.endswith(b"\n")
    return rfc3339(entry.time).encode() + b" " + entry.data if first else entry.data
