"""`gantry image`: ls, history, inspect, rm, tag, prune."""

from __future__ import annotations

import time

from gantry.cli import format as formats
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, quote, string, string_slice
from gantry.cli.opts import filter_flag, filters, format_flag, inspect_format_flag
from gantry.cli.table import ellipsis
from gantry.cli.units import human_duration, human_size
from gantry.client.client import segment
from gantry.client.errors import ClientError, ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from gantry.cli.flags import Arguments

_NONE = "<none>"
_HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
_TABLE = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_DIGEST_TABLE = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_RAW = """repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
"""
_DIGEST_RAW = _RAW.replace("image_id", "digest: {{.Digest}}\nimage_id")
_SUBCOMMANDS = (
    "build",
    "history",
    "import",
    "inspect",
    "list",
    "load",
    "ls",
    "prune",
    "pull",
    "push",
    "rm",
    "save",
    "tag",
)


def _ls(ctx: Context, args: Arguments) -> int:
    wanted = filters(args.strings("filter")) or {}
    if args.positional:
        wanted.setdefault("reference", {})[args.positional[0]] = True
    tree = args.boolean("tree")
    if tree:
        for flag in ("quiet", "format", "no-trunc", "digests"):
            if flag in args.changed:
                raise CommandError(f"--{flag} is not yet supported with --tree")
    query: dict[str, Any] = {"all": args.boolean("all") or None, "filters": wanted or None}
    if tree:
        query["manifests"] = True
    images = ctx.client.get("/images/json", query)
    if tree:
        from gantry.cli.image_tree import print_tree

        print_tree(ctx, images)
        return 0
    digests = args.boolean("digests")
    template = formats.resolve(
        args.string("format"),
        ctx.config.get("imagesFormat"),
        quiet=args.boolean("quiet"),
        table=_DIGEST_TABLE if digests else _TABLE,
        raw="image_id: {{.ID}}" if args.boolean("quiet") else _DIGEST_RAW if digests else _RAW,
    )
    rows = _rows(images, truncate=not args.boolean("no-trunc"), digests=digests or "{{.Digest}}" in template)
    formats.render(rows, template, _HEADERS, ctx.out, type="*formatter.imageContext")
    if not images and ctx.path == "images" and args.positional and args.positional[0] in _SUBCOMMANDS:
        name = args.positional[0]
        ctx.warn(f'\nNo images found matching {quote(name)}: did you mean "{ctx.program} image {name}"?')
    return 0


def _rows(images: list[dict[str, Any]], *, truncate: bool, digests: bool) -> Iterator[dict[str, Callable[[], str]]]:
    for image in images:
        for repository, tag, digest in names(image, digests=digests):
            yield row(image, repository, tag, digest, truncate=truncate)


def names(image: Mapping[str, Any], *, digests: bool) -> list[tuple[str, str, str]]:
    """(repository, tag, digest) of each line that an image has in a list."""
    tags: dict[str, list[str]] = {}
    for text in image.get("RepoTags") or ():
        repository, colon, tag = text.rpartition(":")
        if colon and text != "<none>:<none>":
            tags.setdefault(familiar(repository), []).append(tag)
    by_digest: dict[str, list[str]] = {}
    for text in image.get("RepoDigests") or ():
        repository, at, digest = text.partition("@")
        if at and repository != _NONE:
            by_digest.setdefault(familiar(repository), []).append(digest)
    if not tags and not by_digest:
        return [(_NONE, _NONE, _NONE)]
    found = []
    for repository, own in tags.items():
        known = by_digest.pop(repository, [])
        found += [(repository, tag, digest) for tag in own for digest in (known if digests and known else [_NONE])]
    for repository, known in by_digest.items():
        found += [(repository, _NONE, digest) for digest in (known if digests else [""])]
    return found


def familiar(repository: str) -> str:
    """A repository without Docker Hub's defaults in front."""
    for prefix in ("docker.io/library/", "docker.io/"):
        if repository.startswith(prefix):
            return repository[len(prefix) :]
    return repository


def short_id(value: str, *, truncate: bool = True) -> str:
    return value.removeprefix("sha256:")[:12] if truncate else value


