"""Entry point of `gantry`: global flags, the command by its path, errors and exit status."""

from __future__ import annotations

import os
import sys

from gantry import __version__
from gantry.cli import tree
from gantry.cli.command import Context
from gantry.cli.errors import CommandError, StartError, UsageError
from gantry.cli.flags import FlagError, HelpWanted, boolean, parse, string, strings
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from gantry.cli.command import Command

GLOBAL_FLAGS = (
    string("config", "", "Location of client config files", default=""),
    string("context", "c", "Name of the context to use (overrides DOCKER_HOST and the current context)"),
    boolean("debug", "D", "Enable debug mode"),
    strings("host", "H", "Daemon socket to connect to"),
    string("log-level", "l", 'Set the logging level ("debug", "info", "warn", "error", "fatal")', default="info"),
    boolean("tls", "", "Use TLS; implied by --tlsverify"),
    string("tlscacert", "", "Trust certificates signed only by this CA"),
    string("tlscert", "", "Path to TLS certificate file"),
    string("tlskey", "", "Path to TLS key file"),
    boolean("tlsverify", "", "Use TLS and verify the remote"),
    boolean("version", "v", "Print version information and quit"),
)
_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
_STARTERS = ("run", "create", "container run", "container create")
"""Commands whose every failure, also of the connection, is Docker's 125 with a pointer to help."""


def main() -> int:
    """Run the command that sys.argv names; returns the exit status."""
    program = os.path.basename(sys.argv[0]) or "gantry"
    if program not in ("gantry", "docker"):
        program = "gantry"
    sys.stdout.reconfigure(errors="surrogateescape", newline="\n")  # type: ignore[union-attr]
    try:
        try:
            return run(program, sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has no reader
        return 141
    except KeyboardInterrupt:
        return 130


def program() -> NoReturn:
    """`main`, without the interpreter's own tidying up at the end: everything that was opened ends with the process."""
    status = main()
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)


def run(program: str, words: Sequence[str]) -> int:
    """Run one command line without the program's name; returns the exit status."""
    try:
        flags = parse(GLOBAL_FLAGS, words, interspersed=False)
    except HelpWanted as wanted:
        return _first_page(program, deprecated=wanted.deprecated)
    except FlagError as error:
        return _fail(
            f"{error}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information",
            125,
        )
    rest = flags.positional
    if flags.boolean("version"):
        sys.stdout.write(f"{program.capitalize()} version {__version__}, build gantry\n")
        return 0
    if flags.string("log-level") not in _LEVELS:
        return _fail(f"Unable to parse logging level: {flags.string('log-level')}", 1)
    if not rest:
        return _first_page(program)
    ctx = Context(program, flags, os.environ)
    if rest[0] == "help":
        return _help(ctx, rest[1:])
    if rest[0] in tree.GROUPS:
        return _group(ctx, rest[0], rest[1:])
    return _leaf(ctx, rest[0], rest[1:]) if tree.find(rest[0]) else _unknown(program, "", rest[0])


def _group(ctx: Context, group: str, words: Sequence[str]) -> int:
    from gantry.cli import help as pages

    try:
        rest = parse((), words, interspersed=False).positional
    except HelpWanted as wanted:
        if wanted.deprecated:
            ctx.warn("Flag shorthand -h has been deprecated, use --help")
        ctx.out.write(pages.group_page(ctx.program, group))
        return 0
    except FlagError as error:
        full = f"{ctx.program} {group}"
        return _fail(f"{error}\n\nUsage:  {full}\n\nRun '{full} --help' for more information", 125)
    if not rest:
        ctx.err.write(pages.group_page(ctx.program, group))
        return 0
    path = f"{group} {rest[0]}"
    return _leaf(ctx, path, rest[1:]) if tree.find(path) else _unknown(ctx.program, group, rest[0])


def _leaf(ctx: Context, called: str, words: Sequence[str]) -> int:
    row = tree.find(called)
    assert row is not None
    command = load(row)
    path = ctx.path = tree.home(row, called)
    full = f"{ctx.program} {path}"
    usage = f"Usage:  {ctx.program} {path} {command.usage}".rstrip()
    try:
        arguments = parse(command.flags, words, interspersed=command.interspersed)
        problem = command.count_problem(len(arguments.positional))
        if problem:
            return _fail(
                f"{ctx.program}: '{full}' {problem[0]}\n\n{usage}\n\n{problem[1]} '{full} --help' for more information",
                1,
            )
        return command.run(ctx, arguments) or 0
    except HelpWanted as wanted:
        from gantry.cli import help as pages

        if wanted.deprecated:
            ctx.out.write("Flag shorthand -h has been deprecated, use --help\n")
        ctx.out.write(pages.command_page(ctx.program, row, path, command))
        return 0
    except FlagError as error:
        return _fail(f"{error}\n\n{usage}\n\nRun '{full} --help' for more information", 125)
    except UsageError as error:
        return _fail(f"{error.message}\n\n{usage}\n\nRun '{full} --help' for more information", error.status)
    except StartError as error:
        return _fail(f"{ctx.program}: {error.message}\n\nRun '{full} --help' for more information", error.status)
    except CommandError as error:
        return _fail(error.message, error.status)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{(error.strerror or str(error)).lower()}", 1)
    except ClientError as error:
        if path in _STARTERS:
            return _fail(f"{ctx.program}: {error.message}\n\nRun '{full} --help' for more information", 125)
        return _fail(error.message, 1)


def load(row: tuple[str, ...]) -> Command:
    """Import a row's module and take its Command."""
    module, _, name = row[0].partition(":")
    full = "gantry.cli." + module
    __import__(full)
    command: Command = getattr(sys.modules[full], name)
    return command


def _help(ctx: Context, words: Sequence[str]) -> int:
    from gantry.cli import help as pages

    path = " ".join(words)
    row = tree.find(path)
    if not words:
        return _first_page(ctx.program)
    if path in tree.GROUPS:
        ctx.out.write(pages.group_page(ctx.program, path))
    elif row:
        ctx.out.write(pages.command_page(ctx.program, row, tree.home(row, path), load(row)))
    else:
        return _fail(f"unknown help topic: {path}", 1)
    return 0


def _first_page(program: str, *, deprecated: bool = False) -> int:
    from gantry.cli import help as pages

    if deprecated:
        sys.stderr.write("Flag shorthand -h has been deprecated, use --help\n")
    sys.stdout.write(pages.first_page(program, GLOBAL_FLAGS))
    return 0


def _unknown(program: str, group: str, word: str) -> int:
    from gantry.cli.suggest import closest

    full = f"{program} {group}".rstrip()
    usage = f"\n\nUsage:  {full}" if group else ""
    near = closest(word, group)
    hint = f"\n\nDid you mean '{full} {near}'?" if near else ""
    return _fail(
        f"{program}: unknown command: {full} {word}{hint}{usage}\n\nRun '{full} --help' for more information", 1
    )


def _fail(message: str, status: int) -> int:
    sys.stdout.flush()
    if message:
        sys.stderr.write(message + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
