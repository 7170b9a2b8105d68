"""`gantry search`: look for images on Docker Hub."""

from __future__ import annotations

from gantry.cli import format as formats
from gantry.cli.command import Command, Context
from gantry.cli.flags import boolean, integer
from gantry.cli.opts import filter_flag, filters, format_flag
from gantry.cli.table import ellipsis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gantry.cli.flags import Arguments

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
_TABLE = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"


def _run(ctx: Context, args: Arguments) -> int:
    from gantry.client.auth import header

    term = args.positional[0]
    registry = term.partition("/")[0] if "/" in term and ("." in term or ":" in term) else "docker.io"
    response = ctx.client.request(
        "GET",
        "/images/search",
        {"term": term, "limit": args.integer("limit") or None, "filters": filters(args.strings("filter"))},
        headers={"X-Registry-Auth": header(ctx.config, registry)},
    )
    found = sorted(response.json() or (), key=lambda result: -int(result.get("star_count") or 0))
    truncate = not args.boolean("no-trunc")
    template = formats.resolve(args.string("format"), "", quiet=False, table=_TABLE)
    rows = (_row(result, truncate=truncate) for result in found)
    formats.render(rows, template, _HEADERS, ctx.out, type="*formatter.searchContext")
    return 0


def _row(result: Mapping[str, Any], *, truncate: bool) -> dict[str, str]:
    description = str(result.get("description") or "").replace("\n", " ").replace("\r", " ")
    return {
        "Name": str(result.get("name") or ""),
        "Description": ellipsis(description, 45) if truncate else description,
        "StarCount": str(result.get("star_count") or 0),
        "IsOfficial": "[OK]" if result.get("is_official") else "",
        "IsAutomated": "[OK]" if result.get("is_automated") else "",
    }


COMMAND = Command(
    _run,
    "[OPTIONS] TERM",
    (
        filter_flag(),
        format_flag(),
        integer("limit", "", "Max number of search results"),
        boolean("no-trunc", "", "Don't truncate output"),
    ),
    least=1,
    most=1,
)
