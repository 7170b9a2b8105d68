"""`gantry create`, and the creation that `gantry run` begins with."""

from __future__ import annotations

import os

from gantry.cli import create_request
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError, StartError
from gantry.cli.opts_container import FLAGS
from gantry.client.errors import ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments

_NEEDS = {127: ("executable file not found", "no such file or directory"), 126: ("permission denied", "is a directory")}


def _run(ctx: Context, args: Arguments) -> int:
    body = create_request.build(args, ctx.environ)
    try:
        container = create(ctx, args, body)
    except StartError as error:
        raise CommandError(error.message) from error
    ctx.out.write(container + "\n")
    return 0


def create(ctx: Context, args: Arguments, body: dict[str, Any]) -> str:
    """Create a container, pulling its image where that is wanted; returns its id. Raises StartError."""
    pull = args.string("pull")
    if pull not in ("always", "missing", "never", ""):
        raise StartError(f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"')
    cidfile = args.string("cidfile")
    if cidfile:
        _claim(cidfile)
    if args.boolean("use-api-socket"):
        _add_api_socket(ctx, body)
    if args.boolean("oom-kill-disable") and not args["memory"]:
        ctx.warn(
            "WARNING: Disabling the OOM killer on containers without setting a '-m/--memory' limit may be dangerous."
        )
    platform = args.string("platform") or ctx.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    try:
        if pull == "always":
            _pull(ctx, args, body["Image"], platform)
        answer = _create(ctx, args, body, platform)
    except BaseException:
        if cidfile:
            os.unlink(cidfile)  # noqa: PTH108 - pathlib is slow to import
        raise
    for warning in answer.get("Warnings") or ():
        ctx.warn(f"WARNING: {warning}")
    if cidfile:
        with open(cidfile, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(answer["Id"])
    return str(answer["Id"])


def _create(ctx: Context, args: Arguments, body: dict[str, Any], platform: str) -> dict[str, Any]:
    query = {"name": args.string("name") or None, "platform": platform or None}
    try:
        answer: dict[str, Any] = ctx.client.post("/containers/create", query, body)
    except ResponseError as error:
        if error.status == 400 and error.detail.startswith("invalid reference format"):
            raise StartError(error.detail) from error
        if error.status != 404 or args.string("pull") == "never" or "o such image" not in error.detail:
            raise start_error(error) from error
        if not args.boolean("quiet"):
            ctx.warn(f"Unable to find image '{_with_tag(body['Image'])}' locally")
        _pull(ctx, args, body["Image"], platform)
        answer = ctx.client.post("/containers/create", query, body)
    return answer


def start_error(error: ResponseError) -> StartError:
    """The exit status that a failed start has by the daemon's words: 127 not found, 126 not executable, else 125."""
    for status, words in _NEEDS.items():
        if any(word in error.detail for word in words):
            return StartError(error.message, status)
    return StartError(error.message)


def _with_tag(image: str) -> str:
    """The image's name with the tag that is meant."""
    from gantry.errors import GantryError
    from gantry.model.reference import Reference

    try:
        return Reference.parse(image).familiar
    except GantryError:
        return image


def _pull(ctx: Context, args: Arguments, image: str, platform: str) -> None:
    from gantry.cli.pulling import pull

    pull(ctx, image, platform=platform, quiet=args.boolean("quiet"), out=ctx.err)


def _claim(cidfile: str) -> None:
    """Make the file that the id goes to; raises StartError where it exists."""
    try:
        os.close(os.open(cidfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        message = f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        raise StartError(message) from None
    except OSError as error:
        words = os.strerror(error.errno or 0).lower()
        raise StartError(f"failed to create the container ID file: open {cidfile}: {words}") from error


def _add_api_socket(ctx: Context, body: dict[str, Any]) -> None:
    ctx.client.ping()
    if ctx.client.endpoint.scheme != "unix":
        raise StartError("flag --use-api-socket can't be used with a remote daemon")
    mount = {"Type": "bind", "Source": ctx.client.endpoint.address, "Target": "/var/run/docker.sock", "BindOptions": {}}
    body["HostConfig"].setdefault("Mounts", []).append(mount)


COMMAND = Command(_run, "[OPTIONS] IMAGE [COMMAND] [ARG...]", FLAGS, least=1, interspersed=False)
