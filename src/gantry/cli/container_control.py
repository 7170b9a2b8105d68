"""Commands that act on one container after another: stop, kill, restart, pause, unpause, wait, rm, rename."""

from __future__ import annotations

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, integer, string
from gantry.client.client import segment
from gantry.client.errors import ClientError, ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gantry.cli.flags import Arguments

_AT_ONCE = 50
_MANY = "CONTAINER [CONTAINER...]"


def _act(ctx: Context, names: list[str], method: str, suffix: str, query: Mapping[str, Any] | None = None) -> int:
    """Send one request per container, all at once, and report in the order of the names."""
    status = 0
    for first in range(0, len(names), _AT_ONCE):
        group = names[first : first + _AT_ONCE]
        paths = [f"/containers/{segment(_checked(name))}{suffix}" for name in group]
        outcomes = ctx.client.together(method, paths, query)
        for name, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, ClientError):
                ctx.warn(outcome.message)
                status = 1
            else:
                ctx.out.write(name + "\n")
    return status


def _checked(name: str) -> str:
    if not name.strip():
        raise CommandError("invalid container name or ID: value is empty")
    return name


def _stop_query(args: Arguments) -> dict[str, Any]:
    if "time" in args.changed and "timeout" in args.changed:
        raise CommandError("conflicting options: cannot specify both --timeout and --time")
    given = args["timeout"] if "timeout" in args.changed else args["time"] if "time" in args.changed else None
    return {"t": given, "signal": args["signal"] or None}


def _stop(ctx: Context, args: Arguments) -> int:
    return _act(ctx, args.positional, "POST", "/stop", _stop_query(args))


def _restart(ctx: Context, args: Arguments) -> int:
    return _act(ctx, args.positional, "POST", "/restart", _stop_query(args))


def _kill(ctx: Context, args: Arguments) -> int:
    return _act(ctx, args.positional, "POST", "/kill", {"signal": args["signal"] or None})


def _pause(ctx: Context, args: Arguments) -> int:
    return _act(ctx, args.positional, "POST", "/pause")


def _unpause(ctx: Context, args: Arguments) -> int:
    return _act(ctx, args.positional, "POST", "/unpause")


def _rm(ctx: Context, args: Arguments) -> int:
    query = {name: True for name, flag in (("v", "volumes"), ("link", "link"), ("force", "force")) if args[flag]}
    names = [name.strip("/") for name in args.positional]
    if not args.boolean("force"):
        return _act(ctx, names, "DELETE", "", query)
    status = 0  # with --force what is missing already is reported, and no failure
    outcomes = ctx.client.together("DELETE", [f"/containers/{segment(_checked(name))}" for name in names], query)
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, ClientError):
            ctx.warn(outcome.message)
            status = status or int(not (isinstance(outcome, ResponseError) and outcome.status == 404))
        else:
            ctx.out.write(name + "\n")
    return status


def _wait(ctx: Context, args: Arguments) -> int:
    def wait(name: str) -> str:
        answer = ctx.client.post(f"/containers/{segment(_checked(name))}/wait")
        problem = (answer.get("Error") or {}).get("Message")
        if problem:
            raise CommandError(problem)
        return str(answer["StatusCode"])

    return ctx.each(args.positional, wait)


def _rename(ctx: Context, args: Arguments) -> int:
    old, new = (name.strip() for name in args.positional)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        ctx.client.post(f"/containers/{segment(old)}/rename", {"name": new})
    except ClientError as error:
        raise CommandError(f"{error.message}\nError: failed to rename container named {old}") from error
    return 0


_STOP_FLAGS = (
    string("signal", "s", "Signal to send to the container"),
    integer("time", "", "", hidden=True),
    integer("timeout", "t", "Seconds to wait before killing the container"),
)
STOP = Command(_stop, f"[OPTIONS] {_MANY}", _STOP_FLAGS, least=1)
RESTART = Command(_restart, f"[OPTIONS] {_MANY}", _STOP_FLAGS, least=1)
KILL = Command(_kill, f"[OPTIONS] {_MANY}", (string("signal", "s", "Signal to send to the container"),), least=1)
PAUSE = Command(_pause, _MANY, least=1)
UNPAUSE = Command(_unpause, _MANY, least=1)
WAIT = Command(_wait, _MANY, least=1)
RENAME = Command(_rename, "CONTAINER NEW_NAME", least=2, most=2)
RM = Command(
    _rm,
    f"[OPTIONS] {_MANY}",
    (
        boolean("force", "f", "Force the removal of a running container (uses SIGKILL)"),
        boolean("link", "l", "Remove the specified link"),
        boolean("volumes", "v", "Remove anonymous volumes associated with the container"),
    ),
    least=1,
)
