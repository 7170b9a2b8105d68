"""A registry in operation: its HTTP side, and the work that goes on beside requests."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import msgspec
from aiohttp import web

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import GantryError
from gantry.registry.server.access import Action
from gantry.registry.server.app import App, Handler, Timing
from gantry.registry.server.audit import Audit
from gantry.registry.server.auth import Authenticator, NoAuth
from gantry.registry.server.collect import Collector, Report
from gantry.registry.server.config import Config
from gantry.registry.server.depot import Depot
from gantry.registry.server.events import Observer
from gantry.registry.server.exchange import Exchange
from gantry.registry.server.health import Checks
from gantry.registry.server.metrics import Metrics
from gantry.registry.server.notifications import Notifier
from gantry.registry.server.proxy import Proxy
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
        self.service = Service(config, depot, auth, login=not isinstance(auth, NoAuth), deletes=deletes)
        self.collector = Collector(
            depot, self.service.manifests, config.gantry.collect, config.gantry.retention, self.service.immutable
        )
        self.pages = Pages()
        self.drain_seconds = float(config.http.draintimeout)
        self._tasks = TaskOwner("registry")
        self._writers = TaskOwner("registry observers")
        self._collecting = asyncio.Lock()
        self._metrics = Metrics()
        self._checks = Checks(config.health, depot)
        self.service.failing = lambda: ", ".join(f"{name}: {why}" for name, why in self._checks.failing.items())
        observers: list[Observer] = []
        timings: list[Timing] = []
        self._audit = Audit(Path(config.gantry.audit.path)) if config.gantry.audit.path else None
        if self._audit is not None:
            observers.append(self._audit.observe)
        references = config.notifications.events.includereferences
        active = [each for each in config.notifications.endpoints if not each.disabled]
        self._notifiers = [Notifier(each, references=references) for each in active]
        observers += [notifier.observe for notifier in self._notifiers]
        debug = config.http.debug
        if config.gantry.metrics or debug.prometheus.enabled:
            observers.append(self._metrics.observe)
            timings.append(self._metrics.time)
        handlers: dict[tuple[str, str], Handler] = {("collect", "POST"): self._collect_now}
        self._proxy = Proxy(config, self.service) if config.proxy.remoteurl else None
        if self._proxy is not None:
            handlers |= self._proxy.handlers()
        self.app = App(self.service, observers, timings, handlers)
        if config.gantry.metrics:
            self.app.pages["/metrics"] = self._metrics.page
        if debug.prometheus.enabled:
            self.pages.paths[debug.prometheus.path] = self._metrics.page
        self.pages.paths["/debug/health"] = self._checks.page

    async def __aenter__(self) -> Self:
        if self._audit is not None:
            self._writers.spawn(self._audit.run(), name="audit log")
        for notifier in self._notifiers:
            self._writers.spawn(notifier.run(), name="notifications")
        self._checks.start(self._tasks)
        if self.config.storage.maintenance.uploadpurging.enabled:
            self._tasks.spawn(self._purge(), name="purge uploads")
        if self.config.gantry.collect.enabled and not self.service.read_only:
            self._tasks.spawn(self._collect(), name="collect garbage")
        if self._proxy is not None:
            self._tasks.spawn(self._proxy.expire(), name="expiry of the cache")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()
        if self._proxy is not None:
            await self._proxy.close()
        await self._writers.close()

    async def collect(self) -> Report:
        """Collect garbage once, after a run that may be going on."""
        async with self._collecting:
            report = await run_blocking(self.collector.run)
        self.service.quotas.forget()
        self._metrics.collected(msgspec.structs.replace(report))
        log.info("garbage collection took %.1f s: %s", report.seconds, report.text())
        return report

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(float(self.config.gantry.collect.interval))
            try:
                await self.collect()
            except GantryError as error:
                log.error("garbage collection: %s", error.message)  # noqa: TRY400 - the message says all

    async def _collect_now(self, service: Service, exchange: Exchange) -> web.StreamResponse:
        """Ours: POST /v2/_gantry/collect."""
        service.need(exchange, Action.ADMIN)
        report = await self.collect()
        return web.Response(body=msgspec.json.encode(report), content_type="application/json")

    async def _purge(self) -> None:
        purging = self.config.storage.maintenance.uploadpurging
        while True:
            with contextlib.suppress(OSError):  # a directory that is being changed: the next run finds it
                if purging.dryrun:
                    old = await run_blocking(self.service.uploads.old, float(purging.age))
                    log.info("would purge %d uploads (dryrun)", len(old))
                elif purged := await run_blocking(self.service.uploads.purge, float(purging.age)):
                    log.info("purged %d uploads that nobody went on with", purged)
            await asyncio.sleep(max(60.0, float(purging.interval)))
