"""Spans: where one request spent its time.

`with span("netns"):` costs two clock reads when tracing is off or no trace is open. A trace belongs to
the current context (`contextvars`), so that concurrent requests do not mix.
"""

import contextvars
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec


class Span(msgspec.Struct, frozen=True):
    """One step: `start` and `duration` are nanoseconds, `start` counted from the trace's begin."""

    name: str
    start: int
    duration: int
    depth: int


class Trace:
    """The spans of one request, in order of completion."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.perf_counter_ns()
        self.ended = 0
        self.spans: list[Span] = []
        self.depth = 0


_current: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("gantry_trace", default=None)


@contextmanager
def tracing(name: str) -> Iterator[Trace]:
    """Open a trace for the current context."""
    trace = Trace(name)
    token = _current.set(trace)
    try:
        yield trace
    finally:
        trace.ended = time.perf_counter_ns()
        _current.reset(token)


@contextmanager
def span(name: str) -> Iterator[None]:
    """Record one step of the current trace; nothing happens where no trace is open."""
    trace = _current.get()
    if trace is None:
        yield
        return
    start = time.perf_counter_ns()
    depth = trace.depth
    trace.depth = depth + 1
    try:
        yield
    finally:
        trace.depth = depth
        trace.spans.append(Span(name, start - trace.began, time.perf_counter_ns() - start, depth))
