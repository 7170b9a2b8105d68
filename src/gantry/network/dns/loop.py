"""An event loop that fits into a small process: epoll(7) and timers, level-triggered, one thread.

asyncio would double the memory of the process, and the time of an answer.
"""

import heapq
import itertools
import select
import time
from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Timer:
    """Something that happens later, unless `cancel` is called before."""

    __slots__ = ("action", "due")

    def __init__(self, due: float, action: Callable[[], None]) -> None:
        self.due = due
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """Calls what was registered for a descriptor, and timers. `stop` is a wish: who calls `turn` looks at `running`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self.running = True

    def watch(self, descriptor: int, handler: Callable[[], None], events: int = READ) -> None:
        """Call `handler` whenever the descriptor is ready, also after an error or hang-up of the other side."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, action)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def stop(self) -> None:
        self.running = False

    def turn(self, first: int = -1) -> None:
        """Wait once, and handle what has happened: first what came for the descriptor `first`."""
        timers = self._timers
        while timers and timers[0][2].action is None:
            heapq.heappop(timers)
        wait = max(0.0, timers[0][0] - time.monotonic()) if timers else None
        events = self._epoll.poll(wait)
        handlers = self._handlers
        if len(events) > 1 and first >= 0:
            events.sort(key=lambda event: event[0] != first)
        for descriptor, _ in events:
            if (handler := handlers.get(descriptor)) is not None:
                handler()
        if timers:
            now = time.monotonic()
            while timers and timers[0][0] <= now:
                action = heapq.heappop(timers)[2].action
                if action is not None:
                    action()

    def close(self) -> None:
        self._epoll.close()
