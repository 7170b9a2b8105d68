"""A registry in operation: its HTTP side, and the work that goes on beside requests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

from gantry.aio import TaskOwner, run_blocking
from gantry.registry.server.app import App
from gantry.registry.server.auth import Authenticator, NoAuth
from gantry.registry.server.config import Config
from gantry.registry.server.depot import Depot
from gantry.registry.server.service import Service

log = logging.getLogger(__name__)


class Pages:
    """The paths of the debug address: health and metrics."""

    def __init__(self) -> None:
        self.paths: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {}

    def server(self) -> web.Server:
        return web.Server(self._answer, access_log=None, keepalive_timeout=30.0)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        page = self.paths.get(request.path)
        return await page(request) if page else web.Response(status=404, text="404 page not found\n")


class Registry:
    """Everything of one registry but its sockets; an asynchronous context: inside, its tasks run."""

    def __init__(self, config: Config, depot: Depot, auth: Authenticator, *, deletes: bool) -> None:
        self.config = config
        login = not isinstance(auth, NoAuth)
        self.service = Service(config, depot, auth, login=login, deletes=deletes)
        self.app = App(self.service, [], [])
        self.pages = Pages()
        self.drain_seconds = float(config.http.draintimeout)
        self._tasks = TaskOwner("registry")

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._purge(), name="purge uploads")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    async def _purge(self) -> None:
        purging = self.config.storage.maintenance.uploadpurging
        while purging.enabled:
            purged = await run_blocking(self.service.uploads.purge, float(purging.age))
            if purged:
                log.info("purged %d uploads that nobody went on with", len(purged))
            await asyncio.sleep(max(60.0, float(purging.interval)))
