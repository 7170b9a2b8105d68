"""The audit log: one JSON line per event that a person may be asked about."""

import asyncio
import logging
import os
import threading
from collections import deque
from pathlib import Path

import msgspec

from gantry.aio import run_blocking
from gantry.model.timestamp import rfc3339
from gantry.registry.server.events import Event

log = logging.getLogger(__name__)

_HELD = 100_000


class Audit:
    """Writes events to a file in their order. The file may be moved away at any time (log rotation)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._wake = asyncio.Event()

    def observe(self, event: Event) -> None:
        """An `events.Observer`."""
        if len(self._held) >= _HELD:
            log.error("audit log %s: %d lines wait to be written, one is lost", self._path, _HELD)
            return
        self._held.append(line(event))
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await run_blocking(self._flush)
        finally:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            lines = []
            while self._held:
                lines.append(self._held.popleft())
            if lines:
                self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                view = memoryview(b"".join(lines))
                while view:
                    view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            log.error("audit log %s: %d lines are lost: %s", self._path, len(lines), error.strerror)  # noqa: TRY400


def line(event: Event) -> bytes:
    """`{"time":…,"action":…,"account":…,"address":…,"repository":…,…}` and a line feed; empty fields are left out."""
    plain = {
        "time": rfc3339(event.at),
        "id": event.id,
        "action": event.action,
        "account": event.account or "anonymous",
        "address": event.address,
        "repository": event.repository,
        "tag": event.tag,
        "digest": str(event.digest),
        "mediaType": event.media_type,
        "size": event.size,
        "from": event.source,
        "method": event.method,
        "url": event.url,
        "userAgent": event.user_agent,
        "detail": str(event.detail),
    }
    return msgspec.json.encode({name: value for name, value in plain.items() if value}) + b"\n"
