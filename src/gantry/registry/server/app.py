"""The registry over HTTP: from a request to its handler, and from errors to their answers."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gantry import __version__, errors
from gantry.registry.server import names, serve_blobs, serve_manifests, urls
from gantry.registry.server.body import ClientGone
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.events import Event, Observer
from gantry.registry.server.exchange import Exchange
from gantry.registry.server.service import Service

log = logging.getLogger(__name__)
access_log = logging.getLogger("gantry.registry.access")
http_log = logging.getLogger("gantry.registry.http")

Handler = Callable[[Service, Exchange], Awaitable[web.StreamResponse]]
Timing = Callable[[str, str, int, float], None]
"""(kind of target, method, status, seconds) of each answer."""

_LINE = 16 << 10  # bytes of a request line
_FIELD = 64 << 10  # bytes of a header: bearer tokens with many scopes are long
_READ = 1 << 20
_LINGER = 2.0  # seconds that a refused body may go on before the connection is closed

_HANDLERS: Mapping[tuple[str, str], Handler] = {
    ("base", "GET"): serve_manifests.base,
    ("base", "HEAD"): serve_manifests.base,
    ("catalog", "GET"): serve_manifests.catalog,
    ("tags", "GET"): serve_manifests.tags,
    ("referrers", "GET"): serve_manifests.referrers,
    ("manifest", "GET"): serve_manifests.get,
    ("manifest", "HEAD"): serve_manifests.get,
    ("manifest", "PUT"): serve_manifests.put,
    ("manifest", "DELETE"): serve_manifests.delete,
    ("repository", "DELETE"): serve_manifests.delete_repository,
    ("blob", "GET"): serve_blobs.get,
    ("blob", "HEAD"): serve_blobs.get,
    ("blob", "DELETE"): serve_blobs.delete,
    ("uploads", "POST"): serve_blobs.start,
    ("upload", "GET"): serve_blobs.status,
    ("upload", "PATCH"): serve_blobs.patch,
    ("upload", "PUT"): serve_blobs.finish,
    ("upload", "DELETE"): serve_blobs.cancel,
}
_STATUS: tuple[tuple[type[errors.GantryError], str], ...] = (
    (errors.InvalidArgument, "UNSUPPORTED"),
    (errors.NotFound, "BLOB_UNKNOWN"),
    (errors.Unavailable, "UNAVAILABLE"),
)


class _Terse(logging.Filter):
    """What clients send wrongly is one line of the log: whoever wants could fill it with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            first = str(record.exc_info[1]).strip().splitlines() or [""]
            record.msg, record.args = "%s: %s", (record.getMessage(), first[0][:200])
            record.exc_info, record.exc_text = None, None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


http_log.addFilter(_Terse())


