"""`gantry build`: the context goes to the daemon as a tar stream, made while it is sent."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gantry.cli.flags import Arguments

_BLOCK = 1 << 18
_REMOTE = ("http://", "https://", "git://", "git@", "github.com/")


def _run(ctx: Context, args: Arguments) -> int:
    where = args.positional[0]
    dockerfile = args.string("file")
    query: dict[str, object] = {
        "t": args.strings("tag"),
        "buildargs": json.dumps(_pairs(args.strings("build-arg"))),
        "labels": json.dumps({key: value or "" for key, value in _pairs(args.strings("label")).items()}),
        "target": args.string("target"),
        "nocache": _flag(args, "no-cache"),
        "pull": _flag(args, "pull"),
        "networkmode": args.string("network"),
        "extrahosts": args.strings("add-host"),
        "platform": args.string("platform"),
        "hostca": _flag(args, "host-ca"),
        "rm": "1",
    }
    if where == "-":
        data: Iterator[bytes] | None = _standard_input(dockerfile)
    elif where.startswith(_REMOTE):
        query["remote"], data = where, None
    else:
        dockerfile, data = _directory(where, dockerfile)
    query["dockerfile"] = dockerfile or "Dockerfile"
    image = ""
    quiet = args.boolean("quiet")
    shown: list[str] = []
    messages = ctx.client.messages("POST", "/build", query, data=data, content_type="application/x-tar")
    try:
        for message in messages:
            if isinstance(message.get("aux"), dict):
                image = str(message["aux"].get("ID", image))
            text = str(message.get("stream", ""))
            if quiet:
                shown.append(text)
            else:
                ctx.out.write(text)
                ctx.out.flush()
    except Exception:
        sys.stderr.write("".join(shown))
        raise
    if quiet:
        ctx.out.write(image + "\n")
    if name := args.string("iidfile"):
        with open(name, "w", encoding="ascii") as file:
            file.write(image)
    return 0


def _flag(args: Arguments, name: str) -> str:
    return "1" if args.boolean(name) else ""


def _pairs(words: list[str]) -> dict[str, str | None]:
    """`name=value`; a name alone takes the value of this process's environment, as Docker's client does."""
    found: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        found[key] = value if equals else os.environ.get(key)
    return found


def _standard_input(dockerfile: str) -> Iterator[bytes]:
    """A tar from standard input, or a Dockerfile without a context."""
    head = sys.stdin.buffer.read(_BLOCK)
    if not head:
        raise CommandError("the build context on standard input is empty")
    if head[257:262] == b"ustar" or head[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5"):
        yield head
        while block := sys.stdin.buffer.read(_BLOCK):
            yield block
        return
    yield from _packed([(dockerfile or "Dockerfile", None, head + sys.stdin.buffer.read())])


def _directory(where: str, dockerfile: str) -> tuple[str, Iterator[bytes]]:
    """The Dockerfile's name in the context, and the context of a directory."""
    from gantry.model.ignore import IgnoreMatcher, parse_ignore

    root = os.path.realpath(where)
    if not os.path.isdir(root):
        raise CommandError(f"unable to prepare context: path {json.dumps(where)} not found")
    path = os.path.realpath(dockerfile or os.path.join(root, "Dockerfile"))
    if not os.path.isfile(path):
        raise CommandError(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {path}: "
            "no such file or directory"
        )
    extra: list[tuple[str, str | None, bytes]] = []
    if os.path.commonpath((root, path)) == root:
        name = os.path.relpath(path, root)
    else:
        name = ".dockerfile.outside"
        with open(path, "rb") as file:
            extra.append((name, None, file.read()))
    patterns: list[str] = []
    for candidate in (path + ".dockerignore", os.path.join(root, ".dockerignore")):
        if os.path.isfile(candidate):
            with open(candidate, encoding="utf-8") as text:
                patterns = parse_ignore(text.read())
            break
    matcher = IgnoreMatcher([*patterns, f"!{name}", "!.dockerignore"] if patterns else [])
    return name, _packed([*_walk(root, "", matcher, ()), *extra])


def _walk(root: str, below: str, matcher: object, above: tuple[bool, ...]) -> Iterator[tuple[str, str | None, bytes]]:
    """Names in the archive and paths of everything that is not ignored, sorted."""
    for entry in sorted(os.scandir(os.path.join(root, below)), key=lambda found: found.name):
        name = f"{below}/{entry.name}" if below else entry.name
        excluded, matched = matcher.match(name, above or None)  # type: ignore[attr-defined]
        is_directory = entry.is_dir(follow_symlinks=False)
        known = is_directory or entry.is_symlink() or entry.is_file(follow_symlinks=False)
        if not excluded and known:  # sockets and the like have no place in a context
            yield name, entry.path, b""
        if is_directory and (not excluded or matcher.may_hold_exceptions(name)):  # type: ignore[attr-defined]
            yield from _walk(root, name, matcher, matched)


def _packed(entries: list[tuple[str, str | None, bytes]]) -> Iterator[bytes]:
    """A tar of the entries, in blocks; owners are root's, as with Docker's client."""
    buffer = io.BytesIO()
    archive = tarfile.TarFile(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT)
    for name, path, data in entries:
        if path is None:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
        else:
            info = archive.gettarinfo(path, name)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isreg():
                yield _drain(buffer, archive, info.tobuf(tarfile.PAX_FORMAT))
                with open(path, "rb") as file:
                    left = info.size
                    while left and (block := file.read(min(_BLOCK, left))):
                        left -= len(block)
                        yield block
                    yield bytes(left + -info.size % tarfile.BLOCKSIZE)
                continue
            archive.addfile(info)
        yield _drain(buffer, archive, b"")
    yield _drain(buffer, archive, b"") + bytes(2 * tarfile.BLOCKSIZE)


def _drain(buffer: io.BytesIO, archive: tarfile.TarFile, more: bytes) -> bytes:
    data = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    archive.offset = 0
    return data + more


COMMAND = Command(
    _run,
    "[OPTIONS] PATH | URL | -",
    (
        strings("add-host", help='Add a custom host-to-IP mapping ("host:ip")'),
        strings("build-arg", help="Set build-time variables"),
        string("file", "f", 'Name of the Dockerfile (default: "PATH/Dockerfile")'),
        boolean("host-ca", help="Lend this host's certificate authorities to RUN steps"),
        string("iidfile", help="Write the image ID to a file"),
        strings("label", help="Set metadata for an image"),
        string("network", help='Set the networking mode for the "RUN" instructions during build'),
        boolean("no-cache", help="Do not use cache when building the image"),
        string("platform", help="Set target platform for build"),
        boolean("pull", help="Always attempt to pull all referenced images"),
        boolean("quiet", "q", "Suppress the build output and print image ID on success"),
        strings("tag", "t", 'Name and optionally a tag (format: "name:tag")'),
        string("target", help="Set the target build stage to build"),
    ),
    least=1,
    most=1,
)
