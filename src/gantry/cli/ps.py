"""`gantry ps`: list containers. The default table takes a path of its own, without the template engine."""

from __future__ import annotations

import time

from gantry.cli.command import Command, Context
from gantry.cli.flags import boolean, integer, quote
from gantry.cli.opts import filter_flag, filters, format_flag
from gantry.cli.table import ellipsis, render
from gantry.cli.units import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from gantry.cli.flags import Arguments

HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "State": "STATE",
    "Platform": "PLATFORM",
    "HealthStatus": "HEALTH STATUS",
}
_RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\n"
    "status: {{.Status}}\nnames: {{.Names}}\nlabels: {{- if .Labels}} {{.Labels}}{{end}}\n"
    "ports: {{- if .Ports}} {{.Ports}}{{end}}\n"
)
_TABLE = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def _run(ctx: Context, args: Arguments) -> int:
    template = args.string("format") or str(ctx.config.get("psFormat") or "table")
    quiet = args.boolean("quiet")
    plain = template == "table" or quiet
    if quiet and args.string("format") not in ("", "table"):
        ctx.warn("WARNING: Ignoring custom format, because both --format and --quiet are set.")
    size = args.boolean("size") or (not plain and ".Size" in template)
    limit = args.integer("last")
    if args.boolean("latest") and limit == -1:
        limit = 1
    rows = ctx.client.get(
        "/containers/json",
        {
            "all": args.boolean("all") or None,
            "limit": limit if limit > 0 else None,
            "size": size or None,
            "filters": filters(args.strings("filter")),
        },
    )
    truncate = not args.boolean("no-trunc")
    if quiet:
        prefix = "container_id: " if args.string("format") == "raw" else ""
        ctx.out.write("".join(f"{prefix}{row['Id'][: 12 if truncate else None]}\n" for row in rows))
    elif plain:
        ctx.out.write(table(rows, truncate=truncate, size=size))
    else:
        _formatted(ctx, rows, template, truncate=truncate, size=size)
    return 0


def _formatted(ctx: Context, rows: Iterable[Mapping[str, Any]], template: str, *, truncate: bool, size: bool) -> None:
    from gantry.cli import format as formats

    if template == "raw":
        template = _RAW + "size: {{.Size}}\n" if size else _RAW
    cells: list[dict[str, Any]] = []
    for row in rows:
        named: dict[str, Any] = dict(fields(row, truncate=truncate))
        cells.append(named | formats.label_field(row.get("Labels") or {}))
    formats.render(cells, template, HEADERS | formats.label_field({}), ctx.out)


def table(containers: Iterable[Mapping[str, Any]], *, truncate: bool, size: bool) -> str:
    """The default table."""
    names = (*_TABLE, "Size") if size else _TABLE
    lines: list[Sequence[str]] = [[HEADERS[name] for name in names]]
    for container in containers:
        cells = fields(container, truncate=truncate)
        lines.append([cells[name]() for name in names])
    return render(lines)


def fields(container: Mapping[str, Any], *, truncate: bool) -> dict[str, Callable[[], Any]]:
    """What a template may show of one entry of the container list."""
    return {
        "ID": lambda: str(container["Id"])[: 12 if truncate else None],
        "Image": lambda: _image(container, truncate=truncate),
        "Command": lambda: quote(ellipsis(container["Command"], 20) if truncate else container["Command"]),
        "CreatedAt": lambda: _created_at(container["Created"]),
        "RunningFor": lambda: human_duration(time.time() - container["Created"]) + " ago",
        "Status": lambda: str(container.get("Status") or ""),
        "State": lambda: str(container.get("State") or ""),
        "Ports": lambda: ports(container.get("Ports") or ()),
        "Names": lambda: _names(container, truncate=truncate),
        "Size": lambda: _size(container),
        "Labels": lambda: ",".join(f"{key}={text}" for key, text in sorted((container.get("Labels") or {}).items())),
        "Mounts": lambda: _mounts(container, truncate=truncate),
        "LocalVolumes": lambda: str(sum(mount.get("Driver") == "local" for mount in container.get("Mounts") or ())),
        "Networks": lambda: ",".join(sorted((container.get("NetworkSettings") or {}).get("Networks") or {})),
        "Platform": lambda: _platform(container),
        "HealthStatus": lambda: str((container.get("Health") or {}).get("Status") or ""),
    }


