"""From a request's path to its handler: version prefix, matching, errors, and what outlives a lost client."""

import asyncio
import logging
import posixpath
import re
from collections.abc import Iterable, Mapping

from aiohttp import web

from gantry.aio import TaskOwner
from gantry.api.errors import answer, message_of, page_not_found
from gantry.api.routing import API_VERSION_KEY, Handler, Route
from gantry.api.stream import ABANDONABLE_KEY, HIJACKED_KEY, PROGRESS_KEY, JSONStream, TakenOver
from gantry.errors import GantryError, Internal
from gantry.wire.versions import MAXIMUM, PREFIX, negotiate

log = logging.getLogger(__name__)

_FIELD = re.compile(r"\{(\w+)(?::([^{}]+))?\}")
_WAITS = re.compile(r"/containers/[^/]+/wait")


class Matcher:
    """Routes by method. Exact paths stand in one table, patterns in another by their first and last segment.

    An exact path comes before patterns, a pattern with a fixed end before one that ends in a field, and
    else the one that was given first.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[tuple[str, str], Handler] = {}
        self._patterns: dict[tuple[str, str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for route in routes:
            if "{" not in route.path:
                self._exact[route.method, route.path] = route.handler
            else:
                head, last = route.path.split("/", 2)[1], route.path.rpartition("/")[2]
                key = (route.method, head, "" if "{" in last else last)
                self._patterns.setdefault(key, []).append((_pattern(route.path), route.handler))

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        if handler := self._exact.get((method, path)):
            return handler, {}
        if not path.startswith("/"):
            return None  # `OPTIONS *`
        head, last = path.split("/", 2)[1], path.rpartition("/")[2]
        for key in ((method, head, last), (method, head, "")):
            for pattern, handler in self._patterns.get(key, ()):
                if found := pattern.fullmatch(path):
                    return handler, found.groupdict()
        return None


def _pattern(path: str) -> re.Pattern[str]:
    text, end = "", 0
    for field in _FIELD.finditer(path):
        text += re.escape(path[end : field.start()]) + f"(?P<{field[1]}>{field[2] or '[^/]+'})"
        end = field.end()
    return re.compile(text + re.escape(path[end:]), re.DOTALL)


class Dispatcher:
    """The one handler behind the server: finds the route, runs it, turns every error into an answer.

    A request that changes something runs to its end when its client goes away; reads, streams of
    progress and `wait` are cancelled then.
    """

    def __init__(self, routes: Iterable[Route], headers: Mapping[str, str]) -> None:
        self.matcher = Matcher(routes)
        self._headers = dict(headers)
        self._owner = TaskOwner("requests")
        self._live: dict[asyncio.Task[web.StreamResponse], web.Request] = {}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if ("//" in path or "/." in path) and (clean := _clean(path)) != path:
            return web.Response(
                status=301, headers={"Location": str(request.rel_url.with_path(clean, keep_query=True))}
            )
        request[API_VERSION_KEY] = MAXIMUM
        try:
            if prefix := PREFIX.match(path):
                path = path[prefix.end() :]
                found = self.matcher.find(request.method, path)
                if found is not None:
                    request[API_VERSION_KEY] = negotiate(prefix[1])
            else:
                found = self.matcher.find(request.method, path)
        except GantryError as error:
            return answer(error, request)
        if found is None:
            return web.Response() if request.method == "OPTIONS" else page_not_found()
        handler, fields = found
        request.match_info.clear()
        request.match_info.update(fields)
        if request.method in ("GET", "HEAD") or _WAITS.fullmatch(path):
            return await self._run(handler, request)
        return await self._run_to_its_end(handler, request)

    async def _run_to_its_end(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        task = self._owner.spawn(self._run(handler, request), name=f"{request.method} {request.path}")
        self._live[task] = request
        task.add_done_callback(self._live.pop)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if request.get(ABANDONABLE_KEY):
                task.cancel()
            raise

    async def _run(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except asyncio.CancelledError:
            raise
        except web.HTTPException as error:
            response = error
        except ConnectionError as error:
            if request.transport is not None and not request.transport.is_closing():
                return await self._failed(request, error)
            log.debug("%s %s: the client is gone: %s", request.method, request.path, error)
            return TakenOver()
        except Exception as error:  # noqa: BLE001 - the last frontier: every error becomes an answer
            return await self._failed(request, error)
        if HIJACKED_KEY in request:
            response = request[HIJACKED_KEY]
        return response

    async def _failed(self, request: web.Request, error: Exception) -> web.StreamResponse:
        """The answer to a failed request, in the way that is left: plain, as a last message, or by hanging up."""
        progress: JSONStream | None = request.get(PROGRESS_KEY)
        taken_over = request.get(HIJACKED_KEY)
        if taken_over is None and (progress is None or not progress.begun) and not request.writer.output_size:
            return answer(error, request)
        if not isinstance(error, GantryError):
            log.error("%s %s failed after its answer had begun", request.method, request.path, exc_info=error)
        if progress is not None and progress.begun:
            await progress.fail(error if isinstance(error, GantryError) else Internal(message_of(error)))
            return await progress.finish()
        if request.transport is not None:
            request.transport.close()
        return TakenOver()

    async def add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        """aiohttp's `on_response_prepare` signal."""
        for name, value in self._headers.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = self._headers["Server"]

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109
        """Let what changes something run to its end, at most `timeout` seconds; streams end now."""
        for task, request in self._live.items():
            if request.get(ABANDONABLE_KEY) or HIJACKED_KEY in request:
                task.cancel()
        await self._owner.drain(timeout)
        await self._owner.close()


def _clean(path: str) -> str:
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean
