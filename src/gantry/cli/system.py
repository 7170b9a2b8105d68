"""`gantry system`: prune, check, trace, dial-stdio; and `--version`."""

from __future__ import annotations

import os

from gantry import __version__
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean
from gantry.client.errors import ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gantry.cli.flags import Arguments


def version_line(program: str) -> str:
    """What `--version` prints."""
    return f"{program.capitalize()} version {__version__}"


# --------------------------------------------------------------------------------------- prune


def _prune(ctx: Context, args: Arguments) -> int:
    from gantry.cli import builder, image, network, prune, volume
    from gantry.cli.units import human_size

    wanted = prune.prune_filters(ctx, args)
    everything, volumes = args.boolean("all"), args.boolean("volumes")
    if volumes and "until" in wanted:
        raise CommandError('ERROR: The "until" filter is not supported with "--volumes"')
    if not args.boolean("force") and not ctx.confirm(_warning(wanted, everything=everything, volumes=volumes)):
        return 0
    steps: list[Callable[[], tuple[list[str], int | None]]] = [
        lambda: prune_containers(ctx, wanted),
        lambda: (network.prune_networks(ctx, wanted), 0),
    ]
    if volumes:
        steps.append(lambda: volume.prune_volumes(ctx, wanted, everything=False))
    steps.append(lambda: image.prune_images(ctx, wanted, everything=everything))
    if ctx.client.at_least("1.31"):
        steps.append(lambda: builder.prune_cache(ctx, wanted, everything=everything))
    reclaimed = 0
    for step in steps:
        lines, freed = step()
        reclaimed += freed or 0
        if lines:
            ctx.out.write("\n".join(lines) + "\n\n")
            ctx.out.flush()
    ctx.out.write(f"Total reclaimed space: {human_size(reclaimed)}\n")
    return 0


def _warning(wanted: Mapping[str, Mapping[str, bool]], *, everything: bool, volumes: bool) -> str:
    from gantry.cli.prune import QUESTION

    what = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        what.append("all anonymous volumes not used by at least one container")
    if everything:
        what += ["all images without at least one container associated to them", "all build cache"]
    else:
        what += ["all dangling images", "unused build cache"]
    lines = ["WARNING! This will remove:", *(f"  - {item}" for item in what), ""]
    if wanted:
        conditions = sorted(f"{name}={text}" for name, texts in wanted.items() for text in texts)
        lines += ["  Items to be pruned will be filtered with:", *(f"  - {text}" for text in conditions), ""]
    return "\n".join([*lines, QUESTION])


def prune_containers(ctx: Context, wanted: Mapping[str, Mapping[str, bool]]) -> tuple[list[str], int]:
    """Remove stopped containers; lines for the user, and bytes reclaimed."""
    from gantry.cli.prune import removed

    answer = ctx.client.post("/containers/prune", {"filters": dict(wanted) or None})
    lines = removed("Deleted Containers:", answer.get("ContainersDeleted"))
    return lines, int(answer.get("SpaceReclaimed") or 0) if lines else 0


def _prune_flags() -> Any:
    from gantry.cli import prune

    return (
        boolean("all", "a", "Remove all unused images not just dangling ones"),
        boolean("volumes", "", "Prune anonymous volumes"),
        *prune.flags("label=<key>=<value>"),
    )


PRUNE = Command(_prune, "[OPTIONS]", _prune_flags(), most=0)


# -------------------------------------------------------------------------------- check and trace


def _own(ctx: Context, path: str) -> Any:
    """GET of an endpoint that Docker has not; raises CommandError where the daemon is no Gantry."""
    try:
        return ctx.client.get(path)
    except ResponseError as error:
        if error.status == 404:
            raise CommandError(f"the daemon at {ctx.client.endpoint.url} is not Gantry's: it has no {path}") from error
        raise


def _check(ctx: Context, _args: Arguments) -> int:
    parts = _own(ctx, "/_gantry/check")["parts"]
    missing = 0
    for part in parts:
        problem, needed = part.get("problem") or "", part.get("needed")
        missing += bool(problem and needed)
        state = "ok" if not problem else "MISSING" if needed else "absent"
        detail = " ".join(text for text in (part.get("path"), part.get("version")) if text)
        ctx.out.write(f"{state:<8} {part['name']:<14} {problem or detail}\n")
        if problem:
            ctx.out.write(f"{'':<24}for: {part.get('purpose') or ''}\n")
            if part.get("install"):
                ctx.out.write(f"{'':<24}run: {part['install']}\n")
    return 1 if missing else 0


CHECK = Command(_check, "", most=0)


def _trace(ctx: Context, args: Arguments) -> int:
    from gantry.cli.tracing import render

    traces = list(_own(ctx, "/_gantry/traces") or ())
    if args.positional:
        name = args.positional[0]
        traces = [trace for trace in traces if name in trace["name"]]
        if not traces:
            raise CommandError(f"the daemon has no trace of {name}")
    if not traces:
        raise CommandError("the daemon has not traced a start yet")
    shown = traces if args.boolean("all") else traces[-1:]
    ctx.out.write("\n\n".join(map(render, shown)) + "\n")
    return 0


TRACE = Command(
    _trace,
    "[OPTIONS] [CONTAINER]",
    (boolean("all", "a", "Show all recent starts, not just the last one"),),
    most=1,
)


# ---------------------------------------------------------------------------------- dial-stdio


def _dial_stdio(ctx: Context, _args: Arguments) -> int:
    """Join standard input and output to the daemon's socket until the daemon closes it."""
    import select

    from gantry.client.transport import dial

    ctx.client.ping()  # settles which socket is the daemon's
    transport = dial(ctx.client.endpoint)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(transport, select.POLLIN)
    try:
        while True:
            ready = [transport.fileno()] if transport.pending() else [found for found, _ in poll.poll()]
            if transport.fileno() in ready:
                block = transport.receive(1 << 16)
                if not block:
                    return 0
                _write_all(block)
            if 0 in ready:
                block = os.read(0, 1 << 16)
                if block:
                    transport.send(block)
                else:
                    poll.unregister(0)
                    transport.close_write()
    finally:
        transport.close()


def _write_all(block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(1, view) :]


DIAL_STDIO = Command(_dial_stdio, "", most=0)
