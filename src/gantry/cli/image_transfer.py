"""`gantry image`: pull, push, save, load, import."""

from __future__ import annotations

import os

from gantry.cli import progress
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string, strings
from gantry.cli.image import platform_flag, platform_query
from gantry.cli.terminal import is_terminal, size
from gantry.client.client import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, BinaryIO

    from gantry.cli.flags import Arguments
    from gantry.model.reference import Reference

_BLOCK = 1 << 20


def _parse(text: str) -> Reference:
    from gantry.errors import InvalidArgument
    from gantry.model.reference import Reference

    try:
        return Reference.parse(text, default_tag=False)
    except InvalidArgument as error:
        raise CommandError(error.message) from error


def show_progress(
    ctx: Context, messages: Iterable[Mapping[str, Any]], *, on_aux: Callable[[Any], None] | None = None
) -> None:
    """Show a progress stream on standard output, with bars where that is a terminal."""
    progress.show(messages, ctx.out, terminal=is_terminal(1), columns=size()[1], on_aux=on_aux)


# -------------------------------------------------------------------------------- pull and push


def _pull(ctx: Context, args: Arguments) -> int:
    from gantry.client.auth import header

    reference = _parse(args.positional[0])
    every, quiet = args.boolean("all-tags"), args.boolean("quiet")
    named_only = not reference.tag and not reference.digest
    if every and not named_only:
        raise CommandError("tag can't be used with --all-tags/-a")
    version = reference.digest or reference.tag
    if named_only and not every:
        version = "latest"
        if not quiet:
            ctx.out.write("Using default tag: latest\n")
    query = {
        "fromImage": reference.familiar_name,
        "tag": version or None,
        "platform": args.string("platform") or ctx.environ.get("DOCKER_DEFAULT_PLATFORM") or None,
    }
    headers = {"X-Registry-Auth": header(ctx.config, reference.domain)}
    messages = ctx.client.messages("POST", "/images/create", query, headers=headers)
    if quiet:
        for _ in messages:
            pass
    else:
        show_progress(ctx, messages)
    full = str(reference) if not named_only else f"{reference}:latest" if not every else str(reference)
    ctx.out.write(full + "\n")
    return 0


_TRUST = boolean("disable-content-trust", "", "Skip image verification (deprecated)", default=True, hidden=True)

PULL = Command(
    _pull,
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    (
        boolean("all-tags", "a", "Download all tagged images in the repository"),
        _TRUST,
        platform_flag("Set platform if server is multi-platform capable"),
        boolean("quiet", "q", "Suppress verbose output"),
    ),
    least=1,
    most=1,
)


def _push(ctx: Context, args: Arguments) -> int:
    reference = _parse(args.positional[0])
    every, quiet = args.boolean("all-tags"), args.boolean("quiet")
    named_only = not reference.tag and not reference.digest
    if every and not named_only:
        raise CommandError("tag can't be used with --all-tags/-a")
    tag = reference.tag
    if named_only and not every:
        tag = "latest"
        if not quiet:
            ctx.out.write("Using default tag: latest\n")
    push_image(ctx, reference, tag, platform=args.string("platform"), quiet=quiet)
    return 0


def push_image(ctx: Context, reference: Reference, tag: str, *, platform: str = "", quiet: bool = False) -> None:
    """Upload one tag, or all of a repository's where `tag` is "", and show the progress."""
    from gantry.client.auth import header

    query = {"tag": tag or None, "platform": platform_query(platform)}
    headers = {"X-Registry-Auth": header(ctx.config, reference.domain)}
    path = f"/images/{_repository_path(reference.familiar_name)}/push"
    notes: list[str] = []

    def on_aux(value: Any) -> None:
        if isinstance(value, dict) and "manifestPushedInsteadOfIndex" in value:
            note = "Not all multiplatform-content is present and only the available single-platform image was pushed"
            notes.append(f"Info -> {note}")

    messages = ctx.client.messages("POST", path, query, headers=headers)
    if quiet:
        for _ in messages:
            pass
        ctx.out.write(f"{reference.repository}{':' + tag if tag else ''}\n")
    else:
        show_progress(ctx, messages, on_aux=on_aux)
        for note in notes:
            ctx.out.write(note + "\n")


def _repository_path(name: str) -> str:
    return "/".join(segment(part) for part in name.split("/"))


PUSH = Command(
    _push,
    "[OPTIONS] NAME[:TAG]",
    (
        boolean("all-tags", "a", "Push all tags of an image to the repository"),
        _TRUST,
        platform_flag(
            "Push a platform-specific manifest as a single-platform image to the registry.\n"
            "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"
        ),
        boolean("quiet", "q", "Suppress verbose output"),
    ),
    least=1,
    most=1,
)


# --------------------------------------------------------------------------------- save and load


def _save(ctx: Context, args: Arguments) -> int:
    target = args.string("output")
    if not target and is_terminal(1):
        raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if target:
        _check_output(target)
    query = {"names": args.positional, "platform": platform_query(args.string("platform"))}
    blocks = ctx.client.download("/images/get", query)
    if target:
        _write_file(target, blocks)
    else:
        ctx.out.flush()
        for block in blocks:
            _write_all(1, block)
    return 0


