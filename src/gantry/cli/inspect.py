"""`gantry inspect`: an object of any kind."""

from __future__ import annotations

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, quote, string
from gantry.cli.opts import inspect_format_flag
from gantry.client.client import segment
from gantry.client.errors import ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments

_KINDS = (
    ("container", "/containers/{}/json", "container.InspectResponse"),
    ("image", "/images/{}/json", "image.InspectResponse"),
    ("network", "/networks/{}", "network.Inspect"),
    ("volume", "/volumes/{}", "volume.Volume"),
    ("service", "/services/{}", ""),
    ("task", "/tasks/{}", ""),
    ("node", "/nodes/{}", ""),
    ("plugin", "/plugins/{}/json", ""),
    ("secret", "/secrets/{}", ""),
    ("config", "/configs/{}", ""),
)
"""In the order that they are looked for: kind, path, Go type for templates."""
_NAMES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")


class _Finder:
    def __init__(self, ctx: Context, wanted: str, *, size: bool) -> None:
        self._ctx = ctx
        self._wanted = wanted
        self._size = size
        self._type = ""

    def fetch(self, name: str) -> Any:
        """The first object of that name; raises CommandError or ClientError."""
        for kind, path, go_type in _KINDS:
            if self._wanted and kind != self._wanted:
                continue
            query = {"size": True} if self._size and kind == "container" else None
            try:
                found = self._ctx.client.get(path.format(segment(name)), query)
            except ResponseError as error:
                if self._wanted or not _skippable(error):
                    raise
                continue
            if not isinstance(found, dict):  # the name is a path of its own, and something else answered
                continue
            if self._size and kind != "container":
                self._ctx.warn(f"WARNING: --size ignored for {kind}")
            self._type = go_type
            return found
        raise CommandError(f"Error: No such object: {name}")

    def type_of(self, _found: Any) -> str:
        return self._type


def _skippable(error: ResponseError) -> bool:
    """Whether a kind simply has no such object (or the daemon no such kind)."""
    words = ("not supported", "invalid reference format", "not a swarm manager", "page not found")
    return error.status in (404, 501) or any(word in error.detail for word in words)


def _run(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format_inspect import inspect

    wanted = args.string("type")
    if "type" in args.changed and wanted not in _NAMES:
        choices = ", ".join(quote(name) for name in _NAMES[:-1]) + f", {quote(_NAMES[-1])}"
        if not wanted:
            raise CommandError(f"type is empty: must be one of {choices}")
        raise CommandError(f"unknown type: {quote(wanted)}: must be one of {choices}")
    finder = _Finder(ctx, wanted, size=args.boolean("size"))
    return inspect(ctx, args.positional, finder.fetch, args.string("format"), finder.type_of)


COMMAND = Command(
    _run,
    "[OPTIONS] NAME|ID [NAME|ID...]",
    (
        inspect_format_flag(),
        boolean("size", "s", "Display total file sizes if the type is container"),
        string("type", "", "Only inspect objects of the given type"),
    ),
    least=1,
)
