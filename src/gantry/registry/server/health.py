"""Health checks: the storage, files, HTTP and TCP services, as Distribution configures them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import GantryError
from gantry.registry.server.config import FileCheck, Health, HTTPCheck, TCPCheck
from gantry.registry.server.depot import Depot

log = logging.getLogger(__name__)

_KEY = "health/check"

Check = Callable[[], Awaitable[str]]
"""What is wrong now, "" for nothing."""


class Checks:
    """All checks of one registry. `failing` has a line for each that has failed as often as its threshold says."""

    def __init__(self, config: Health, depot: Depot) -> None:
        self.failing: dict[str, str] = {}
        self._depot = depot
        self._checks: list[tuple[str, float, int, Check]] = []
        if config.storagedriver.enabled:
            driver = config.storagedriver
            self._checks.append(("storagedriver", float(driver.interval), driver.threshold, self._storage))
        self._checks += [(each.file, float(each.interval), 1, _file(each)) for each in config.file]
        self._checks += [(each.uri, float(each.interval), each.threshold, _http(each)) for each in config.http]
        self._checks += [(each.addr, float(each.interval), each.threshold, _tcp(each)) for each in config.tcp]

    def start(self, tasks: TaskOwner) -> None:
        for name, interval, threshold, check in self._checks:
            tasks.spawn(self._repeat(name, interval, threshold, check), name=f"health {name}")

    async def page(self, _: web.BaseRequest) -> web.Response:
        """`/debug/health`: {} and 200, or what fails and 503."""
        status = 503 if self.failing else 200
        return web.Response(status=status, body=msgspec.json.encode(self.failing), content_type="application/json")

    async def _repeat(self, name: str, interval: float, threshold: int, check: Check) -> None:
        failures = 0
        while True:
            problem = await check()
            failures = failures + 1 if problem else 0
            if problem and failures >= threshold:
                if name not in self.failing:
                    log.error("unhealthy: %s: %s", name, problem)
                self.failing[name] = problem
            elif not problem and name in self.failing:
                del self.failing[name]
                log.info("healthy again: %s", name)
            await asyncio.sleep(max(0.1, interval))

    async def _storage(self) -> str:
        try:
            await run_blocking(self._depot.records.put, _KEY, b"health")
            await run_blocking(self._depot.records.delete, _KEY)
        except GantryError as error:
            return error.message
        return ""


def _file(config: FileCheck) -> Check:
    async def check() -> str:
        return "file exists" if await run_blocking(Path(config.file).exists) else ""

    return check


def _http(config: HTTPCheck) -> Check:
    headers = {name: ", ".join(values) for name, values in config.headers.items()}

    async def check() -> str:
        timeout = aiohttp.ClientTimeout(total=float(config.timeout))
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.head(config.uri, allow_redirects=False) as answer,
            ):
                return "" if answer.status == config.statuscode else f"downstream service returned {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return str(error) or "no answer in time"

    return check


def _tcp(config: TCPCheck) -> Check:
    host, _, port = config.addr.rpartition(":")

    async def check() -> str:
        try:
            async with asyncio.timeout(float(config.timeout)):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            return str(error) or "no answer in time"
        return ""

    return check
