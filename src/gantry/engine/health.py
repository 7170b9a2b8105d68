"""Health checks: a probe of the container now and then (Docker's `HEALTHCHECK`), and what follows from it."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import msgspec

from gantry.engine.lifecycle import Lifecycle
from gantry.engine.probes import OUTPUT_LIMIT, Probes, probe_command, probe_target
from gantry.errors import GantryError
from gantry.model import timestamp
from gantry.model.container import Container, HealthConfig, Phase
from gantry.model.golang import go_duration

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
_INTERVAL, _TIMEOUT, _START_INTERVAL = 30 * _SECOND, 30 * _SECOND, 5 * _SECOND
_RETRIES = 3
_LOG_ENTRIES = 5
_BROKEN = -1  # the exit code of a probe that could not be run to its end


class Verdict(msgspec.Struct):
    """What the probes so far say. Failures during the start period count only after the first success."""

    status: str = "starting"
    streak: int = 0

    def add(self, code: int, *, in_start_period: bool, retries: int) -> None:
        if code == 0:
            self.status, self.streak = "healthy", 0
        elif not (in_start_period and self.status == "starting"):
            self.streak += 1
            if self.streak >= retries:
                self.status = "unhealthy"


class Health:
    """Probes every running container that has a check."""

    def __init__(self, lifecycle: Lifecycle, probes: Probes) -> None:
        self._life = lifecycle
        self._probes = probes

    def watch(self, container: Container) -> None:
        """Probe the container until it ends."""
        if container.config.healthcheck is None:
            return
        if probe_command(container.config) or probe_target(container.config):
            self._show(container.id, Verdict(), [])
            self._life.owner.spawn(self._run(container), name=f"health {container.id[:12]}")

    async def _run(self, container: Container) -> None:
        check = container.config.healthcheck or HealthConfig()
        verdict, entries = Verdict(), list[dict[str, Any]]()
        ended = self._life.ended(container.id)
        while True:
            starting = verdict.status == "starting" and _age(container) < check.start_period
            interval = (check.start_interval or _START_INTERVAL) if starting else (check.interval or _INTERVAL)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval / _SECOND):
                    await ended.wait()
            if not self._goes_on(container):
                return
            if self._life.registry.get(container.id).status.phase != Phase.RUNNING:
                continue  # paused
            in_start_period = _age(container) < check.start_period
            entry = await self._probe(container, check.timeout or _TIMEOUT)
            if not self._goes_on(container):
                return
            before = verdict.status
            verdict.add(entry["ExitCode"], in_start_period=in_start_period, retries=check.retries or _RETRIES)
            entries = [*entries, entry][-_LOG_ENTRIES:]
            self._show(container.id, verdict, entries)
            if verdict.status != before:
                self._life.publish(self._life.registry.get(container.id), f"health_status: {verdict.status}")
                if verdict.status == "unhealthy" and await self._react(container, check.on_failure):
                    return

    def _goes_on(self, container: Container) -> bool:
        """Whether this run of the container still lasts; a further one has another watcher."""
        registry = self._life.registry
        return (
            container.id in registry
            and registry.get(container.id).status.started_at == container.status.started_at
            and not self._life.ended(container.id).is_set()
        )

    async def _probe(self, container: Container, timeout_ns: int) -> dict[str, Any]:
        """One probe: Docker's `HealthcheckResult`."""
        began = timestamp.rfc3339(timestamp.now())
        output = bytearray()
        code = _BROKEN
        prefix = ""
        try:
            code = await self._probes.run(container, output, timeout_ns / _SECOND)
        except TimeoutError:
            prefix = f"Health check exceeded timeout ({go_duration(timeout_ns)})" + (": " if output else "")
        except GantryError as error:
            output = bytearray(error.message.encode())
        text = prefix + output[:OUTPUT_LIMIT].decode(errors="replace") + ("..." if len(output) > OUTPUT_LIMIT else "")
        return {"Start": began, "End": timestamp.rfc3339(timestamp.now()), "ExitCode": code, "Output": text}

    async def _react(self, container: Container, action: str) -> bool:
        """Do what was asked for an unhealthy container; False where nothing was. The restart policy follows a kill."""
        if action in ("", "none"):
            return False
        log.info("container %s is unhealthy: %s", container.id[:12], action)
        current = self._life.registry.get(container.id)
        try:
            if action == "restart":
                await self._life.restart(current, None)
            elif action == "stop":
                await self._life.stop(current, None)
            else:
                await self._life.strike(current)
        except GantryError as error:
            log.warning("container %s is unhealthy, and %s failed: %s", container.id[:12], action, error.message)
        return True

    def _show(self, container_id: str, verdict: Verdict, entries: list[dict[str, Any]]) -> None:
        shown = {"Status": verdict.status, "FailingStreak": verdict.streak, "Log": list(entries)}
        self._life.registry.show(container_id, lambda container: container.noted(health=shown))


def _age(container: Container) -> int:
    """Nanoseconds since the container was started."""
    return timestamp.now() - container.status.started_at