def row(image: Mapping[str, Any], repository: str, tag: str, digest: str, *, truncate: bool) -> dict[str, Any]:
    size, shared = int(image.get("Size") or 0), int(image.get("SharedSize", -1))
    return {
        "ID": lambda: short_id(image["Id"], truncate=truncate),
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedSince": lambda: ago(int(image.get("Created") or 0)),
        "CreatedAt": lambda: local_time(int(image.get("Created") or 0)),
        "Size": lambda: human_size(size, 3),
        "Containers": lambda: _count(int(image.get("Containers", -1))),
        "VirtualSize": lambda: human_size(size),
        "SharedSize": lambda: "N/A" if shared == -1 else human_size(shared),
        "UniqueSize": lambda: "N/A" if shared == -1 else human_size(size - shared),
    }


def _count(number: int) -> str:
    return "N/A" if number == -1 else str(number)


def ago(seconds: int) -> str:
    """ "2 hours ago" of seconds since the epoch; "N/A" where the time is not known."""
    return human_duration(time.time() - seconds) + " ago" if seconds > 0 else "N/A"


def local_time(seconds: int) -> str:
    """A time as Go prints it: "2026-01-02 15:04:05 +0100 CET"."""
    moment = time.localtime(seconds)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S %z', moment)} {moment.tm_zone}"


LS = Command(
    _ls,
    "[OPTIONS] [REPOSITORY[:TAG]]",
    (
        boolean("all", "a", "Show all images (default hides intermediate images)"),
        boolean("digests", "", "Show digests"),
        filter_flag(),
        format_flag(),
        boolean("no-trunc", "", "Don't truncate output"),
        boolean("quiet", "q", "Only show image IDs"),
        boolean("tree", "", "List multi-platform images as a tree"),
    ),
    most=1,
)


# ------------------------------------------------------------------------------------- history

