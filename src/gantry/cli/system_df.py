"""`gantry system df`: disk usage."""

from __future__ import annotations

from gantry.cli import format as formats
from gantry.cli.command import Command, Context
from gantry.cli.flags import boolean
from gantry.cli.opts import format_flag
from gantry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gantry.cli.flags import Arguments

_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_TABLE = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
_RAW = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
_ACTIVE = ("running", "paused", "restarting")
_KINDS = (
    ("Images", "ImageUsage"),
    ("Containers", "ContainerUsage"),
    ("Local Volumes", "VolumeUsage"),
    ("Build Cache", "BuildCacheUsage"),
)


class Usage:
    """One kind's usage: counts and bytes; `items` where they were asked for."""

    def __init__(self, total: int, active: int, size: int, reclaimable: int, items: Sequence[dict[str, Any]]) -> None:
        self.total = total
        self.active = active
        self.size = size
        self.reclaimable = reclaimable
        self.items = items


def usages(answer: Mapping[str, Any]) -> dict[str, Usage]:
    """By kind, from either form of the answer: totals (API 1.52) or lists."""
    if "ImageUsage" in answer or "ContainerUsage" in answer:
        found = {}
        for title, key in _KINDS:
            part = answer.get(key) or {}
            total, active, size, reclaimable = (
                int(part.get(name) or 0) for name in ("TotalCount", "ActiveCount", "TotalSize", "Reclaimable")
            )
            found[title] = Usage(total, active, size, reclaimable, part.get("Items") or ())
        return found
    pictures, containers = answer.get("Images") or [], answer.get("Containers") or []
    volumes, cache = answer.get("Volumes") or [], answer.get("BuildCache") or []
    layers = int(answer.get("LayersSize") or 0)
    used = sum(
        image["Size"] - image["SharedSize"]
        for image in pictures
        if image.get("Containers") and image["Size"] != -1 and image["SharedSize"] != -1
    )
    running = [one for one in containers if one.get("State") in _ACTIVE]
    written = sum(one.get("SizeRw") or 0 for one in containers)
    held = sum(one.get("SizeRw") or 0 for one in running)
    sizes = [(one.get("UsageData") or {"Size": -1, "RefCount": 0}) for one in volumes]
    known = [one for one in sizes if one["Size"] != -1]
    cached = sum(one["Size"] for one in cache if not one.get("Shared"))
    busy = sum(one["Size"] for one in cache if one.get("InUse") and not one.get("Shared"))
    return {
        "Images": Usage(
            len(pictures), sum(one.get("Containers", 0) > 0 for one in pictures), layers, layers - used, pictures
        ),
        "Containers": Usage(len(containers), len(running), written, written - held, containers),
        "Local Volumes": Usage(
            len(volumes),
            sum(one["RefCount"] > 0 for one in sizes),
            sum(one["Size"] for one in known),
            sum(one["Size"] for one in known if one["RefCount"] == 0),
            volumes,
        ),
        "Build Cache": Usage(len(cache), sum(bool(one.get("InUse")) for one in cache), cached, cached - busy, cache),
    }


def _run(ctx: Context, args: Arguments) -> int:
    verbose = args.boolean("verbose")
    found = usages(ctx.client.get("/system/df", {"verbose": verbose or None}))
    text = args.string("format")
    if verbose:
        from gantry.cli.system_df_verbose import show

        show(ctx, found, text)
        return 0
    template = formats.resolve(text, "", quiet=False, table=_TABLE, raw=_RAW)
    rows = [_row(title, usage) for title, usage in found.items()]
    formats.render(rows, template, _HEADERS, ctx.out, type="*formatter.diskUsageImagesContext")
    return 0


def _row(title: str, usage: Usage) -> dict[str, str]:
    share = ""
    if title != "Build Cache" and usage.size > 0:
        share = f" ({usage.reclaimable * 100 // usage.size}%)"
    return {
        "Type": title,
        "TotalCount": str(usage.total),
        "Active": str(usage.active),
        "Size": human_size(usage.size),
        "Reclaimable": human_size(usage.reclaimable) + share,
    }


COMMAND = Command(
    _run,
    "[OPTIONS]",
    (format_flag(), boolean("verbose", "v", "Show detailed information on space usage")),
    most=0,
)
