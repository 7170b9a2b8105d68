"""`gantry start`: start stopped containers, or one of them attached."""

from __future__ import annotations

from gantry.cli.attached import Attachment, resize
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string
from gantry.cli.opts import detach_keys
from gantry.cli.terminal import require_terminal
from gantry.client.client import segment
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gantry.cli.flags import Arguments


def _run(ctx: Context, args: Arguments) -> int:
    if args.boolean("attach") or args.boolean("interactive"):
        if len(args.positional) > 1:
            raise CommandError("you cannot start and attach multiple containers at once")
        return _attached(ctx, args)
    query = {"checkpoint": args["checkpoint"] or None, "checkpoint-dir": args["checkpoint-dir"] or None}
    if args["checkpoint"] and len(args.positional) > 1:
        raise CommandError("you cannot restore multiple containers at once")
    failed = []
    for name in args.positional:
        try:
            ctx.client.post(f"/containers/{segment(name)}/start", query)
        except ClientError as error:
            ctx.warn(error.message)
            failed.append(name)
        else:
            ctx.out.write(name + "\n")
    if failed:
        raise CommandError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _attached(ctx: Context, args: Arguments) -> int:
    found = ctx.client.get(f"/containers/{segment(args.positional[0])}/json")
    container, config = found["Id"], found["Config"]
    tty = config["Tty"]
    stdin = args.boolean("interactive") and config["OpenStdin"]
    require_terminal(attach_stdin=stdin, tty=tty)
    attachment = Attachment(
        ctx,
        container,
        stdin=stdin,
        tty=tty,
        keys=args.string("detach-keys") or str(ctx.config.get("detachKeys") or ""),
        sig_proxy=not tty,
    )
    with attachment:
        attachment.connect()
        attachment.expect_exit("removed" if found["HostConfig"]["AutoRemove"] else "next-exit")
        try:
            ctx.client.post(f"/containers/{container}/start")
        except ClientError:
            attachment.close()
            raise
        if tty:
            resize(ctx, f"/containers/{container}/resize")
        if attachment.pump():
            return 0
        return attachment.exit_status()


COMMAND = Command(
    _run,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (
        boolean("attach", "a", "Attach STDOUT/STDERR and forward signals"),
        string("checkpoint", "", "Restore from this checkpoint"),
        string("checkpoint-dir", "", "Use a custom checkpoint storage directory"),
        detach_keys(),
        boolean("interactive", "i", "Attach container's STDIN"),
    ),
    least=1,
)
