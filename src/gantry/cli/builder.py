"""`gantry builder prune`."""

from __future__ import annotations

from gantry.cli.command import Command, Context
from gantry.cli.flags import boolean
from gantry.cli.opts import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gantry.cli.flags import Arguments


def prune_cache(
    ctx: Context, wanted: Mapping[str, Mapping[str, bool]], *, everything: bool, keep: int = 0
) -> tuple[list[str], int]:
    """Remove unused build cache beyond `keep` bytes; lines for the user, and bytes reclaimed."""
    from gantry.cli.prune import removed

    query: dict[str, Any] = {"all": everything or None, "filters": dict(wanted) or None}
    if keep:
        query["reserved-space" if ctx.client.at_least("1.48") else "keep-storage"] = keep
    answer = ctx.client.post("/build/prune", query)
    return removed("Deleted build cache objects:", answer.get("CachesDeleted")), int(answer.get("SpaceReclaimed") or 0)


def _prune(ctx: Context, args: Arguments) -> int:
    from gantry.cli import prune

    everything = args.boolean("all")
    wanted = prune.prune_filters(ctx, args)
    what = "all build cache" if everything else "all dangling build cache"
    return prune.run(
        ctx,
        args,
        f"WARNING! This will remove {what}. {prune.QUESTION}",
        lambda: prune_cache(ctx, wanted, everything=everything, keep=args["keep-storage"]),
    )


def _flags() -> Any:
    from gantry.cli import prune

    return (
        boolean("all", "a", "Remove all unused build cache, not just dangling ones"),
        size("keep-storage", "", "Amount of disk space to keep for cache"),
        *prune.flags("until=24h"),
    )


PRUNE = Command(_prune, "", _flags(), most=0)