def _image(container: Mapping[str, Any], *, truncate: bool) -> str:
    image = str(container.get("Image") or "")
    if not image:
        return "<no image>"
    if not truncate:
        return image
    short = str(container.get("ImageID") or "").removeprefix("sha256:")[:12]
    if short and image.removeprefix("sha256:")[:12] == short:
        return short
    name, at, _ = image.partition("@")
    return str(name if at and ":" in name.rpartition("/")[2] else image)


def _names(container: Mapping[str, Any], *, truncate: bool) -> str:
    names = [name.removeprefix("/") for name in container.get("Names") or ()]
    if truncate:  # names with a further "/" are links
        names = [name for name in names if "/" not in name]
    return ",".join(names)


def _size(container: Mapping[str, Any]) -> str:
    own = human_size(container.get("SizeRw") or 0, 3)
    root = container.get("SizeRootFs") or 0
    return f"{own} (virtual {human_size(root, 3)})" if root > 0 else own


def _mounts(container: Mapping[str, Any], *, truncate: bool) -> str:
    names = [mount.get("Name") or mount.get("Source") or "" for mount in container.get("Mounts") or ()]
    return ",".join(ellipsis(name, 15) if truncate else name for name in names)


def _platform(container: Mapping[str, Any]) -> str | None:
    descriptor = container.get("ImageManifestDescriptor") or {}
    platform = descriptor.get("platform") or {}
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(part for part in parts if part) or None


def _created_at(seconds: int) -> str:
    moment = time.localtime(seconds)
    offset = time.strftime("%z", moment)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)} {offset} {moment.tm_zone}"


def ports(entries: Sequence[Mapping[str, Any]]) -> str:
    """Published and exposed ports, neighbours joined to ranges: "0.0.0.0:8080-8081->80-81/tcp, 53/udp"."""
    shown: list[str] = []
    ranges: dict[str, list[tuple[int, int]]] = {}
    alone: list[tuple[str, str]] = []
    for port in sorted(entries, key=_port_order):
        private, public = port["PrivatePort"], port.get("PublicPort") or 0
        kind, address = port.get("Type", "tcp"), port.get("IP") or ""
        if public and address and ":" in address:
            address = f"[{address}]"
        if public and public != private:
            alone.append((kind, f"{address}:{public}->{private}/{kind}" if address else f"{private}/{kind}"))
            continue
        key = f"{address}/{kind}" if public and address else kind
        spans = ranges.setdefault(key, [])
        if spans and spans[-1][1] == private - 1:
            spans[-1] = (spans[-1][0], private)
        elif not spans or spans[-1][1] != private:
            spans.append((private, private))
    for key, spans in ranges.items():
        address, slash, kind = key.rpartition("/")
        for first, last in spans:
            text = str(first) if first == last else f"{first}-{last}"
            shown.append(f"{address}:{text}->{text}/{kind}" if slash else f"{text}/{kind}")
    return ", ".join([*shown, *(text for _, text in alone)])


def _port_order(port: Mapping[str, Any]) -> tuple[int, str, int, str]:
    return port["PrivatePort"], port.get("IP") or "", port.get("PublicPort") or 0, port.get("Type", "tcp")


COMMAND = Command(
    _run,
    "[OPTIONS]",
    (
        boolean("all", "a", "Show all containers (default shows just running)"),
        filter_flag(),
        format_flag(),
        integer("last", "n", "Show n last created containers (includes all states)", default=-1),
        boolean("latest", "l", "Show the latest created container (includes all states)"),
        boolean("no-trunc", "", "Don't truncate output"),
        boolean("quiet", "q", "Only display container IDs"),
        boolean("size", "s", "Display total file sizes"),
    ),
    most=0,
)
