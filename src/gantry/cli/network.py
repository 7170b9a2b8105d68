"""`gantry network`: ls, inspect, create, rm, connect, disconnect, prune."""

from __future__ import annotations

from gantry.cli import format as formats
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, integer, string, string_slice, strings, value
from gantry.cli.opts import filter_flag, filters, format_flag, inspect_format_flag, label, labels
from gantry.client.client import segment
from gantry.client.errors import ClientError, ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gantry.cli.flags import Arguments, Flag

_HEADERS: dict[str, Any] = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    **formats.label_field({}),
    "CreatedAt": "CREATED AT",
}
_TABLE = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
_RAW = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"


def map_flag(name: str, short: str, help: str) -> Flag:  # noqa: A002
    """A repeatable KEY=VALUE flag that Docker calls a map."""
    return value(name, short, help, str, metavar="map", default=[], repeats=True, shown="map[]")


def _ls(ctx: Context, args: Arguments) -> int:
    networks = ctx.client.get("/networks", {"filters": filters(args.strings("filter"))})
    networks.sort(key=lambda network: formats.natural_key(network["Name"]))
    quiet = args.boolean("quiet")
    template = formats.resolve(
        args.string("format"),
        ctx.config.get("networksFormat"),
        quiet=quiet,
        table=_TABLE,
        raw="network_id: {{.ID}}" if quiet else _RAW,
    )
    truncate = not args.boolean("no-trunc")
    rows = (_row(network, truncate=truncate) for network in networks)
    kind = "*network.networkContext"
    formats.render(rows, template, _HEADERS, ctx.out, type=kind)
    return 0


def _row(network: Mapping[str, Any], *, truncate: bool) -> dict[str, Any]:
    own = network.get("Labels") or {}
    return {
        "ID": network["Id"][:12] if truncate else network["Id"],
        "Name": network["Name"],
        "Driver": network.get("Driver") or "",
        "Scope": network.get("Scope") or "",
        "IPv4": lambda: _truth(network.get("EnableIPv4", True)),
        "IPv6": lambda: _truth(network.get("EnableIPv6")),
        "Internal": lambda: _truth(network.get("Internal")),
        "Labels": lambda: ",".join(f"{key}={text}" for key, text in sorted(own.items())),
        "CreatedAt": lambda: formats.go_time(network.get("Created") or ""),
        **formats.label_field(own),
    }


def _truth(value: object) -> str:
    return "true" if value else "false"


LS = Command(
    _ls,
    "[OPTIONS]",
    (
        filter_flag('Provide filter values (e.g. "driver=bridge")'),
        format_flag(),
        boolean("no-trunc", "", "Do not truncate the output"),
        boolean("quiet", "q", "Only display network IDs"),
    ),
    most=0,
)


