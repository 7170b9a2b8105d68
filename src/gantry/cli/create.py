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

_WINDOWS = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789./:@_-")
_NEEDS = {127: ("executable file not found", "no such file or directory"), 126: ("permission denied", "is a directory")}


def _run(ctx: Context, args: Arguments) -> int:
    check(args)
    body = create_request.build(args, ctx.environ)
    try:
        container = create(ctx, args, body)
    except StartError as error:
        raise CommandError(error.message) from error
    ctx.out.write(container + "\n")
    return 0


def create(ctx: Context, args: Arguments, body: dict[str, Any]) -> str:
    """Create a container, pulling its image where that is wanted; returns its id. Raises StartError."""
    _check_image(body["Image"])
    cidfile = args.string("cidfile")
    if cidfile:
        _claim(cidfile)
    if args.boolean("use-api-socket"):
        _add_api_socket(ctx, body)
    if args["mac-address"] and not ctx.client.at_least("1.44"):
        body["MacAddress"] = args["mac-address"]
    platform = args.string("platform") or ctx.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    try:
        if args.string("pull") == "always":
            _pull(ctx, args, body["Image"], platform)
        answer = _create(ctx, args, body, platform)
    except BaseException:
        if cidfile:
            os.unlink(cidfile)
        raise
    for warning in answer.get("Warnings") or ():
        ctx.warn(f"WARNING: {warning}")
    if cidfile:
        with open(cidfile, "w", encoding="ascii") as file:
            file.write(answer["Id"])
    return str(answer["Id"])


def _create(ctx: Context, args: Arguments, body: dict[str, Any], platform: str) -> dict[str, Any]:
    query = {"name": args.string("name") or None, "platform": platform or None}
    try:
        answer: dict[str, Any] = ctx.client.post("/containers/create", query, body)
    except ResponseError as error:
        if error.status != 404 or args.string("pull") == "never" or "o such image" not in error.detail:
            raise start_error(error) from error
        if not args.boolean("quiet"):
            ctx.warn(f"Unable to find image '{_with_tag(body['Image'])}' locally")
        _pull(ctx, args, body["Image"], platform)
        answer = ctx.client.post("/containers/create", query, body)
    return answer


def check(args: Arguments) -> None:
    """Raises StartError or CommandError for values that need no daemon to be refused."""
    pull = args.string("pull")
    if pull not in ("always", "missing", "never", ""):
        raise StartError(f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"')
    windows = [f'"--{name}"' for name in _WINDOWS if name in args.changed]
    if windows:
        words = "is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
        raise CommandError("\n".join(f"{name} {words}" for name in windows))


def _check_image(image: str) -> None:
    """Refuse what is no reference. Plain names go unparsed: the daemon's own parser sees them anyway."""
    if image and image[0].isalnum() and image[-1].isalnum() and set(image) <= _PLAIN:
        return
    from gantry.errors import GantryError
    from gantry.model.reference import Reference

    try:
        Reference.parse(image)
    except GantryError as error:
        raise StartError(error.message) from error


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
