"""--format of list commands: tables, Go templates and JSON lines of rows.

    render(rows, template, HEADERS, ctx.out, type="*formatter.imageContext")

A row maps field names to texts, or to functions without arguments that make them. `template` is complete: "json",
"table {{.A}}\\t{{.B}}", or a Go template; `resolve` makes it of what the user and config.json say. Simple templates
(`{{.Name}}` and plain text) do not load the template engine.
"""

from __future__ import annotations

from gantry.cli.errors import CommandError
from gantry.cli.tabwriter import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TextIO

    from gantry.cli.command import Context
    from gantry.cli.gotemplate import Template


def resolve(
    given: str, configured: object, *, quiet: bool, table: str, quiet_table: str = "{{.ID}}", raw: str = ""
) -> str:
    """The template that --format, the configuration and --quiet choose among; `table` is the default one."""
    chosen = given or (str(configured) if configured and not quiet else "table")
    if chosen == "table":
        return quiet_table if quiet else table
    if chosen == "raw" and raw:
        return quiet_table if quiet and not given else raw
    return chosen


def render(
    rows: Iterable[Mapping[str, Any]],
    template: str,
    headers: Mapping[str, Any],
    out: TextIO,
    *,
    type: str = "*formatter.ContainerContext",  # noqa: A002
) -> None:
    """Write rows; raises CommandError where the template is malformed or fails."""
    table = template.startswith("table")
    text = template[5:] if table else template
    text = "{{json .}}" if text == "json" else text.strip(" ").replace("\\t", "\t").replace("\\n", "\n")
    parts = _simple(text, headers)
    if parts is not None:
        lines = [_fill(parts, row) for row in rows]
        head = _fill(parts, headers) if table else ""
    else:
        lines, head = _execute(text, rows, headers if table else {}, type)
    if table:
        out.write(align(head + "\n" + "".join(line + "\n" for line in lines)))
    else:
        out.writelines(line + "\n" for line in lines)


def _simple(text: str, headers: Mapping[str, Any]) -> list[str] | None:
    """Plain text and field names in turn, where the template is of these alone."""
    pieces = text.split("{{")
    parts = [pieces[0]]
    for piece in pieces[1:]:
        action, end, rest = piece.partition("}}")
        name = action.strip(" ")[1:]
        if not end or action.strip(" ")[:1] != "." or not isinstance(headers.get(name), str):
            return None
        parts += [name, rest]
    return parts


def _fill(parts: list[str], row: Mapping[str, Any]) -> str:
    out = []
    for place, part in enumerate(parts):
        if place % 2:
            value = row[part]
            value = value() if callable(value) else value
            out.append(value if isinstance(value, str) else _shown(value))
        else:
            out.append(part)
    return "".join(out)


def _shown(value: Any) -> str:
    from gantry.cli.gotemplate_print import show

    return show(value, top=True)


def _execute(
    text: str, rows: Iterable[Mapping[str, Any]], headers: Mapping[str, Any], kind: str
) -> tuple[list[str], str]:
    from gantry.cli.gotemplate import TemplateError
    from gantry.cli.gotemplate_values import Record

    try:
        template = parse(text)
        lines = [template.execute(Record(row, kind)) for row in rows]
        titles = {
            name: Method(title.header, title.header) if isinstance(title, Method) else title
            for name, title in headers.items()
        }
        head = template.execute(Record(titles, "formatter.SubHeaderContext", open=True), header=True) if headers else ""
    except TemplateError as error:
        raise CommandError(error.message) from None
    return lines, head


def parse(text: str, *, status: int = 1, name: str = "") -> Template:
    """A parsed template; raises CommandError."""
    from gantry.cli.gotemplate import Template, TemplateError

    try:
        return Template(text, name)
    except TemplateError as error:
        raise CommandError(error.message, status) from None


def render_one(ctx: Context, template: Template, value: Any) -> None:
    """Write one value by a template, as `info` and `version` do; raises CommandError."""
    from gantry.cli.gotemplate import TemplateError

    try:
        ctx.out.write(template.execute(value) + "\n")
    except TemplateError as error:
        ctx.out.write("\n")
        raise CommandError(error.detail) from None


class Method:
    """A field that takes arguments: `{{.Label "key"}}`; `header` gives its column's heading for them."""

    __slots__ = ("call", "header")

    def __init__(self, call: Callable[..., Any], header: Callable[..., str]) -> None:
        self.call = call
        self.header = header


def label_field(labels: Mapping[str, str]) -> dict[str, Any]:
    """A row's `Label "key"` method; in the headings, with no labels, its heading."""
    return {"Label": Method(lambda key: labels.get(key, ""), _label_header)}


def _label_header(key: str) -> str:
    """A label's column heading: the last part of its name."""
    return key.rpartition(".")[2].replace("-", " ").replace("_", " ")


def natural_key(text: str) -> list[tuple[str, int, str]]:
    """Sorts "a2" before "a10"."""
    key: list[tuple[str, int, str]] = []
    at = 0
    while at < len(text):
        end = at
        while end < len(text) and "0" <= text[end] <= "9":
            end += 1
        if end > at:
            key.append(("0", int(text[at:end]), text[at:end]))
            at = end
        else:
            key.append((text[at], 0, ""))
            at += 1
    return key


def go_time(text: str) -> str:
    """An RFC 3339 time as Go's time.Time prints itself."""
    from gantry.cli.gotemplate_time import time_text

    return time_text(text)
