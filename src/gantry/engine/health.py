"""Health checks: a command that is run in the container now and then (Docker's `HEALTHCHECK`)."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from gantry.engine.execs import ExecRequest, Execs
from gantry.engine.lifecycle import Lifecycle
from gantry.errors import GantryError
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HealthConfig, Phase

_SECOND = 1_000_000_000
_INTERVAL, _TIMEOUT, _START_INTERVAL = 30 * _SECOND, 30 * _SECOND, 5 * _SECOND
_RETRIES = 3
_LOG_ENTRIES = 5
_OUTPUT_LIMIT = 4096  # bytes
_BROKEN = -1  # the exit code of a probe that could not be run to its end
_SHELL = ["/bin/sh", "-c"]


def probe_command(config: ContainerConfig) -> list[str]:
    """What is run; empty where the container has no health check."""
    test = (config.healthcheck.test if config.healthcheck else None) or []
    if not test or test[0] == "NONE":
        return []
    if test[0] == "CMD":
        return test[1:]
    return [*(config.shell or _SHELL), *test[1:]] if test[0] == "CMD-SHELL" else []


class Verdict(msgspec.Struct):
    """What the probes so far say. `checked` turns true with the first success: then the start period is over."""

    status: str = "starting"
    streak: int = 0
    checked: bool = False

    def add(self, code: int, *, in_start_period: bool, retries: int) -> None:
        if code == 0:
            self.status, self.streak, self.checked = "healthy", 0, True
            return
        if in_start_period and not self.checked:
            return
        self.streak += 1
        if self.streak >= retries:
            self.status = "unhealthy"


class Health:
    """Runs the probes of every running container that has a check."""

    def __init__(self, lifecycle: Lifecycle, execs: Execs) -> None:
        self._life = lifecycle
        self._execs = execs

    def watch(self, container: Container) -> None:
        """Probe the container until it ends."""
        if probe_command(container.config) and container.config.healthcheck is not None:
            self._show(container.id, Verdict(), [])
            self._life.owner.spawn(self._run(container), name=f"health {container.id[:12]}")

    async def _run(self, container: Container) -> None:
        check = container.config.healthcheck or HealthConfig()
        began = timestamp.now()
        verdict, entries = Verdict(), list[dict[str, Any]]()
        ended = self._life.ended(container.id)
        while True:
            starting = timestamp.now() - began < check.start_period and not verdict.checked
            interval = (check.start_interval or _START_INTERVAL) if starting else (check.interval or _INTERVAL)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval / _SECOND):
                    await ended.wait()
            if ended.is_set() or container.id not in self._life.registry:
                return
            current = self._life.registry.get(container.id)
            if current.status.started_at != container.status.started_at:
                return  # it was started again, and has another watcher
            if current.status.phase != Phase.RUNNING:
                continue
            entry = await self._probe(container, (check.timeout or _TIMEOUT) / _SECOND)
            if ended.is_set():
                return
            before = verdict.status
            in_start_period = timestamp.now() - began < check.start_period
            verdict.add(entry["ExitCode"], in_start_period=in_start_period, retries=check.retries or _RETRIES)
            entries = [*entries, entry][-_LOG_ENTRIES:]
            self._show(container.id, verdict, entries)
            if verdict.status != before:
                self._life.publish(container, f"health_status: {verdict.status}")

    async def _probe(self, container: Container, seconds: float) -> dict[str, Any]:
        """One run of the command: Docker's `HealthcheckResult`."""
        began = timestamp.rfc3339(timestamp.now())
        output = bytearray()
        code = _BROKEN
        try:
            code = await self._execs.run(container, self._request(container), output, _OUTPUT_LIMIT, seconds)
        except TimeoutError:
            output += f"Health check exceeded timeout ({seconds:g}s)".encode()
        except GantryError as error:
            output += error.message.encode()
        text = output[:_OUTPUT_LIMIT].decode(errors="replace")
        return {"Start": began, "End": timestamp.rfc3339(timestamp.now()), "ExitCode": code, "Output": text}

    @staticmethod
    def _request(container: Container) -> ExecRequest:
        return ExecRequest(probe_command(container.config), attach_stdout=True, attach_stderr=True)

    def _show(self, container_id: str, verdict: Verdict, entries: list[dict[str, Any]]) -> None:
        shown = {"Status": verdict.status, "FailingStreak": verdict.streak, "Log": list(entries)}

        def change(container: Container) -> Container:
            return container.replace(status=msgspec.structs.replace(container.status, health=shown))

        self._life.registry.show(container_id, change)
