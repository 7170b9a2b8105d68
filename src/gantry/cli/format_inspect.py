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
) -> int:
    """Fetch every name and print what was found; errors of single names follow, and the status is 1.

    `type_of` is the Go struct that templates see, or a function that tells it for an object.
    """
    parsed = parse(template, status=64) if template not in ("", "json") else None
    found: list[Any] = []
    lines: list[str] = []
    problems: list[str] = []
    for name in names:
        try:
            element = fetch(name)
            if parsed is not None:
                lines.append(_execute(parsed, element, type_of if isinstance(type_of, str) else type_of(element)))
            found.append(element)
        except (ClientError, CommandError) as error:
            problems.append(error.message)
    if template == "json":
        ctx.out.write(compact(found) + "\n" if found else "[]\n")
    elif parsed is None:
        ctx.out.write(indented(found) + "\n" if found else "[]\n")
    else:
        ctx.out.write("".join(line + "\n" for line in lines) or "\n")
    ctx.out.flush()
    if problems:
        ctx.err.write("\n".join(problems) + "\n")
    return 1 if problems else 0


def _execute(parsed: Any, element: Any, kind: str) -> str:
    """The typed view first; where that fails, the object as it came, with its JSON keys."""
    from gantry.cli.gotemplate import TemplateError
    from gantry.cli.gotemplate_values import numbers_as_written, typed

    try:
        return str(parsed.execute(typed(element, "*" + kind)))
    except TemplateError:
        try:
            return str(parsed.execute(numbers_as_written(element), strict=True))
        except TemplateError as error:
            raise CommandError(error.message) from None


def compact(value: Any) -> str:
    from gantry.client.jsontext import encode_text

    return encode_text(value)


def indented(value: Any) -> str:
    """JSON with four spaces per level."""
    import json

    return json.dumps(value, ensure_ascii=False, indent=4)
