"""Events: the last 256 are kept, and subscribers get each new one."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gantry.model import timestamp
from gantry.model.event import Event

HISTORY = 256
_QUEUE = 1024


class EventBus:
    """Implements `ports.Events`. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._queues: set[asyncio.Queue[Event]] = set()

    def publish(self, type: str, action: str, actor_id: str, attributes: dict[str, str]) -> Event:  # noqa: A002
        event = Event(type, action, actor_id, attributes, timestamp.now())
        self._history.append(event)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()  # a subscriber that does not read loses the oldest, never stops the daemon
            queue.put_nowait(event)
        return event

    @asynccontextmanager
    async def subscribe(self, since: int = 0, until: int = 0) -> AsyncIterator[AsyncIterator[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue(_QUEUE)
        stored = [
            event for event in self._history if since and since <= event.time and (not until or event.time <= until)
        ]
        self._queues.add(queue)
        try:
            yield self._read(stored, queue, until)
        finally:
            self._queues.discard(queue)

    async def _read(self, stored: list[Event], queue: "asyncio.Queue[Event]", until: int) -> AsyncIterator[Event]:
        for event in stored:
            yield event
        while True:
            try:
                async with asyncio.timeout((until - timestamp.now()) / 1e9 if until else None):
                    event = await queue.get()
            except TimeoutError:
                return
            yield event