_HISTORY_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def _history(ctx: Context, args: Arguments) -> int:
    query = {"platform": platform_query(args.string("platform"))}
    entries = ctx.client.get(f"/images/{segment(args.positional[0])}/history", query)
    human, truncate = args.boolean("human"), not args.boolean("no-trunc")
    created = "{{.CreatedSince}}" if human else "{{.CreatedAt}}"
    template = formats.resolve(
        args.string("format"),
        "",
        quiet=args.boolean("quiet"),
        table="table {{.ID}}\t" + created + "\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    )
    rows = (_history_row(entry, human=human, truncate=truncate) for entry in entries)
    formats.render(rows, template, _HISTORY_HEADERS, ctx.out, type="*formatter.historyContext")
    return 0


def _history_row(entry: Mapping[str, Any], *, human: bool, truncate: bool) -> dict[str, Any]:
    created = int(entry.get("Created") or 0)
    by = str(entry.get("CreatedBy") or "").replace("\t", " ")
    size = int(entry.get("Size") or 0)
    return {
        "ID": lambda: short_id(str(entry.get("Id") or ""), truncate=truncate),
        "CreatedAt": lambda: _rfc3339(created),
        "CreatedSince": lambda: ago(created) if human else _rfc3339(created),
        "CreatedBy": lambda: ellipsis(by, 45) if truncate else by,
        "Size": lambda: human_size(size, 3) if human else str(size),
        "Comment": str(entry.get("Comment") or ""),
    }


def _rfc3339(seconds: int) -> str:
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")


def platform_query(text: str) -> dict[str, str] | None:
    """os/architecture[/variant] as the JSON that newer endpoints take."""
    if not text:
        return None
    from gantry.errors import InvalidArgument
    from gantry.model.platform import Platform

    try:
        platform = Platform.parse(text)
    except InvalidArgument as error:
        raise CommandError(f"invalid platform: {error.message}") from error
    found = {"architecture": platform.architecture, "os": platform.os, "variant": platform.variant}
    return {key: value for key, value in found.items() if value}


def platform_flag(help: str) -> Any:  # noqa: A002
    return string("platform", "", help)


HISTORY = Command(
    _history,
    "[OPTIONS] IMAGE",
    (
        format_flag(),
        boolean("human", "H", "Print sizes and dates in human readable format", default=True),
        boolean("no-trunc", "", "Don't truncate output"),
        platform_flag('Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'),
        boolean("quiet", "q", "Only show image IDs"),
    ),
    least=1,
    most=1,
)


# ------------------------------------------------------------------------------ inspect and tag


def _inspect(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format_inspect import inspect

    query = {"platform": platform_query(args.string("platform"))}
    return inspect(
        ctx,
        args.positional,
        lambda name: ctx.client.get(f"/images/{segment(name)}/json", query),
        args.string("format"),
        "image.InspectResponse",
    )


INSPECT = Command(
    _inspect,
    "[OPTIONS] IMAGE [IMAGE...]",
    (
        inspect_format_flag(),
        platform_flag(
            "Inspect a specific platform of the multi-platform image. "
            "If the image or the server is not multi-platform capable, the command will error out if the platform does "
            "not match. 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"
        ),
    ),
    least=1,
)


def _tag(ctx: Context, args: Arguments) -> int:
    source, target = args.positional
    from gantry.errors import InvalidArgument
    from gantry.model.reference import Reference

    try:
        reference = Reference.parse(target)
    except InvalidArgument as error:
        raise CommandError(
            f"Error parsing reference: {quote(target)} is not a valid repository/tag: {error.message}"
        ) from error
    if reference.digest:
        raise CommandError("refusing to create a tag with a digest reference")
    ctx.client.post(f"/images/{segment(source)}/tag", {"repo": reference.familiar_name, "tag": reference.tag})
    return 0


TAG = Command(_tag, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", least=2, most=2, interspersed=False)


# ---------------------------------------------------------------------------------- rm and prune


def _rm(ctx: Context, args: Arguments) -> int:
    force = args.boolean("force")
    query: dict[str, Any] = {
        "force": force or None,
        "noprune": args.boolean("no-prune") or None,
        "platforms": [platform_query(text) for text in args.strings("platform")] or None,
    }
    problems = []
    fatal = False
    for name in args.positional:
        try:
            removed = ctx.client.delete(f"/images/{segment(name)}", query)
        except ClientError as error:
            fatal = fatal or not (isinstance(error, ResponseError) and error.status == 404)
            problems.append(error.message)
            continue
        for entry in removed or ():
            ctx.out.write(
                f"Deleted: {entry['Deleted']}\n" if entry.get("Deleted") else f"Untagged: {entry['Untagged']}\n"
            )
    ctx.out.flush()
    if problems:
        ctx.err.write("\n".join(problems) + "\n")
    return 1 if problems and (fatal or not force) else 0


RM = Command(
    _rm,
    "[OPTIONS] IMAGE [IMAGE...]",
    (
        boolean("force", "f", "Force removal of the image"),
        boolean("no-prune", "", "Do not delete untagged parents"),
        string_slice(
            "platform",
            "",
            'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
    ),
    least=1,
)


def prune_images(ctx: Context, wanted: Mapping[str, Mapping[str, bool]], *, everything: bool) -> tuple[list[str], int]:
    """Remove dangling (or all unused) images; lines for the user, and bytes reclaimed."""
    chosen = {**wanted, "dangling": {"false" if everything else "true": True}}
    answer = ctx.client.post("/images/prune", {"filters": chosen})
    deleted = answer.get("ImagesDeleted") or ()
    lines = [
        f"untagged: {entry['Untagged']}" if entry.get("Untagged") else f"deleted: {entry['Deleted']}"
        for entry in deleted
    ]
    return (["Deleted Images:", *lines] if lines else []), int(answer.get("SpaceReclaimed") or 0) if lines else 0


def _prune(ctx: Context, args: Arguments) -> int:
    from gantry.cli import prune

    everything = args.boolean("all")
    what = "all images without at least one container associated to them" if everything else "all dangling images"
    wanted = prune.prune_filters(ctx, args)
    return prune.run(
        ctx,
        args,
        f"WARNING! This will remove {what}.\n{prune.QUESTION}",
        lambda: prune_images(ctx, wanted, everything=everything),
    )


def _prune_flags() -> Any:
    from gantry.cli import prune

    return (boolean("all", "a", "Remove all unused images, not just dangling ones"), *prune.flags())


PRUNE = Command(_prune, "[OPTIONS]", _prune_flags(), most=0)
