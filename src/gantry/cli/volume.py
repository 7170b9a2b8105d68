"""`gantry volume`: create, inspect, ls, rm, prune, update."""

from __future__ import annotations

from gantry.cli import format as formats
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string, strings
from gantry.cli.network import map_flag
from gantry.cli.opts import filter_flag, filters, format_flag, inspect_format_flag, label, labels, size
from gantry.cli.units import human_size
from gantry.client.client import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gantry.cli.flags import Arguments

_HEADERS: dict[str, Any] = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    **formats.label_field({}),
    "Links": "LINKS",
    "Size": "SIZE",
    "Group": "GROUP",
    "Availability": "AVAILABILITY",
    "Status": "STATUS",
}
_TABLE = "table {{.Driver}}\t{{.Name}}"
_CLUSTER_TABLE = "table {{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}"
_CLUSTER_FLAGS = (
    "availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing",
    "topology-preferred", "topology-required", "type",
)  # fmt: skip


def _ls(ctx: Context, args: Arguments) -> int:
    answer = ctx.client.get("/volumes", {"filters": filters(args.strings("filter"))})
    for warning in answer.get("Warnings") or ():
        ctx.warn(warning)
    volumes = sorted(answer.get("Volumes") or (), key=lambda volume: formats.natural_key(volume["Name"]))
    cluster = args.boolean("cluster")
    if cluster:
        volumes = [volume for volume in volumes if volume.get("ClusterVolume")]
    quiet = args.boolean("quiet")
    template = formats.resolve(
        args.string("format"),
        "" if cluster else ctx.config.get("volumesFormat"),
        quiet=quiet,
        table=_CLUSTER_TABLE if cluster else _TABLE,
        quiet_table="{{.Name}}",
        raw="name: {{.Name}}" if quiet else "name: {{.Name}}\ndriver: {{.Driver}}\n",
    )
    formats.render(map(row, volumes), template, _HEADERS, ctx.out, type="*formatter.volumeContext")
    return 0


def row(volume: Mapping[str, Any]) -> dict[str, Any]:
    """What a template may show of a volume."""
    own = volume.get("Labels") or {}
    usage = volume.get("UsageData")
    cluster = volume.get("ClusterVolume") or {}
    spec = cluster.get("Spec") or {}
    return {
        "Name": volume["Name"],
        "Driver": volume.get("Driver") or "",
        "Scope": volume.get("Scope") or "",
        "Mountpoint": volume.get("Mountpoint") or "",
        "Labels": lambda: ",".join(f"{key}={text}" for key, text in sorted(own.items())),
        "Links": lambda: str(usage["RefCount"]) if usage else "N/A",
        "Size": lambda: human_size(usage["Size"]) if usage else "N/A",
        "Group": str(spec.get("Group") or "") if cluster else "N/A",
        "Availability": str(spec.get("Availability") or "") if cluster else "N/A",
        "Status": lambda: _status(cluster),
        **formats.label_field(own),
    }


def _status(cluster: Mapping[str, Any]) -> str:
    if not cluster:
        return "N/A"
    if not (cluster.get("Info") or {}).get("VolumeID"):
        return "pending creation"
    published = len(cluster.get("PublishStatus") or ())
    return f"in use ({published} node{'s' if published > 1 else ''})" if published else "created"


LS = Command(
    _ls,
    "[OPTIONS]",
    (
        boolean("cluster", "", "Display only cluster volumes, and use cluster volume list formatting", hidden=True),
        filter_flag('Provide filter values (e.g. "dangling=true")'),
        format_flag(),
        boolean("quiet", "q", "Only display volume names"),
    ),
    most=0,
)


