"""`GET /system/df` as JSON: one list per kind before API 1.52, totals with optional lists from then on."""

from collections.abc import Collection
from typing import Any

_TOTALS = (1, 52)
KINDS = ("image", "container", "volume", "build-cache")


def usage(
    kinds: Collection[str],
    version: tuple[int, int],
    *,
    verbose: bool,
    layers: int,
    images: list[dict[str, Any]],
    containers: list[dict[str, Any]],
    volumes: list[dict[str, Any]],
    cache: list[dict[str, Any]],
) -> dict[str, Any]:
    """The answer for the wanted `kinds` (all where there are none)."""
    wanted = set(kinds or KINDS)
    if version < _TOTALS:
        answer: dict[str, Any] = {}
        if "image" in wanted:
            answer |= {"LayersSize": layers, "Images": images}
        if "container" in wanted:
            answer["Containers"] = containers
        if "volume" in wanted:
            answer["Volumes"] = volumes
        if "build-cache" in wanted:
            answer["BuildCache"] = cache
            if version < (1, 42):
                answer["BuilderSize"] = sum(entry["Size"] for entry in cache)
        return answer
    unused = sum(each["Size"] - max(0, each["SharedSize"]) for each in images if not each["Containers"])
    stopped = [each for each in containers if each["State"] not in ("running", "paused", "restarting")]
    idle = [each["UsageData"]["Size"] for each in volumes if not each["UsageData"]["RefCount"]]
    sizes = [each["UsageData"]["Size"] for each in volumes]
    totals = {
        "image": ("ImageUsage", images, sum(bool(each["Containers"]) for each in images), layers, unused),
        "container": (
            "ContainerUsage",
            containers,
            len(containers) - len(stopped),
            sum(each["SizeRw"] for each in containers),
            sum(each["SizeRw"] for each in stopped),
        ),
        "volume": (
            "VolumeUsage",
            volumes,
            len(volumes) - len(idle),
            sum(size for size in sizes if size > 0),
            sum(size for size in idle if size > 0),
        ),
        "build-cache": (
            "BuildCacheUsage",
            cache,
            sum(bool(each["InUse"]) for each in cache),
            sum(each["Size"] for each in cache),
            sum(each["Size"] for each in cache if not each["InUse"]),
        ),
    }
    return {
        name: {"ActiveCount": active, "TotalCount": len(items), "Reclaimable": reclaimable, "TotalSize": total}
        | ({"Items": items} if verbose and items else {})
        for kind, (name, items, active, total, reclaimable) in totals.items()
        if kind in wanted
    }
