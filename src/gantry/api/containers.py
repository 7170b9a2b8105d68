"""The `/containers` operations of the Engine API."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

from gantry.api import attach
from gantry.api.answers import json_answer
from gantry.api.filters import ContainerFilter, prune_filter
from gantry.api.query import boolean, filters, integer, json_body
from gantry.api.routing import Route, api_version
from gantry.engine.containers import Containers
from gantry.engine.waiting import CONDITIONS
from gantry.errors import Conflict, InvalidArgument, NotFound
from gantry.model.container import Container, ContainerConfig
from gantry.model.platform import Platform
from gantry.wire import containers as wire
from gantry.wire.create import decode_config, decode_create, decode_host, plain_object
from gantry.wire.images import apply_changes


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
        Route("GET", "/containers/{id}/top", h.top),
        Route("GET", "/containers/{id}/changes", h.changes),
        Route("DELETE", "/containers/{id}", h.remove),
        Route("POST", "/commit", h.commit),
        *attach.routes(containers),
    ]


class _Handlers:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._life = containers.lifecycle

    def _get(self, request: web.Request) -> Container:
        return self._containers.get(request.match_info["id"])

    async def create(self, request: web.Request) -> web.StreamResponse:
        asked = decode_create(await json_body(request), api_version(request))
        text = request.query.get("platform", "")
        platform = Platform.parse(text) if text else None
        container, warnings = await self._containers.create(
            request.query.get("name", ""), asked.config, asked.host, asked.endpoints, platform
        )
        return json_answer({"Id": container.id, "Warnings": [*asked.warnings, *warnings]}, status=201)

    async def list(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        limit = integer(request, "limit")
        match = ContainerFilter(wanted, self._containers)
        everything = boolean(request, "all") or limit > 0 or match.names_a_state
        answer: list[dict[str, Any]] = []
        for container in sorted(self._containers.registry, key=lambda c: (c.created_at, c.id), reverse=True):
            if not (everything or container.status.running) or not match(container):
                continue
            size = await self._containers.size(container) if boolean(request, "size") else None
            answer.append(
                wire.summary(container, self._life.endpoints.get(container.id, {}), api_version(request), size)
            )
            if 0 < limit <= len(answer):
                break
        return json_answer(answer)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        size = await self._containers.size(container) if boolean(request, "size") else None
        return json_answer(
            wire.inspect(
                container,
                self._life.endpoints.get(container.id, {}),
                self._containers.execs.of(container.id),
                api_version(request),
                size,
                directory=str(self._containers.directory(container)),
                graph=await self._containers.graph(container),
                apparmor=self._containers.apparmor_profile(container),
            )
        )

    async def start(self, request: web.Request) -> web.StreamResponse:
        await self._life.start(self._get(request))
        return web.Response(status=204)

    async def stop(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        with _named("cannot stop container", request):
            await self._life.stop(container, _timeout(request), request.query.get("signal", ""))
        return web.Response(status=204)

    async def restart(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        with _named("cannot restart container", request):
            await self._life.restart(container, _timeout(request), request.query.get("signal", ""))
        return web.Response(status=204)

    async def kill(self, request: web.Request) -> web.StreamResponse:
        with _named("cannot kill container", request):
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
        asked = decode_host(plain_object(await json_body(request) or b"{}", "container.UpdateConfig"))
        warnings = await self._containers.update(self._get(request), asked)
        return json_answer({"Warnings": warnings or None})

    async def resize(self, request: web.Request) -> web.StreamResponse:
        height, width = size_of(request)
        await self._containers.resize(self._get(request), height, width)
        return web.Response(status=200)

    async def wait(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        condition = request.query.get("condition", "") or "not-running"
        if condition not in CONDITIONS:
            raise InvalidArgument(f'invalid condition: "{condition}"')
        future = self._life.waiters.wait(container, condition)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            # The head goes out at once: a client starts the container only when it knows that the wait has begun.
            await response.prepare(request)
            with contextlib.suppress(ConnectionResetError):
                code, error = await future
                answer: dict[str, Any] = {"StatusCode": code}
                if error:
                    answer["Error"] = {"Message": error}
                await response.write(msgspec.json.encode(answer) + b"\n")
                await response.write_eof()
        finally:
            future.cancel()
        return response

    async def top(self, request: web.Request) -> web.StreamResponse:
        titles, rows = await self._containers.top(self._get(request), request.query.get("ps_args", ""))
        return json_answer({"Titles": titles, "Processes": rows})

    async def changes(self, request: web.Request) -> web.StreamResponse:
        found = await self._containers.changes(self._get(request))
        return json_answer([{"Path": path, "Kind": kind} for kind, path in found] or None)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        if boolean(request, "link"):
            raise Conflict("Conflict, cannot remove the default link name of the container")
        await self._life.remove(
            self._get(request),
            force=boolean(request, "force"),
            volumes=boolean(request, "v"),
            shown=request.match_info["id"],
        )
        return web.Response(status=204)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        removed, freed = await self._containers.prune(prune_filter(filters(request)))
        return json_answer({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})

    async def commit(self, request: web.Request) -> web.StreamResponse:
        container = self._containers.get(request.query.get("container", ""))
        body = await json_body(request)
        config = decode_config(plain_object(body)) if body.strip() else None
        changes = request.query.getall("changes", [])

        def change(base: ContainerConfig) -> ContainerConfig:
            return apply_changes(base, changes)

        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        image = await self._containers.commit(
            container,
            config,
            change,
            reference=f"{repository}:{tag}" if repository and tag else repository,
            author=request.query.get("author", ""),
            comment=request.query.get("comment", ""),
            pause=boolean(request, "pause", True),
        )
        return json_answer({"Id": image.id}, status=201)


@contextlib.contextmanager
def _named(what: str, request: web.Request) -> Iterator[None]:
    """Puts before an error what was tried, on which container, as the user called it."""
    try:
        yield
    except (InvalidArgument, NotFound, Conflict) as error:
        raise type(error)(f"{what}: {request.match_info['id']}: {error.message}") from error


def size_of(request: web.Request) -> tuple[int, int]:
    """Height and width of a terminal from the query; raises InvalidArgument."""
    found = []
    for name, words in (("h", "height"), ("w", "width")):
        text = request.query.get(name, "")
        if not (text.isascii() and text.isdecimal()):
            raise InvalidArgument(f'invalid resize {words} "{text}": invalid syntax')
        if int(text) > 65535:
            raise InvalidArgument(f'invalid resize {words} "{text}": value out of range')
        found.append(int(text))
    return found[0], found[1]


def _timeout(request: web.Request) -> int | None:
    return integer(request, "t") if request.query.get("t") else None