def _inspect(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format_inspect import inspect

    return inspect(
        ctx,
        args.positional,
        lambda name: ctx.client.get(f"/volumes/{segment(name)}"),
        args.string("format"),
        "volume.Volume",
    )


INSPECT = Command(_inspect, "[OPTIONS] VOLUME [VOLUME...]", (inspect_format_flag(),), least=1)


def _create(ctx: Context, args: Arguments) -> int:
    name = args.string("name")
    if args.positional:
        if name:
            raise CommandError(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = args.positional[0]
    body: dict[str, Any] = {
        "Driver": args.string("driver"),
        "DriverOpts": labels(args.strings("opt")),
        "Labels": labels(args.strings("label")),
        "Name": name,
    }
    if any(flag in args.changed for flag in _CLUSTER_FLAGS):
        body["ClusterVolumeSpec"] = _cluster_spec(args)
    ctx.out.write(ctx.client.post("/volumes/create", None, body)["Name"] + "\n")
    return 0


def _cluster_spec(args: Arguments) -> dict[str, Any]:
    access: dict[str, Any] = {"Scope": args.string("scope"), "Sharing": args.string("sharing")}
    access["MountVolume" if args.string("type") == "mount" else "BlockVolume"] = {}
    secrets = [{"Key": key, "Secret": text} for key, text in sorted(labels(args.strings("secret")).items())]
    return {
        "Group": args.string("group"),
        "AccessMode": access,
        "Availability": args.string("availability"),
        "CapacityRange": {"RequiredBytes": args["required-bytes"], "LimitBytes": args["limit-bytes"]},
        "Secrets": secrets,
        "AccessibilityRequirements": {
            "Requisite": [_topology(text) for text in args.strings("topology-required")],
            "Preferred": [_topology(text) for text in args.strings("topology-preferred")],
        },
    }


def _topology(text: str) -> dict[str, Any]:
    return {"Segments": labels(text.split(","))}


CREATE = Command(
    _create,
    "[OPTIONS] [VOLUME]",
    (
        string("availability", "", "Cluster Volume availability", default="active", hidden=True),
        string("driver", "d", "Specify volume driver name", default="local"),
        string("group", "", "Cluster Volume group (cluster volumes)", hidden=True),
        strings("label", "", "Set metadata for a volume", check=label),
        size("limit-bytes", "", "Maximum size of the Cluster Volume in bytes", hidden=True),
        string("name", "", "Specify volume name", hidden=True),
        map_flag("opt", "o", "Set driver specific options"),
        size("required-bytes", "", "Minimum size of the Cluster Volume in bytes", hidden=True),
        string("scope", "", "Cluster Volume access scope", default="single", hidden=True),
        strings("secret", "", "Cluster Volume secrets", metavar="map", hidden=True),
        string("sharing", "", "Cluster Volume access sharing", default="none", hidden=True),
        strings("topology-preferred", "", "A topology that the Cluster Volume would be preferred in", hidden=True),
        strings("topology-required", "", "A topology that the Cluster Volume must be accessible from", hidden=True),
        string("type", "", "Cluster Volume access type", default="block", hidden=True),
    ),
    most=1,
)


def _rm(ctx: Context, args: Arguments) -> int:
    query = {"force": args.boolean("force") or None}

    def remove(name: str) -> None:
        ctx.client.delete(f"/volumes/{segment(name)}", query)

    return ctx.each(args.positional, remove)


RM = Command(
    _rm,
    "[OPTIONS] VOLUME [VOLUME...]",
    (boolean("force", "f", "Force the removal of one or more volumes"),),
    least=1,
)


def prune_volumes(ctx: Context, wanted: Mapping[str, Mapping[str, bool]], *, everything: bool) -> tuple[list[str], int]:
    """Remove unused anonymous (or all unused) volumes; lines for the user, and bytes reclaimed."""
    from gantry.cli.prune import removed

    chosen = {**wanted, "all": {"true": True}} if everything else dict(wanted)
    answer = ctx.client.post("/volumes/prune", {"filters": chosen or None})
    lines = removed("Deleted Volumes:", answer.get("VolumesDeleted"))
    return lines, int(answer.get("SpaceReclaimed") or 0) if lines else 0


def _prune(ctx: Context, args: Arguments) -> int:
    from gantry.cli import prune

    everything = args.boolean("all")
    wanted = prune.prune_filters(ctx, args)
    if everything and "all" in wanted:
        raise CommandError("conflicting options: cannot specify both --all and --filter all=1")
    what = "all" if everything or not ctx.client.at_least("1.42") else "anonymous"
    warning = f"WARNING! This will remove {what} local volumes not used by at least one container.\n{prune.QUESTION}"
    return prune.run(ctx, args, warning, lambda: prune_volumes(ctx, wanted, everything=everything))


def _prune_flags() -> Any:
    from gantry.cli import prune

    return (boolean("all", "a", "Remove all unused volumes, not just anonymous ones"), *prune.flags("label=<label>"))


PRUNE = Command(_prune, "[OPTIONS]", _prune_flags(), most=0)


def _update(ctx: Context, args: Arguments) -> int:
    name = args.positional[0]
    volume = ctx.client.get(f"/volumes/{segment(name)}")
    cluster = volume.get("ClusterVolume")
    if not cluster:
        raise CommandError("Can only update cluster volumes")
    spec = {**(cluster.get("Spec") or {})}
    if "availability" in args.changed:
        spec["Availability"] = args.string("availability")
    version = (cluster.get("Version") or {}).get("Index", 0)
    ctx.client.request("PUT", f"/volumes/{segment(name)}", {"version": version}, body={"Spec": spec}).read()
    return 0


UPDATE = Command(
    _update,
    "[OPTIONS] [VOLUME]",
    (string("availability", "", 'Cluster Volume availability ("active", "pause", "drain")', default="active"),),
    least=1,
    most=1,
)
