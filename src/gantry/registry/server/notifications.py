"""Notifications: events as JSON to HTTP end points, in Distribution's envelope, in order, until they are taken."""

import asyncio
import logging
import os
from collections import deque
from typing import Any

import aiohttp
import msgspec

from gantry.model.timestamp import rfc3339
from gantry.registry.server.config import Endpoint
from gantry.registry.server.events import Event

log = logging.getLogger(__name__)

_MEDIA_TYPE = "application/vnd.docker.distribution.events.v2+json"
_HELD = 10_000
_ACTIONS = frozenset({"pull", "push", "mount", "delete"})


class Notifier:
    """One end point with its queue. When it fails `threshold` times in a row, it is left alone for `backoff`."""

    def __init__(self, endpoint: Endpoint, *, references: bool) -> None:
        self._endpoint = endpoint
        self._references = references
        self._ignored = frozenset(endpoint.ignore.mediatypes) | frozenset(endpoint.ignoredmediatypes)
        self._headers = {name: ", ".join(values) for name, values in endpoint.headers.items()}
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()

    def observe(self, event: Event) -> None:
        """An `events.Observer`."""
        ignored = event.media_type in self._ignored or event.action in self._endpoint.ignore.actions
        if event.action not in _ACTIONS or ignored:
            return
        if len(self._queue) >= _HELD:
            lost = self._queue.popleft()
            log.error("notifications to %s: %d events wait, %s is lost", self._endpoint.name, _HELD, lost.id)
        self._queue.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = aiohttp.ClientTimeout(total=float(self._endpoint.timeout))
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            failures = 0
            while True:
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                event = self._queue[0]
                if await self._deliver(session, event):
                    failures = 0
                    if self._queue and self._queue[0] is event:
                        self._queue.popleft()
                else:
                    failures += 1
                    patient = failures >= self._endpoint.threshold
                    await asyncio.sleep(float(self._endpoint.backoff) if patient else 0.05 * failures)

    async def _deliver(self, session: aiohttp.ClientSession, event: Event) -> bool:
        body = msgspec.json.encode({"events": [envelope(event, references=self._references)]})
        try:
            async with session.post(self._endpoint.url, data=body, headers={"Content-Type": _MEDIA_TYPE}) as answer:
                if answer.status < 400:
                    return True
                log.warning("notifications to %s: status %d", self._endpoint.name, answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("notifications to %s: %s", self._endpoint.name, error or "no answer in time")
        return False


def envelope(event: Event, *, references: bool) -> dict[str, Any]:
    """One event as Distribution writes it (notifications, "Events")."""
    target: dict[str, Any] = {"repository": event.repository}
    if event.digest:
        kind = "manifests" if event.tag or "manifest" in event.media_type or "index" in event.media_type else "blobs"
        target |= {
            "mediaType": event.media_type,
            "digest": str(event.digest),
            "size": event.size,
            "length": event.size,
            "url": f"{event.base}/v2/{event.repository}/{kind}/{event.digest}",
        }
    if event.tag:
        target["tag"] = event.tag
    if event.source:
        target["fromRepository"] = event.source
    if references and event.references:
        target["references"] = [{"digest": str(digest)} for digest in event.references]
    return {
        "id": event.id,
        "timestamp": rfc3339(event.at),
        "action": event.action,
        "target": target,
        "request": {
            "id": event.id,
            "addr": event.address,
            "host": event.host,
            "method": event.method,
            "useragent": event.user_agent,
        },
        "actor": {"name": event.account} if event.account else {},
        "source": {"addr": os.uname().nodename, "instanceID": f"{os.getpid()}"},
    }
