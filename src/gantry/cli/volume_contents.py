"""`gantry volume rename`, `export`, `import` and `clone`: what Docker's volumes cannot do."""

from __future__ import annotations

from gantry.cli import output
from gantry.cli.command import Command, Context
from gantry.cli.flags import string
from gantry.client.client import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gantry.cli.flags import Arguments


def _path(name: str, action: str) -> str:
    return f"/_gantry/volumes/{segment(name)}/{action}"


def _rename(ctx: Context, args: Arguments) -> int:
    ctx.client.post(_path(args.positional[0], "rename"), {"name": args.positional[1]})
    return 0


RENAME = Command(_rename, "VOLUME NEW_NAME", least=2, most=2)


def _export(ctx: Context, args: Arguments) -> int:
    target = args.string("output")
    output.check(target, "failed to export volume")
    output.write(ctx.client.download(_path(args.positional[0], "export")), target)
    return 0


EXPORT = Command(
    _export,
    "[OPTIONS] VOLUME",
    (string("output", "o", "Write to a file, instead of STDOUT"),),
    least=1,
    most=1,
)


def _import(ctx: Context, args: Arguments) -> int:
    from gantry.cli.image_transfer import source_blocks

    name, source = args.positional
    blocks = source_blocks(source)
    answer = ctx.client.request("POST", _path(name, "import"), data=blocks, content_type="application/x-tar")
    answer.read()
    ctx.out.write(name + "\n")
    return 0


IMPORT = Command(_import, "VOLUME FILE|-", least=2, most=2)


def _clone(ctx: Context, args: Arguments) -> int:
    ctx.out.write(ctx.client.post(_path(args.positional[0], "clone"), {"name": args.positional[1]})["Name"] + "\n")
    return 0


CLONE = Command(_clone, "VOLUME NEW_VOLUME", least=2, most=2)
