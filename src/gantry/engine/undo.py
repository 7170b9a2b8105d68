"""Undoing what was half done: every step is tried, and the error that began it stays the one that is reported."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import ParamSpec

P = ParamSpec("P")

log = logging.getLogger(__name__)


class Undo(AsyncExitStack):
    """Steps that are taken back, the last one first, unless `pop_all` says that everything went well."""

    def step(self, function: Callable[P, Awaitable[object]], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Register `function` to be called when the block fails."""

        async def call() -> None:
            try:
                await function(*args, **kwargs)
            except Exception:
                # The error that made the undoing necessary is what the user must see; this one is for the log.
                log.exception("cannot undo: %s%s", getattr(function, "__qualname__", function), args)

        self.push_async_callback(call)
