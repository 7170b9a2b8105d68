"""Help pages and usage lines, in the layout that Docker's users know."""

from __future__ import annotations

import os

from gantry.cli import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gantry.cli.command import Command
    from gantry.cli.flags import Flag

_SLOP = 5
"""How far a line may go over, where that saves a last line of one short word."""


def width(descriptor: int = 1) -> int:
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


def command_page(program: str, row: tuple[str, ...], path: str, command: Command) -> str:
    parts = [f"Usage:  {program} {usage_line(path, command)}", command.description or row[1].lstrip("~")]
    names = [name.lstrip("~") for name in row[2:] if not (name[0] == "~" and " " not in name)]
    if len(names) > 1:
        parts.append("Aliases:\n  " + ", ".join(f"{program} {name}" for name in names))
    options = flag_table(command.flags, width())
    if options:
        parts.append("Options:\n" + options)
    return "\n\n".join(parts) + "\n"


def usage_line(path: str, command: Command) -> str:
    return f"{path} {command.usage}".rstrip()


def group_page(program: str, group: str) -> str:
    return (
        f"Usage:  {program} {group} COMMAND\n\n{tree.GROUPS[group]}\n\nCommands:\n{_list(tree.listed(group))}\n\n"
        f"Run '{program} {group} COMMAND --help' for more information on a command.\n"
    )


def first_page(program: str, flags: Sequence[Flag]) -> str:
    commands = dict(tree.listed(""))
    common = [(name, commands.pop(name)) for name in tree.COMMON if name in commands]
    return (
        f"Usage:  {program} [OPTIONS] COMMAND\n\nContainers, images and builds\n\n"
        f"Common Commands:\n{_list(common)}\n\n"
        f"Management Commands:\n{_list(sorted(tree.GROUPS.items()))}\n\n"
        f"Commands:\n{_list(sorted(commands.items()))}\n\n"
        f"Global Options:\n{flag_table(flags, width())}\n\n"
        f"Run '{program} COMMAND --help' for more information on a command.\n"
    )


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<11} {summary}" for name, summary in rows)


def flag_table(flags: Sequence[Flag], columns: int) -> str:
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.metavar:
            left += " " + flag.metavar
        right = f"{flag.help} (default {flag.shown})" if flag.shown else flag.help
        rows.append((left, right))
    if flags and any(flag.short == "h" for flag in flags):  # `-h` is taken, so help names its own flag
        rows.append(("      --help", "Print usage"))
        rows.sort(key=lambda row: row[0].partition("--")[2])
    if not rows:
        return ""
    indent = max(len(left) for left, _ in rows) + 3
    return "\n".join(f"{left:<{indent}}{_wrap(indent, columns, right)}" for left, right in rows)


def _wrap(indent: int, columns: int, text: str) -> str:
    """`text` in lines of `columns` less `indent`, the first of them unindented."""
    room = columns - indent
    first = ""
    if room < 24:
        indent = 16
        room = columns - indent
        first = "\n" + " " * indent
    if room < 24:
        return text
    room -= _SLOP
    lines = []
    while text:
        line, text = _cut(room, text)
        lines.append(line)
    return first + ("\n" + " " * indent).join(lines)


def _cut(room: int, text: str) -> tuple[str, str]:
    if room + _SLOP > len(text):
        line, rest = text, ""
    else:
        place = max(text.rfind(blank, 0, room) for blank in " \t\n")
        if place <= 0:
            line, rest = text, ""
        else:
            newline = text.rfind("\n", 0, room)
            place = newline if 0 < newline < place else place
            line, rest = text[:place], text[place + 1 :]
    first, newline_char, after = line.partition("\n")
    return (first, after + (" " + rest if rest else "")) if newline_char else (line, rest)
