"""`gantry run`: create, attach, wait, start, in this order, so that no output and no exit is missed."""

from __future__ import annotations

from gantry.cli import create_request
from gantry.cli.attached import Attachment, resize
from gantry.cli.command import Command, Context
from gantry.cli.create import check, create, start_error
from gantry.cli.flags import boolean
from gantry.cli.opts import detach_keys
from gantry.cli.opts_container import FLAGS
from gantry.cli.terminal import require_terminal
from gantry.client.errors import ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments


def _run(ctx: Context, args: Arguments) -> int:
    detach = args.boolean("detach")
    check(args)
    body = create_request.build(args, ctx.environ, detach=detach)
    if not detach:
        require_terminal(attach_stdin=body["AttachStdin"], tty=body["Tty"])
    container = create(ctx, args, body)
    try:
        if body["AttachStdin"] or body["AttachStdout"] or body["AttachStderr"]:
            return _attached(ctx, args, body, container)
        try:
            ctx.client.post(f"/containers/{container}/start")
        except ResponseError as error:
            raise start_error(error) from error
        ctx.out.write(container + "\n")
        return 0
    finally:
        if ctx.environ.get("GANTRY_TRACE") == "1":
            from gantry.cli.tracing import show_latest

            show_latest(ctx, container)


def _attached(ctx: Context, args: Arguments, body: dict[str, Any], container: str) -> int:
    attachment = Attachment(
        ctx,
        container,
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        tty=body["Tty"],
        keys=args.string("detach-keys") or str(ctx.config.get("detachKeys") or ""),
        sig_proxy=args.boolean("sig-proxy"),
    )
    with attachment:
        attachment.connect()
        pending = attachment.expect_exit("removed" if args.boolean("rm") else "next-exit")
        try:
            ctx.client.post(f"/containers/{container}/start")
        except ResponseError as error:
            attachment.close()
            if args.boolean("rm"):
                pending.read_quietly()
            raise start_error(error) from error
        if body["Tty"]:
            resize(ctx, f"/containers/{container}/resize")
        if attachment.pump():
            return 0
        return attachment.exit_status()


COMMAND = Command(
    _run,
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    (
        *FLAGS,
        boolean("detach", "d", "Run container in background and print container ID"),
        detach_keys(),
        boolean("sig-proxy", "", "Proxy received signals to the process", default=True),
    ),
    least=1,
    interspersed=False,
)
