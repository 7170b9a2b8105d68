"""The API as an aiohttp application, and the server that carries it."""

import asyncio
from collections.abc import Iterable, Mapping

from aiohttp import web

from gantry import API_VERSION, __version__
from gantry.api.connection import Connection
from gantry.api.dispatch import Dispatcher
from gantry.api.routing import Route

DISPATCHER = web.AppKey("dispatcher", Dispatcher)

HEADERS: Mapping[str, str] = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Gantry/{__version__} (linux)",
}

_LINE_LIMIT = 1 << 20  # bytes of a request line or header: filters and registry credentials are long
_BODY_LIMIT = 16 << 20  # bytes of a body that a handler asks for whole; streams are not counted


def application(routes: Iterable[Route], headers: Mapping[str, str] = HEADERS) -> web.Application:
    """An application with one catch-all route: matching is the dispatcher's."""
    dispatcher = Dispatcher(routes, headers)
    app = web.Application(client_max_size=_BODY_LIMIT)
    app[DISPATCHER] = dispatcher
    app.router.add_route("*", r"/{path:[\s\S]*}", dispatcher.__call__)
    app.on_response_prepare.append(dispatcher.add_headers)
    return app


class Server:
    """Serves an application on any number of listening sockets, through `Connection`."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=5.0)

    async def start(self) -> None:
        await self._runner.setup()

    def protocol(self) -> Connection:
        """The protocol factory for `loop.create_server` and `loop.create_unix_server`."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("the server has not been started")
        return Connection(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,
            max_line_size=_LINE_LIMIT,
            max_field_size=_LINE_LIMIT,
        )

    async def close(self, patience: float) -> None:
        """Let requests that change something end, at most `patience` seconds, and close every connection."""
        await self._app[DISPATCHER].drain(patience)
        await self._runner.cleanup()
