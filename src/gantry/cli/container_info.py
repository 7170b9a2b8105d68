"""Commands that show one container: inspect, top, port, diff."""

from __future__ import annotations

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean
from gantry.cli.opts import inspect_format_flag
from gantry.client.client import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gantry.cli.flags import Arguments

_KINDS = ("C", "A", "D")


def _inspect(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format_inspect import inspect

    query = {"size": args["size"] or None}
    return inspect(
        ctx,
        args.positional,
        lambda name: ctx.client.get(f"/containers/{segment(name)}/json", query),
        args.string("format"),
        "container.InspectResponse",
    )


def _top(ctx: Context, args: Arguments) -> int:
    from gantry.cli.tabwriter import align

    name, *options = args.positional
    found = ctx.client.get(f"/containers/{segment(name)}/top", {"ps_args": " ".join(options) or None})
    rows = [found["Titles"], *(found["Processes"] or ())]
    ctx.out.write(align("".join("\t".join(row) + "\n" for row in rows), least=20))
    return 0


def _port(ctx: Context, args: Arguments) -> int:
    name, *wanted = args.positional
    wanted_port = _wanted_port(wanted[0]) if wanted else ""
    ports = ctx.client.get(f"/containers/{segment(name)}/json")["NetworkSettings"].get("Ports") or {}
    if not wanted_port:
        lines = sorted(
            (f"{port} -> {_address(binding)}" for port, bindings in ports.items() for binding in bindings or ()),
            key=_natural,
        )
    elif ports.get(wanted_port) is None:
        raise CommandError(f"Error: No public port '{wanted[0]}' published for {name}")
    else:
        lines = sorted((_address(binding) for binding in ports[wanted_port]), key=_natural)
    ctx.out.write("".join(line + "\n" for line in lines))
    return 0


def _wanted_port(text: str) -> str:
    port, _, protocol = text.partition("/")
    if not (port.isascii() and port.isdecimal()):
        raise CommandError(f'Error: invalid port ({port}): strconv.ParseUint: parsing "{port}": invalid syntax')
    return f"{port}/{protocol or 'tcp'}"


def _address(binding: Mapping[str, Any]) -> str:
    address, port = str(binding.get("HostIp") or ""), binding.get("HostPort") or ""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _natural(text: str) -> list[tuple[int, int]]:
    """A sort key by which 9 comes before 10."""
    key: list[tuple[int, int]] = []
    digits = ""
    for char in text + "\0":
        if char.isdigit():
            digits += char
            continue
        if digits:
            key.append((ord("0"), int(digits)))
            digits = ""
        key.append((ord(char), 0))
    return key


def _diff(ctx: Context, args: Arguments) -> int:
    changes: Sequence[Mapping[str, Any]] = ctx.client.get(f"/containers/{segment(args.positional[0])}/changes") or ()
    ctx.out.write("".join(f"{_KINDS[change['Kind']]} {change['Path']}\n" for change in changes))
    return 0


INSPECT = Command(
    _inspect,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (inspect_format_flag(), boolean("size", "s", "Display total file sizes")),
    least=1,
)
TOP = Command(_top, "CONTAINER [ps OPTIONS]", least=1, interspersed=False)
PORT = Command(_port, "CONTAINER [PRIVATE_PORT[/PROTO]]", least=1, most=2)
DIFF = Command(_diff, "CONTAINER", least=1, most=1)