def _check_output(target: str) -> None:
    directory = os.path.dirname(os.path.normpath(target))
    if directory and not os.path.exists(directory):
        raise CommandError(f"failed to save image: invalid output path: stat {directory}: no such file or directory")
    if os.path.isdir(target):
        raise CommandError("failed to save image: cannot write to a directory")
    if os.path.exists(target) and not os.path.isfile(target):
        raise CommandError(f"failed to save image: {target!r} is no regular file")


def _write_file(target: str, blocks: Iterator[bytes]) -> None:
    """A file of that name appears when all has arrived."""
    place = os.path.realpath(target)
    temporary = f"{place}.{os.getpid()}.partial"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for block in blocks:
                _write_all(descriptor, block)
        finally:
            os.close(descriptor)
        os.replace(temporary, place)
    except OSError as error:
        raise CommandError(f"failed to save image: {target}: {(error.strerror or str(error)).lower()}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _write_all(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


SAVE = Command(
    _save,
    "[OPTIONS] IMAGE [IMAGE...]",
    (
        string("output", "o", "Write to a file, instead of STDOUT"),
        platform_flag('Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'),
    ),
    least=1,
)


def _open(name: str) -> BinaryIO:
    try:
        return open(name, "rb")
    except OSError as error:
        raise CommandError(f"open {name}: {os.strerror(error.errno or 0).lower()}") from error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while True:
            try:
                block = file.read(_BLOCK)
            except OSError as error:
                raise CommandError(f"read {file.name}: {os.strerror(error.errno or 0).lower()}") from error
            if not block:
                return
            yield block


def source_blocks(source: str) -> Iterator[bytes]:
    """A file's content, or standard input's for `-`; raises CommandError."""
    return standard_input() if source == "-" else _blocks(_open(source))


def standard_input() -> Iterator[bytes]:
    while block := os.read(0, _BLOCK):
        yield block


def _load(ctx: Context, args: Arguments) -> int:
    name = args.string("input")
    if name:
        source: Iterator[bytes] = _blocks(_open(name))
    elif is_terminal(0):
        raise CommandError("requested load from stdin, but stdin is empty")
    else:
        source = standard_input()
    quiet = args.boolean("quiet") or not is_terminal(1)
    query = {"quiet": quiet, "platform": platform_query(args.string("platform"))}
    response = ctx.client.request("POST", "/images/load", query, data=source, content_type="application/x-tar")
    if "application/json" in response.headers.get("content-type", ""):
        show_progress(ctx, _checked(response.messages()))
    else:
        for block in response.blocks():
            ctx.out.write(block.decode("utf-8", "replace"))
    return 0


def _checked(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if "errorDetail" in message or message.get("error"):
            raise CommandError(str((message.get("errorDetail") or {}).get("message") or message.get("error")))
        yield message


LOAD = Command(
    _load,
    "[OPTIONS]",
    (
        string("input", "i", "Read from tar archive file, instead of STDIN"),
        platform_flag('Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'),
        boolean("quiet", "q", "Suppress the load output"),
    ),
    most=0,
)


# ---------------------------------------------------------------------------------------- import


def import_stream(
    ctx: Context,
    source: Iterable[bytes],
    repository: str,
    tag: str,
    changes: list[str],
    message: str = "",
    platform: str = "",
) -> Iterator[dict[str, Any]]:
    """Make an image of a root file system's tar archive; yields progress messages, the last has the image's id."""
    query = {
        "fromSrc": "-",
        "repo": repository or None,
        "tag": tag or None,
        "message": message or None,
        "changes": changes or None,
        "platform": platform or None,
    }
    return ctx.client.messages("POST", "/images/create", query, data=source, content_type="application/x-tar")


def _import(ctx: Context, args: Arguments) -> int:
    source, *rest = args.positional
    name = rest[0] if rest else ""
    if name:
        _parse(name)
    repository, tag = split_name(name)
    changes, message, platform = args.strings("change"), args.string("message"), args.string("platform")
    platform = platform or ctx.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    if source.startswith(("http://", "https://")):
        query = {
            "fromSrc": source,
            "repo": repository or None,
            "tag": tag or None,
            "message": message or None,
            "changes": changes or None,
            "platform": platform or None,
        }
        messages = ctx.client.messages("POST", "/images/create", query)
    else:
        blocks = source_blocks(source)
        messages = import_stream(ctx, blocks, repository, tag, changes, message, platform)
    show_progress(ctx, messages)
    return 0


def split_name(name: str) -> tuple[str, str]:
    """Repository and tag of a reference that was checked."""
    head, colon, tail = name.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (name, "")


IMPORT = Command(
    _import,
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    (
        strings("change", "c", "Apply Dockerfile instruction to the created image"),
        string("message", "m", "Set commit message for imported image"),
        platform_flag("Set platform if server is multi-platform capable"),
    ),
    least=1,
)
