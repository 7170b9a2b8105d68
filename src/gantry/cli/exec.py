"""`gantry exec`: a further process in a running container."""

from __future__ import annotations

from gantry.cli import signals
from gantry.cli.attached import escape_keys, resize
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string
from gantry.cli.opts import detach_keys, env_flags, read_key_values
from gantry.cli.streams import Pump
from gantry.cli.terminal import RawMode, is_terminal, require_terminal, size
from gantry.client.client import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments


def _run(ctx: Context, args: Arguments) -> int:
    container, *command = args.positional
    detach, tty = args.boolean("detach"), args.boolean("tty")
    interactive = args.boolean("interactive") and not detach
    keys = args.string("detach-keys") or str(ctx.config.get("detachKeys") or "")
    body: dict[str, Any] = {
        "User": args["user"],
        "Privileged": args["privileged"],
        "Tty": tty,
        "AttachStdin": interactive,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "DetachKeys": keys,
        "Env": read_key_values(args["env-file"], args["env"], ctx.environ) or None,
        "WorkingDir": args["workdir"],
        "Cmd": command,
    }
    if not detach:
        require_terminal(attach_stdin=interactive, tty=tty)
    if tty:
        body["ConsoleSize"] = list(size())
    process = ctx.client.post(f"/containers/{segment(container)}/exec", None, body)["Id"]
    start = {"Detach": detach, "Tty": tty}
    if tty:
        start["ConsoleSize"] = body["ConsoleSize"]
    if detach:
        ctx.client.post(f"/exec/{process}/start", None, start)
        return 0
    return _attached(ctx, process, start, stdin=interactive, tty=tty, keys=keys)


def _attached(ctx: Context, process: str, start: dict[str, Any], *, stdin: bool, tty: bool, keys: str) -> int:
    path = f"/exec/{process}"

    def on_signal(_: int) -> None:
        resize(ctx, path + "/resize")

    watched = {signals.WINDOW_CHANGE} if tty and is_terminal(1) else set()
    with signals.SignalPipe(watched) as pipe, RawMode(enabled=stdin and tty):
        stream = ctx.client.upgrade(path + "/start", None, start, framed=not tty)
        if tty:
            resize(ctx, path + "/resize")
        typed = escape_keys(keys) if tty and stdin else None
        pump = Pump(stream, pipe, on_signal, stdin=stdin, keys=typed)
        pump.run()
    if pump.detached:
        raise CommandError("read escape sequence")
    return int(ctx.client.get(path + "/json").get("ExitCode") or 0)


COMMAND = Command(
    _run,
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    (
        boolean("detach", "d", "Detached mode: run command in the background"),
        detach_keys(),
        *env_flags(),
        boolean("interactive", "i", "Keep STDIN open even if not attached"),
        boolean("privileged", "", "Give extended privileges to the command"),
        boolean("tty", "t", "Allocate a pseudo-TTY"),
        string("user", "u", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
        string("workdir", "w", "Working directory inside the container"),
    ),
    least=2,
    interspersed=False,
)