class App:
    """Answers requests for one `Service`. `pages` are further paths (metrics, health) that need no login."""

    def __init__(
        self,
        service: Service,
        observers: list[Observer],
        timings: list[Timing],
        handlers: Mapping[tuple[str, str], Handler] | None = None,
    ) -> None:
        self._service = service
        self._observers = observers
        self._timings = timings
        self._handlers = {**_HANDLERS, **(handlers or {})}
        self._methods: dict[str, list[str]] = {}
        for kind, method in self._handlers:
            self._methods.setdefault(kind, []).append(method)
        self.pages: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {}
        http = service.config.http
        self._prefix = http.prefix.rstrip("/")
        self._headers = {name: ", ".join(values) for name, values in http.headers.items()}
        self._headers.setdefault("X-Content-Type-Options", "nosniff")
        self._headers.setdefault("Server", f"Gantry/{__version__}")
        self._headers.setdefault("Docker-Distribution-Api-Version", "registry/2.0")
        self._active = 0
        self._ended: asyncio.Event | None = None  # set when a drain has begun and nothing is under way any more
        self._access_log = not service.config.log.accesslog.disabled

    def server(self) -> web.Server:
        """The protocol factory for `loop.create_server`."""
        header = float(self._service.config.gantry.limits.header)
        return web.Server(
            self,
            access_log=None,
            logger=http_log,
            keepalive_timeout=header,  # also what a client has for its request's head
            lingering_time=_LINGER,
            read_bufsize=_READ,
            auto_decompress=False,
            max_line_size=_LINE,
            max_field_size=_FIELD,
        )

    async def drain(self, seconds: float) -> None:
        """Wait until the requests that are under way have ended; what is answered meanwhile ends its connection.

        aiohttp's own shutdown takes no more of a request's body, so an upload could not end under it.
        """
        self._ended = asyncio.Event()
        if self._active:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ended.wait()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self._active += 1
        try:
            return await self._respond(request)
        finally:
            self._active -= 1
            if self._ended is not None and not self._active:
                self._ended.set()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request, self._tell, self._base(request), self._headers)
        try:
            response = await self._answer(exchange)
        except RegistryError as error:
            response = self._refusal(exchange, error)
        except ClientGone as error:
            log.info("%s %s from %s: %s", request.method, request.path, request.remote, error)
            response = self._refusal(exchange, RegistryError("SIZE_INVALID", str(error)))
            response.force_close()
        except errors.GantryError as error:
            code = next((code for kind, code in _STATUS if isinstance(error, kind)), "UNKNOWN")
            if code == "UNKNOWN":
                log.error("%s %s: %s", request.method, request.path, error.message)  # noqa: TRY400
            response = self._refusal(exchange, RegistryError(code, error.message))
        except ConnectionError as error:
            log.info("%s %s: %s", request.method, request.path, error)
            raise
        except Exception:
            log.exception("%s %s: this is a bug", request.method, request.path)
            response = self._refusal(exchange, RegistryError("UNKNOWN"))
        self._done(exchange, response)
        return response

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        path = request.path
        if page := self.pages.get(path):
            exchange.kind = "page"
            return await page(request)
        if failing := self._service.failing():
            raise RegistryError("UNAVAILABLE", f"unhealthy: {failing}")
        target = urls.match(path, self._prefix)
        if target is None:
            raise RegistryError("UNSUPPORTED", f"no such path: {path[:200]}", status=404)
        exchange.kind = target.kind
        exchange.argument = target.argument
        try:
            exchange.identity = await self._service.auth.identify(exchange.header("Authorization"))
        except RegistryError as error:
            error.headers.setdefault("WWW-Authenticate", self._service.auth.challenge("", ()))
            raise
        if target.repository or target.kind not in ("base", "catalog", "collect"):
            exchange.repository = names.repository(target.repository)
        handler = self._handlers.get((target.kind, request.method))
        if handler is None:
            allow = ", ".join(self._methods.get(target.kind, ()))
            raise RegistryError("UNSUPPORTED", request.method, headers={"Allow": allow})
        return await handler(self._service, exchange)

    def _refusal(self, exchange: Exchange, error: RegistryError) -> web.StreamResponse:
        if error.code == "DENIED":
            exchange.tell("denied", detail=error.detail)
        request = exchange.request
        response = web.Response(
            status=error.status, body=error.body(), content_type="application/json", headers=error.headers
        )
        if request.body_exists and not request.content.is_eof():
            response.force_close()  # what was not read would be taken for the next request
        return response

    def _done(self, exchange: Exchange, response: web.StreamResponse) -> None:
        if not response.prepared:
            for name, value in self._headers.items():
                response.headers.setdefault(name, value)
            if self._ended is not None:
                response.force_close()
        seconds = time.perf_counter() - exchange.started
        request = exchange.request
        for timing in self._timings:
            timing(exchange.kind, request.method, response.status, seconds)
        if self._access_log and access_log.isEnabledFor(logging.INFO):
            access_log.info(
                "%s %s %s %s %d %.1f ms", request.remote, exchange.identity.shown, request.method,
                request.rel_url, response.status, seconds * 1000,
            )  # fmt: skip

    def _base(self, request: web.BaseRequest) -> str:
        """What stands before /v2/ in the URLs that we give out."""
        http = self._service.config.http
        if http.host:
            return http.host.rstrip("/") + self._prefix
        host = request.headers.get("X-Forwarded-Host") or request.headers.get("Host", "")
        if http.relativeurls or not host or len(host) > 255 or not host.isprintable() or "/" in host:
            return self._prefix
        scheme = "https" if request.transport and request.transport.get_extra_info("sslcontext") else "http"
        forwarded = request.headers.get("X-Forwarded-Proto", "")
        return f"{forwarded if forwarded in ('http', 'https') else scheme}://{host}{self._prefix}"

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)
