"""`gantry events`: what happens in the daemon, as it happens."""

from __future__ import annotations

import time

from gantry.cli.command import Command, Context
from gantry.cli.flags import string
from gantry.cli.opts import filter_flag, filters, timestamp
from gantry.client.jsontext import encode_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gantry.cli.flags import Arguments


def _run(ctx: Context, args: Arguments) -> int:
    query = {
        "since": timestamp("since", args.string("since")),
        "until": timestamp("until", args.string("until")),
        "filters": filters(args.strings("filter")),
    }
    template = args.string("format")
    if template not in ("", "json", "{{json .}}"):
        from gantry.cli.format import parse, render_one
        from gantry.cli.gotemplate_values import typed

        parsed = parse(template, status=64)
    for event in ctx.client.messages("GET", "/events", query):
        if template in ("json", "{{json .}}"):  # as the daemon wrote it, its order included
            ctx.out.write(encode_text(event) + "\n")
        elif template:
            render_one(ctx, parsed, typed(event, "events.Message"))
        else:
            ctx.out.write(line(event) + "\n")
        ctx.out.flush()
    return 0


def line(event: Mapping[str, Any]) -> str:
    """`2026-01-02T03:04:05.000000006Z container start ID (image=busybox, name=x)`."""
    parts = []
    if event.get("timeNano"):
        parts.append(local_time(event["timeNano"]))
    elif event.get("time"):
        parts.append(local_time(event["time"] * 10**9))
    actor = event.get("Actor") or {}
    parts += [str(event.get("Type")), str(event.get("Action")), str(actor.get("ID") or "")]
    attributes = actor.get("Attributes") or {}
    if attributes:
        parts.append("(" + ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes)) + ")")
    return " ".join(parts)


def local_time(nanoseconds: int) -> str:
    """RFC 3339 with nine digits, in the local time zone."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{fraction:09d}{zone}"


COMMAND = Command(
    _run,
    "[OPTIONS]",
    (
        filter_flag(),
        string("format", "", "Format output using a custom template ('json', or a Go template)"),
        string("since", "", "Show all events created since timestamp"),
        string("until", "", "Stream events until this timestamp"),
    ),
    most=0,
)
