"""`gantry stats`: resource usage of containers, once or refreshed every second.

Counters are read twice and their difference shown, as the daemon's own differences take a second per container.
"""

from __future__ import annotations

import time

from gantry.cli.command import Command, Context
from gantry.cli.flags import boolean
from gantry.cli.opts import format_flag
from gantry.cli.units import bytes_size, human_size
from gantry.client.client import segment
from gantry.client.errors import ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gantry.cli.flags import Arguments

_INTERVAL = 1.0
HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_TABLE = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"


class Target:
    """One container: what the user called it, its id and its name."""

    __slots__ = ("id", "name", "shown")

    def __init__(self, shown: str, id: str, name: str) -> None:  # noqa: A002
        self.shown = shown
        self.id = id
        self.name = name.removeprefix("/")


def _run(ctx: Context, args: Arguments) -> int:
    template = args.string("format") or str(ctx.config.get("statsFormat") or "table")
    template = _TABLE if template == "table" else template
    truncate = not args.boolean("no-trunc")
    targets = _targets(ctx, args)
    samples = {target.id: _sample(ctx, target) for target in targets}
    clear = "\x1b[2J"
    while True:
        time.sleep(_INTERVAL)
        rows = []
        for target in targets:
            now = _sample(ctx, target)
            if now:
                rows.append(fields(target, now, samples.get(target.id) or now, truncate=truncate))
                samples[target.id] = now
        text = _text(rows, template)
        if args.boolean("no-stream"):
            ctx.out.write(text)
            return 0
        ctx.out.write(clear + "\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[J")
        ctx.out.flush()
        clear = ""
        if not args.positional:
            targets = _targets(ctx, args)


def _targets(ctx: Context, args: Arguments) -> list[Target]:
    """The containers that are named, or all that run; raises ResponseError for a name that is wrong."""
    if args.positional:
        found = [(name, ctx.client.get(f"/containers/{segment(name)}/json")) for name in args.positional]
        return [Target(name, one["Id"], one["Name"]) for name, one in found]
    listed = ctx.client.get("/containers/json", {"all": args["all"] or None})
    return [Target(one["Id"][:12], one["Id"], (one["Names"] or [""])[0]) for one in listed]


def _sample(ctx: Context, target: Target) -> dict[str, Any]:
    """The counters now, {} where the container is gone."""
    query = {"stream": False, "one-shot": True if ctx.client.at_least("1.41") else None}
    try:
        return dict(ctx.client.get(f"/containers/{target.id}/stats", query))
    except ResponseError as error:
        if error.status != 404:
            raise
        return {}


def _text(rows: list[dict[str, Callable[[], str]]], template: str) -> str:
    import io

    from gantry.cli.format import render

    out = io.StringIO()
    render(rows, template, HEADERS, out)
    return out.getvalue()


def fields(
    target: Target, now: Mapping[str, Any], before: Mapping[str, Any], *, truncate: bool
) -> dict[str, Callable[[], str]]:
    """What a template may show of one container."""
    usage, limit = memory(now)
    return {
        "Container": lambda: target.shown,
        "ID": lambda: target.id[: 12 if truncate else None],
        "Name": lambda: target.name,
        "CPUPerc": lambda: f"{cpu_percent(now, before):.2f}%",
        "MemUsage": lambda: f"{bytes_size(usage)} / {bytes_size(limit)}",
        "MemPerc": lambda: f"{usage / limit * 100 if limit else 0:.2f}%",
        "NetIO": lambda: " / ".join(human_size(number, 3) for number in network(now)),
        "BlockIO": lambda: " / ".join(human_size(number, 3) for number in block_devices(now)),
        "PIDs": lambda: str((now.get("pids_stats") or {}).get("current") or 0),
    }


def cpu_percent(now: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """Hundred per cent is one whole processor."""
    new, old = now.get("cpu_stats") or {}, before.get("cpu_stats") or {}
    used = _total(new) - _total(old)
    system = (new.get("system_cpu_usage") or 0) - (old.get("system_cpu_usage") or 0)
    online = new.get("online_cpus") or len((new.get("cpu_usage") or {}).get("percpu_usage") or ()) or 1
    return used / system * online * 100 if used > 0 and system > 0 else 0.0


def _total(stats: Mapping[str, Any]) -> int:
    return int((stats.get("cpu_usage") or {}).get("total_usage") or 0)


def memory(now: Mapping[str, Any]) -> tuple[int, int]:
    """(bytes used without the inactive page cache, limit)."""
    stats = now.get("memory_stats") or {}
    usage = int(stats.get("usage") or 0)
    details = stats.get("stats") or {}
    cache = int(details.get("total_inactive_file", details.get("inactive_file")) or 0)
    return usage - cache if cache < usage else usage, int(stats.get("limit") or 0)


def network(now: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes received and sent."""
    interfaces = (now.get("networks") or {}).values()
    return sum(one.get("rx_bytes") or 0 for one in interfaces), sum(one.get("tx_bytes") or 0 for one in interfaces)


def block_devices(now: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes read and written."""
    entries = (now.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    totals = {"r": 0, "w": 0}
    for entry in entries:
        kind = str(entry.get("op") or "")[:1].lower()
        if kind in totals:
            totals[kind] += int(entry.get("value") or 0)
    return totals["r"], totals["w"]


COMMAND = Command(
    _run,
    "[OPTIONS] [CONTAINER...]",
    (
        boolean("all", "a", "Show all containers (default shows just running)"),
        format_flag(),
        boolean("no-stream", "", "Disable streaming stats and only pull the first result"),
        boolean("no-trunc", "", "Do not truncate output"),
    ),
)
