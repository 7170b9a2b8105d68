"""`gantry logs`: what a container wrote."""

from __future__ import annotations

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string
from gantry.cli.opts import timestamp
from gantry.cli.streams import write_all
from gantry.client.client import segment
from gantry.client.stream import Frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gantry.cli.flags import Arguments


def _run(ctx: Context, args: Arguments) -> int:
    path = f"/containers/{segment(args.positional[0])}"
    query = {
        "stdout": True,
        "stderr": True,
        "since": timestamp("since", args.string("since")),
        "until": timestamp("until", args.string("until")),
        "timestamps": args["timestamps"] or None,
        "follow": args["follow"] or None,
        "details": args["details"] or None,
        "tail": args["tail"],
    }
    # from 1.42 on the answer's type says whether output is framed; before, only the configuration does
    framed = None if ctx.client.at_least("1.42") else not ctx.client.get(path + "/json")["Config"]["Tty"]
    response = ctx.client.request("GET", path + "/logs", query)
    if framed is None:
        framed = response.headers.get("content-type") != "application/vnd.docker.raw-stream"
    frames = Frames(framed=framed)
    for block in response.blocks():
        for number, data in frames.feed(block):
            if number == 3:
                raise CommandError(f"error from daemon in stream: {data.decode('utf-8', 'replace')}")
            write_all(2 if number == 2 else 1, data)
    return 0


COMMAND = Command(
    _run,
    "[OPTIONS] CONTAINER",
    (
        boolean("details", "", "Show extra details provided to logs"),
        boolean("follow", "f", "Follow log output"),
        string("since", "", "Show logs since timestamp (2013-01-02T13:23:37Z) or relative (42m for 42 minutes)"),
        string("tail", "n", "Number of lines to show from the end of the logs", default="all"),
        boolean("timestamps", "t", "Show timestamps"),
        string("until", "", "Show logs before timestamp (2013-01-02T13:23:37Z) or relative (42m for 42 minutes)"),
    ),
    least=1,
    most=1,
)
