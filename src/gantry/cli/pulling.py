"""Fetching an image on the way to something else (`run`, `create`)."""

from __future__ import annotations

from gantry.cli.errors import StartError
from gantry.cli.progress import show
from gantry.cli.terminal import is_terminal, size
from gantry.client.auth import header
from gantry.errors import GantryError
from gantry.model.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from gantry.cli.command import Context


def pull(ctx: Context, image: str, *, platform: str, quiet: bool, out: TextIO) -> None:
    """Pull `image`, showing progress on `out` unless `quiet`."""
    try:
        reference = Reference.parse(image)
    except GantryError as error:
        raise StartError(error.message) from error
    query = {
        "fromImage": reference.familiar_name,
        "tag": reference.digest or reference.tag,
        "platform": platform or None,
    }
    messages = ctx.client.messages(
        "POST", "/images/create", query, headers={"X-Registry-Auth": header(ctx.config, reference.domain)}
    )
    descriptor = out.fileno()
    if quiet:
        for _ in messages:  # the pull is over when its messages are
            continue
    else:
        show(messages, out, terminal=is_terminal(descriptor), columns=size(descriptor)[1])
