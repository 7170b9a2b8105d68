"""`gantry build --check`: what is wrong with a Dockerfile that builds all the same."""

from __future__ import annotations

import base64
import json

from gantry.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gantry.cli.build_source import Source
    from gantry.cli.command import Context
    from gantry.cli.flags import Arguments

_AROUND = 2
_RULE = "-" * 20


def check(ctx: Context, args: Arguments, query: Callable[[Context, Arguments, Source], dict[str, Any]]) -> int:
    """Print the findings; the exit code is 1 where there are some that are more than advice. Raises CommandError."""
    from gantry.cli.build_source import open_source

    call, _, options = args.string("call").partition(",")
    if call not in ("build", "check", "lint"):
        raise CommandError(f'unsupported call "{call}": it is check')
    source = open_source(args.positional[0], args.string("file"), bare=True)
    response = ctx.client.request(
        "POST", "/build", query(ctx, args, source) | {"call": "check"}, data=source.archive([]) or b"",
        content_type="application/x-tar",
    )  # fmt: skip
    text = response.read()
    found = json.loads(text)
    if options == "format=json":
        ctx.out.write(json.dumps(found, indent=2) + "\n")
    elif options:
        raise CommandError(f'invalid call option "{options}": it is format=json')
    else:
        _print(ctx, found)
    return 1 if any(not each["advice"] for each in found["warnings"]) else 0


def _print(ctx: Context, found: dict[str, Any]) -> None:
    lines = base64.b64decode(found["sources"][0]["data"]).decode("utf-8", "replace").split("\n")
    name = found["sources"][0]["filename"]
    warnings = [each for each in found["warnings"] if not each["advice"]]
    notes = [each for each in found["warnings"] if each["advice"]]
    if warnings:
        plural = "s have" if len(warnings) > 1 else " has"
        ctx.out.write(f"Check complete, {len(warnings)} warning{plural} been found!\n")
    else:
        ctx.out.write("Check complete, no warnings found.\n")
    for each in (*warnings, *notes):
        head = "ADVICE: " if each["advice"] else "WARNING: "
        page = f" - {each['url']}" if each["url"] else ""
        span = each["location"]["ranges"][0]
        start, end = span["start"]["line"], span["end"]["line"]
        ctx.out.write(f"\n{head}{each['ruleName']}{page}\n{each['detail']}\n{name}:{start}\n{_RULE}\n")
        for number in range(max(1, start - _AROUND), min(len(lines), end + _AROUND) + 1):
            mark = ">>>" if start <= number <= end else "   "
            ctx.out.write(f"{number:4} | {mark} {lines[number - 1]}\n")
        ctx.out.write(f"{_RULE}\n")
