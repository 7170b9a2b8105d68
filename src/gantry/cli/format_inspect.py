"""What every `inspect` command does with what it found: indented JSON, JSON, or a template over each object.

return inspect(ctx, names, lambda name: ctx.client.get(...), args.string("format"), "image.InspectResponse")
"""

from __future__ import annotations

from gantry.cli.errors import CommandError
from gantry.cli.format import parse
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from gantry.cli.command import Context


def inspect(
    ctx: Context,
    names: Iterable[str],
    fetch: Callable[[str], Any],
    template: str,
    type_of: str | Callable[[Any], str],
    *,
    raw: bool = True,
) -> int:
    """Fetch every name and print what was found; errors of single names follow, and the status is 1.

    `type_of` is the Go struct that templates see, "" for none, or a function that tells it for an object. Objects
    that are not `raw`, the daemon's own text, are known by their type alone, and their JSON has no <, > and & in it.
    """
    parsed = parse(template, status=64) if template not in ("", "json") else None
    found: list[Any] = []
    lines: list[str] = []
    problems: list[str] = []
    for name in names:
        try:
            element = fetch(name)
            if parsed is not None:
                kind = type_of if isinstance(type_of, str) else type_of(element)
                lines.append(_execute(parsed, element, kind, raw=raw))
            found.append(element)
        except (ClientError, CommandError) as error:
            problems.append(error.message)
    if parsed is None:
        text = compact(found) if template == "json" else indented(found)
        ctx.out.write((text if raw else escaped(text)) + "\n")
    else:
        ctx.out.write("".join(line + "\n" for line in lines) or "\n")
    ctx.out.flush()
    if problems:
        ctx.err.write("\n".join(problems) + "\n")
    return 1 if problems else 0


def _execute(parsed: Any, element: Any, kind: str, *, raw: bool) -> str:
    """The typed view first; where that fails, the object as it came, with its JSON keys."""
    from gantry.cli.gotemplate import TemplateError
    from gantry.cli.gotemplate_values import numbers_as_written, typed

    try:
        if kind:
            try:
                return str(parsed.execute(typed(element, f"*{kind}" if raw else kind)))
            except TemplateError:
                if not raw:
                    raise
        return str(parsed.execute(numbers_as_written(element), strict=True))
    except TemplateError as error:
        raise CommandError(error.message) from None


def escaped(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def compact(value: Any) -> str:
    from gantry.client.jsontext import encode_text

    return encode_text(value)


def indented(value: Any) -> str:
    """JSON with four spaces per level."""
    import json

    return json.dumps(value, ensure_ascii=False, indent=4)
