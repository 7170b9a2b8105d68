"""`gantry system df --verbose`: every image, container, volume and piece of build cache."""

from __future__ import annotations

import time

from gantry.cli import image as images
from gantry.cli.errors import CommandError
from gantry.cli.ps import fields as container_row
from gantry.cli.table import render
from gantry.cli.units import human_duration, human_size
from gantry.cli.volume import row as volume_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from gantry.cli.command import Context
    from gantry.cli.system_df import Usage

_IMAGES = (
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("SHARED SIZE", "SharedSize"),
    ("UNIQUE SIZE", "UniqueSize"),
    ("CONTAINERS", "Containers"),
)
_CONTAINERS = (
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("LOCAL VOLUMES", "LocalVolumes"),
    ("SIZE", "Size"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("NAMES", "Names"),
)
_VOLUMES = (("VOLUME NAME", "Name"), ("LINKS", "Links"), ("SIZE", "Size"))
_CACHE = (
    ("CACHE ID", "ID"),
    ("CACHE TYPE", "CacheType"),
    ("SIZE", "Size"),
    ("CREATED", "CreatedSince"),
    ("LAST USED", "LastUsedSince"),
    ("USAGE", "UsageCount"),
    ("SHARED", "Shared"),
)


def show(ctx: Context, found: Mapping[str, Usage], template: str) -> None:
    """Four tables, or one value for a template with the fields Images, Containers, Volumes, BuildCache."""
    short = template in ("", "table")
    cache = found["Build Cache"]
    lists = {
        "Images": [
            images.row(image, *name, truncate=short)
            for image in found["Images"].items
            for name in images.names(image, digests=False)
        ],
        "Containers": [_container(one, truncate=short) for one in found["Containers"].items],
        "Volumes": [
            {key: item for key, item in volume_row(one).items() if key != "Label"}
            for one in found["Local Volumes"].items
        ],
        "BuildCache": [_cache_row(one, truncate=short) for one in cache.items],
    }
    if short:
        ctx.out.write("Images space usage:\n\n" + _table(_IMAGES, lists["Images"]))
        ctx.out.write("\nContainers space usage:\n\n" + _table(_CONTAINERS, lists["Containers"]))
        ctx.out.write("\nLocal Volumes space usage:\n\n" + _table(_VOLUMES, lists["Volumes"]))
        ctx.out.write(f"\nBuild cache usage: {human_size(cache.size)}\n\n" + _table(_CACHE, lists["BuildCache"]))
        return
    from gantry.cli.format import parse
    from gantry.cli.format_inspect import compact, escaped
    from gantry.cli.gotemplate import TemplateError
    from gantry.cli.gotemplate_values import Record

    document = {name: [_plain(row) for row in rows] for name, rows in lists.items()}
    if template == "json":
        ctx.out.write(escaped(compact(document)) + "\n")
        return
    parsed = parse(template)
    try:
        text = parsed.execute(Record(document, "*formatter.diskUsageContext"))
    except TemplateError as error:
        raise CommandError(error.message) from None
    ctx.out.write(text + "\n")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item() if callable(item) else item for key, item in sorted(row.items())}


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> str:
    lines = [[title for title, _ in columns]]
    for row in rows:
        cells = (row[name] for _, name in columns)
        lines.append([cell() if callable(cell) else cell for cell in cells])
    return render(lines)


def _container(container: Mapping[str, Any], *, truncate: bool) -> dict[str, Any]:
    own = container_row(container, truncate=truncate)
    return {**own, "Size": lambda: human_size(container.get("SizeRw") or 0, 3)}


def _cache_row(entry: Mapping[str, Any], *, truncate: bool) -> dict[str, Any]:
    return {
        "ID": entry["ID"][:12] if truncate else entry["ID"],
        "Parent": ",".join(entry.get("Parents") or ([entry["Parent"]] if entry.get("Parent") else [])),
        "CacheType": entry.get("Type") or "",
        "Description": entry.get("Description") or "",
        "InUse": _truth(entry.get("InUse")),
        "Shared": _truth(entry.get("Shared")),
        "Size": human_size(entry.get("Size") or 0, 3),
        "CreatedAt": _go_time(entry.get("CreatedAt")),
        "CreatedSince": _ago(entry.get("CreatedAt")),
        "LastUsedAt": _go_time(entry.get("LastUsedAt")),
        "LastUsedSince": _ago(entry.get("LastUsedAt")),
        "UsageCount": str(entry.get("UsageCount") or 0),
    }


def _truth(value: object) -> str:
    return "true" if value else "false"


def _go_time(text: str | None) -> str:
    from gantry.cli.format import go_time

    return go_time(text) if text else ""


def _ago(text: str | None) -> str:
    from gantry.model.timestamp import parse_rfc3339

    return human_duration(time.time() - parse_rfc3339(text) / 1e9) + " ago" if text else ""