def _inspect(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format_inspect import inspect

    query = {"verbose": args.boolean("verbose") or None}
    return inspect(
        ctx,
        args.positional,
        lambda name: ctx.client.get(f"/networks/{segment(name)}", query),
        args.string("format"),
        "network.Inspect",
    )


INSPECT = Command(
    _inspect,
    "[OPTIONS] NETWORK [NETWORK...]",
    (inspect_format_flag(), boolean("verbose", "v", "Verbose output for diagnostics")),
    least=1,
)


# -------------------------------------------------------------------------------------- create


def _create(ctx: Context, args: Arguments) -> int:
    pools = ipam_pools(
        args.strings("subnet"), args.strings("ip-range"), args.strings("gateway"), labels(args.strings("aux-address"))
    )
    body: dict[str, Any] = {
        "Name": args.positional[0],
        "Driver": args.string("driver"),
        "Options": labels(args.strings("opt")),
        "IPAM": {"Driver": args.string("ipam-driver"), "Config": pools, "Options": labels(args.strings("ipam-opt"))},
        "Internal": args.boolean("internal"),
        "EnableIPv6": args.boolean("ipv6") if "ipv6" in args.changed else None,
        "EnableIPv4": args.boolean("ipv4") if "ipv4" in args.changed else None,
        "Attachable": args.boolean("attachable"),
        "Ingress": args.boolean("ingress"),
        "Scope": args.string("scope"),
        "ConfigOnly": args.boolean("config-only"),
        "Labels": labels(args.strings("label")),
    }
    if args.string("config-from"):
        body["ConfigFrom"] = {"Network": args.string("config-from")}
    body = {key: item for key, item in body.items() if item is not None}
    answer = ctx.client.post("/networks/create", None, body)
    if answer.get("Warning"):
        ctx.warn(f"WARNING: {answer['Warning']}")
    ctx.out.write(answer["Id"] + "\n")
    return 0


def ipam_pools(
    subnets: Sequence[str], ranges: Sequence[str], gateways: Sequence[str], auxiliary: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One pool per subnet, with the range, gateway and addresses that lie in it; raises CommandError."""
    if len(subnets) < max(len(ranges), len(gateways)):
        raise CommandError("every ip-range or gateway must have a corresponding subnet")
    pools: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        if any(_contains(subnet, other) or _contains(other, subnet) for other in pools):
            raise CommandError("multiple overlapping subnet configuration is not supported")
        pools[subnet] = {"Subnet": subnet}
    for given, key, plural in ((ranges, "IPRange", "ranges"), (gateways, "Gateway", "gateways")):
        what = "range" if key == "IPRange" else "gateway"
        for text in given:
            if key == "IPRange" and "/" not in text:
                raise CommandError(f"invalid CIDR address: {text}")
            owner = _owner(pools, text, what)
            if key in owner:
                where = f"{'on' if key == 'IPRange' else 'for'} the same subnet ({owner['Subnet']})"
                raise CommandError(f"cannot configure multiple {plural} ({text}, {owner[key]}) {where}")
            owner[key] = text
    for name, text in auxiliary.items():
        _owner(pools, text, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = text
    return list(pools.values())


def _owner(pools: Mapping[str, dict[str, Any]], address: str, what: str) -> dict[str, Any]:
    for subnet, pool in pools.items():
        if _contains(subnet, address):
            return pool
    raise CommandError(f"no matching subnet for {what} {address}")


def _contains(subnet: str, text: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        outer = ip_network(subnet, strict=False)
    except ValueError:
        raise CommandError(f"invalid CIDR address: {subnet}") from None
    try:
        inner = ip_address(text.partition("/")[0])
        if "/" in text:
            ip_network(text, strict=False)
    except ValueError:
        if "/" in text:
            raise CommandError(f"invalid CIDR address: {text}") from None
        return False
    return inner in outer


CREATE = Command(
    _create,
    "[OPTIONS] NETWORK",
    (
        boolean("attachable", "", "Enable manual container attachment"),
        map_flag("aux-address", "", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
        string("config-from", "", "The network from which to copy the configuration"),
        boolean("config-only", "", "Create a configuration only network"),
        string("driver", "d", "Driver to manage the Network", default="bridge"),
        string_slice("gateway", "", "IPv4 or IPv6 Gateway for the master subnet"),
        boolean("ingress", "", "Create swarm routing-mesh network"),
        boolean("internal", "", "Restrict external access to the network"),
        string_slice("ip-range", "", "Allocate container ip from a sub-range"),
        string("ipam-driver", "", "IP Address Management Driver", default="default"),
        map_flag("ipam-opt", "", "Set IPAM driver specific options"),
        boolean("ipv4", "", "Enable or disable IPv4 address assignment", default=True),
        boolean("ipv6", "", "Enable or disable IPv6 address assignment"),
        strings("label", "", "Set metadata on a network", check=label),
        map_flag("opt", "o", "Set driver specific options"),
        string("scope", "", "Control the network's scope"),
        string_slice("subnet", "", "Subnet in CIDR format that represents a network segment"),
    ),
    least=1,
    most=1,
)


# ------------------------------------------------------------------------------- rm and prune


def _rm(ctx: Context, args: Arguments) -> int:
    status = 0
    for name in args.positional:
        try:
            ctx.client.delete(f"/networks/{segment(name)}")
        except ClientError as error:
            if args.boolean("force") and isinstance(error, ResponseError) and error.status == 404:
                continue
            ctx.warn(error.message)
            status = 1
            continue
        ctx.out.write(name + "\n")
        ctx.out.flush()
    return status


RM = Command(
    _rm,
    "NETWORK [NETWORK...]",
    (boolean("force", "f", "Do not error if the network does not exist"),),
    least=1,
)


def prune_networks(ctx: Context, wanted: Mapping[str, Mapping[str, bool]]) -> list[str]:
    """Remove unused networks; lines for the user."""
    from gantry.cli.prune import removed

    answer = ctx.client.post("/networks/prune", {"filters": wanted or None})
    return removed("Deleted Networks:", answer.get("NetworksDeleted"))


def _prune(ctx: Context, args: Arguments) -> int:
    from gantry.cli import prune

    wanted = prune.prune_filters(ctx, args)
    warning = f"WARNING! This will remove all custom networks not used by at least one container.\n{prune.QUESTION}"
    return prune.run(ctx, args, warning, lambda: (prune_networks(ctx, wanted), None))


def _prune_flags() -> Any:
    from gantry.cli import prune

    return prune.flags()


PRUNE = Command(_prune, "[OPTIONS]", _prune_flags(), most=0)


# ----------------------------------------------------------------------- connect and disconnect


def _connect(ctx: Context, args: Arguments) -> int:
    network, container = args.positional
    options = {}
    for text in args.strings("driver-opt"):
        key, equals, rest = text.partition("=")
        if not equals:
            raise CommandError("invalid key/value pair format in driver options")
        options[key.strip()] = rest.strip()
    endpoint: dict[str, Any] = {
        "IPAMConfig": {
            "IPv4Address": args.string("ip"),
            "IPv6Address": args.string("ip6"),
            "LinkLocalIPs": args.strings("link-local-ip"),
        },
        "Links": args.strings("link"),
        "Aliases": args.strings("alias"),
        "DriverOpts": options,
        "GwPriority": args.integer("gw-priority"),
    }
    path = f"/networks/{segment(network)}/connect"
    ctx.client.post(path, None, {"Container": container, "EndpointConfig": endpoint})
    return 0


CONNECT = Command(
    _connect,
    "[OPTIONS] NETWORK CONTAINER",
    (
        string_slice("alias", "", "Add network-scoped alias for the container"),
        string_slice("driver-opt", "", "driver options for the network"),
        integer(
            "gw-priority", "", "Highest gw-priority provides the default gateway. Accepts positive and negative values"
        ),
        string("ip", "", 'IPv4 address (e.g., "172.30.100.104")'),
        string("ip6", "", 'IPv6 address (e.g., "2001:db8::33")'),
        strings("link", "", "Add link to another container"),
        string_slice("link-local-ip", "", "Add a link-local address for the container"),
    ),
    least=2,
    most=2,
)


def _disconnect(ctx: Context, args: Arguments) -> int:
    network, container = args.positional
    body = {"Container": container, "Force": args.boolean("force")}
    ctx.client.post(f"/networks/{segment(network)}/disconnect", None, body)
    return 0


DISCONNECT = Command(
    _disconnect,
    "[OPTIONS] NETWORK CONTAINER",
    (boolean("force", "f", "Force the container to disconnect from a network"),),
    least=2,
    most=2,
)
