"""What the prune commands share: filters, the question, the closing line."""

from __future__ import annotations

from gantry.cli.command import Context
from gantry.cli.flags import Flag, boolean
from gantry.cli.opts import filter_flag, filters
from gantry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gantry.cli.flags import Arguments

QUESTION = "Are you sure you want to continue?"


def flags(example: str = "until=<timestamp>") -> tuple[Flag, ...]:
    return (
        _filter_flag(f'Provide filter values (e.g. "{example}")'),
        boolean("force", "f", "Do not prompt for confirmation"),
    )


def _filter_flag(help: str) -> Flag:  # noqa: A002
    flag = filter_flag(help)
    flag.short = ""
    return flag


def prune_filters(ctx: Context, args: Arguments) -> dict[str, dict[str, bool]]:
    """The filters given, with those of config.json (`pruneFilters`) that do not contradict them."""
    given = filters(args.strings("filter")) or {}
    opposite = {"label": "label!", "label!": "label"}
    for text in ctx.config.get("pruneFilters") or ():
        name, equals, value = str(text).partition("=")
        if equals and value not in given.get(opposite.get(name, ""), {}):
            given.setdefault(name, {})[value] = True
    return given


def run(
    ctx: Context,
    args: Arguments,
    warning: str,
    prune: Callable[[], tuple[list[str], int | None]],
) -> int:
    """Ask (unless --force), prune, and print: `prune` returns lines and the bytes reclaimed (None: not told)."""
    if not args.boolean("force") and not ctx.confirm(warning):
        return 0
    lines, reclaimed = prune()
    if lines:
        ctx.out.write("\n".join(lines) + "\n\n")
    if reclaimed is not None:
        ctx.out.write(f"Total reclaimed space: {human_size(reclaimed)}\n")
    return 0


def removed(title: str, names: Any) -> list[str]:
    """A list under its title, nothing where it is empty."""
    return [title, *names] if names else []
