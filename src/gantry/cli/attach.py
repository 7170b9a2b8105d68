"""`gantry attach`: join the terminal to a running container."""

from __future__ import annotations

from gantry.cli.attached import Attachment, resize
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean
from gantry.cli.opts import detach_keys
from gantry.cli.terminal import require_terminal, size
from gantry.client.client import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gantry.cli.flags import Arguments


def _run(ctx: Context, args: Arguments) -> int:
    found = ctx.client.get(f"/containers/{segment(args.positional[0])}/json")
    state, config, container = found["State"], found["Config"], found["Id"]
    if not state["Running"]:
        raise CommandError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandError("You cannot attach to a restarting container, wait until it is running")
    stdin = not args.boolean("no-stdin") and config["OpenStdin"]
    tty = config["Tty"]
    require_terminal(attach_stdin=stdin, tty=tty)
    attachment = Attachment(
        ctx,
        container,
        stdin=stdin,
        tty=tty,
        keys=args.string("detach-keys") or str(ctx.config.get("detachKeys") or ""),
        sig_proxy=args.boolean("sig-proxy") and not tty,
    )
    with attachment:
        attachment.expect_exit()
        attachment.connect()
        if tty:
            _redraw(ctx, container)
        if attachment.pump():
            raise CommandError("read escape sequence")
        return attachment.exit_status()


def _redraw(ctx: Context, container: str) -> None:
    """Change the size and back, so that a program on the terminal draws itself anew."""
    rows, columns = size()
    if rows and columns:
        ctx.client.post(f"/containers/{container}/resize", {"h": rows + 1, "w": columns + 1})
        resize(ctx, f"/containers/{container}/resize")


COMMAND = Command(
    _run,
    "[OPTIONS] CONTAINER",
    (
        detach_keys(),
        boolean("no-stdin", "", "Do not attach STDIN"),
        boolean("sig-proxy", "", "Proxy all received signals to the process", default=True),
    ),
    least=1,
    most=1,
)
