"""`gantry build`: make an image from a Dockerfile and a context."""

from __future__ import annotations

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string, string_slice, strings, value
from gantry.cli.opts import label, labels, size, swap_size
from gantry.cli.terminal import is_terminal
from gantry.client.errors import StreamError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from gantry.cli.build_context import BuildContext
    from gantry.cli.build_source import Source
    from gantry.cli.flags import Arguments

_PROGRESS = ("auto", "none", "plain", "quiet", "rawjson", "tty")
_PROXIES = ("http", "https", "no", "ftp", "all")


class Lent:
    """What a build may use beside its context: parameters of the request, and named directories to send along."""

    def __init__(self, query: dict[str, Any] | None = None, directories: list[BuildContext] | None = None) -> None:
        self.query = query or {}
        self.directories = directories or []


def _run(ctx: Context, args: Arguments) -> int:
    from gantry.cli.build_source import open_source
    from gantry.client.auth import all_header

    progress = args.string("progress")
    if progress not in _PROGRESS:
        raise CommandError(f'invalid progress type: "{progress}": must be one of {", ".join(map(repr, _PROGRESS))}')
    if args.boolean("check") or args.string("call") != "build":
        from gantry.cli.build_check import check

        return check(ctx, args, _query)
    from gantry.cli.build_output import exports, write_metadata

    outputs = exports(args.strings("output"), args.strings("tag"), load=args.boolean("load"), push=args.boolean("push"))
    iidfile = args.string("iidfile")
    if iidfile:
        _remove(iidfile)
    quiet = args.boolean("quiet") or progress == "quiet"
    live = not quiet and (progress == "tty" or (progress == "auto" and is_terminal(1)))
    if any(output.to_stdout for output in outputs):
        quiet, live = True, False  # standard output is the archive's
    source = open_source(args.positional[0], args.string("file"))
    lent = _lent(ctx, args)
    query = _query(ctx, args, source) | lent.query | {"explain": True}
    on_failure = args.string("on-failure")
    if on_failure not in ("none", "shell"):
        raise CommandError(f'invalid value for --on-failure: "{on_failure}": it is none or shell')
    if live or progress == "rawjson":
        query["progress"] = "vertex"
    messages = ctx.client.messages(
        "POST",
        "/build",
        query,
        data=_counted(
            ctx, source.archive(lent.directories), compress=args.boolean("compress"), show=not quiet and not live
        ),
        headers={"X-Registry-Config": all_header(ctx.config)},
        content_type="application/x-tar",
    )
    failure: dict[str, Any] = {}
    try:
        if progress == "rawjson":
            image = _raw(ctx, messages)
        else:
            silent = any(output.to_stdout for output in outputs)
            image = _show(ctx, _watched(messages, failure, live=live), quiet=quiet, live=live, silent=silent)
    except StreamError as error:
        if failure:
            from gantry.cli.build_failure import explain

            explain(ctx, failure, error.message, shown=live, shell=on_failure == "shell")
        raise CommandError(error.message, error.code or 1) from error
    if iidfile:
        if not image:
            raise CommandError(f"cannot write {iidfile}: the daemon did not provide an image ID")
        _write(iidfile, image)
    if metadata := args.string("metadata-file"):
        write_metadata(metadata, image, args.strings("tag"))
    for output in outputs:
        output.write(ctx, image)
    return 0


def _watched(messages: Iterator[dict[str, Any]], failure: dict[str, Any], *, live: bool) -> Iterator[dict[str, Any]]:
    """The messages; what says where the build failed is kept, and a live display sees it too."""
    for message in messages:
        if "source" in message:
            failure.update(message["source"])
            if not live:
                continue
        yield message


def _raw(ctx: Context, messages: Iterator[dict[str, Any]]) -> str:
    """BuildKit's progress objects on standard error, one a line; returns the image's id."""
    from gantry.client.jsontext import encode_text

    image = ""
    for message in messages:
        if (aux := message.get("aux")) and aux.get("ID"):
            image = str(aux["ID"])
        ctx.err.write(encode_text(message) + "\n")
    return image


def _lent(ctx: Context, args: Arguments) -> Lent:
    """What the build may use beside its context; imported for the builds that ask for it."""
    asked = args.strings("build-context"), args.strings("secret"), args.strings("ssh")
    if not any(asked):
        return Lent()
    from gantry.cli.build_lent import prepare

    return prepare(ctx, *asked)


def _show(ctx: Context, messages: Iterator[dict[str, Any]], *, quiet: bool, live: bool, silent: bool = False) -> str:
    """Show the build's progress; returns the image's id."""
    images: list[str] = []

    def on_aux(aux: Any) -> None:
        if isinstance(aux, dict) and aux.get("ID"):
            images.append(str(aux["ID"]))

    if live:
        from gantry.cli.build_display import LiveDisplay

        with LiveDisplay(ctx.out) as display:
            for message in messages:
                display.feed(message)
                on_aux(message.get("aux"))
        return images[-1] if images else ""
    from gantry.cli import progress
    from gantry.cli.terminal import size as terminal_size

    if not quiet:
        progress.show(messages, ctx.out, terminal=is_terminal(1), columns=terminal_size()[1], on_aux=on_aux)
        return images[-1] if images else ""
    held: list[str] = []
    try:
        for message in messages:
            on_aux(message.get("aux"))
            held.append(str(message.get("stream") or ""))
    except StreamError:
        ctx.err.write("".join(held))
        raise
    text = "".join(held).strip()
    if not silent:
        ctx.out.write((text.splitlines()[-1] if text else images[-1] if images else "") + "\n")
    return images[-1] if images else text


def _remove(path: str) -> None:
    import os

    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CommandError(f"removing image ID file: {path}: {os.strerror(error.errno or 0).lower()}") from error


def _write(path: str, text: str) -> None:
    import os

    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from error


# ------------------------------------------------------------------------------------- request


def _query(ctx: Context, args: Arguments, source: Source) -> dict[str, Any]:
    """The parameters of POST /build; None leaves one out."""
    arguments = _build_arguments(ctx, args.strings("build-arg"))
    marks = labels(args.strings("label"))
    caches = args.strings("cache-from")
    return {
        "version": "1",
        "t": args.strings("tag"),
        "dockerfile": source.dockerfile or None,
        "remote": source.remote or None,
        "target": args.string("target") or None,
        "platform": args.string("platform") or ctx.environ.get("DOCKER_DEFAULT_PLATFORM") or None,
        "q": args.boolean("quiet") or None,
        "nocache": args.boolean("no-cache") or None,
        "nocachefilter": _json([name for text in args.strings("no-cache-filter") for name in text.split(",")]),
        "pull": args.boolean("pull") or None,
        "rm": args.boolean("rm"),
        "forcerm": args.boolean("force-rm") or None,
        "squash": args.boolean("squash") or None,
        "hostca": args.boolean("host-ca") or None,
        "isolation": args.string("isolation") or None,
        "networkmode": args.string("network"),
        "extrahosts": args.strings("add-host"),
        "securityopt": args.strings("security-opt"),
        "memory": args["memory"] or None,
        "memswap": args["memory-swap"] or None,
        "shmsize": args["shm-size"] or None,
        "cpushares": args["cpu-shares"] or None,
        "cpuperiod": args["cpu-period"] or None,
        "cpuquota": args["cpu-quota"] or None,
        "cpusetcpus": args.string("cpuset-cpus") or None,
        "cpusetmems": args.string("cpuset-mems") or None,
        "cgroupparent": args.string("cgroup-parent") or None,
        "ulimits": _json(args["ulimit"]),
        "buildargs": _json(arguments),
        "labels": _json(marks),
        "cachefrom": _json(caches),
    }


def _json(value: Any) -> str | None:
    from gantry.client.jsontext import encode_text

    return encode_text(value) if value else None


def _build_arguments(ctx: Context, texts: list[str]) -> dict[str, str | None]:
    """Build arguments: a name alone takes the environment's value (none: the Dockerfile's); then the proxies."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        found[name] = rest if equals else ctx.environ.get(name)
    proxies = ctx.config.get("proxies") or {}
    settings: Mapping[str, Any] = proxies.get(ctx.client.endpoint.url) or proxies.get("default") or {}
    for kind in _PROXIES:
        text = str(settings.get(f"{kind}Proxy") or "")
        for name in (f"{kind.upper()}_PROXY", f"{kind}_proxy"):
            if text:
                found.setdefault(name, text)
    return found


def _counted(ctx: Context, blocks: Iterator[bytes] | None, *, compress: bool, show: bool) -> bytes | Iterator[bytes]:
    """The context on its way out; a line tells its size at the end."""
    if blocks is None:
        return b""
    if compress:
        from gantry.cli.build_compress import compressed

        blocks = compressed(blocks)
    return _told(ctx, blocks) if show else blocks


def _told(ctx: Context, blocks: Iterator[bytes]) -> Iterator[bytes]:
    from gantry.cli.units import human_size

    sent = 0
    for block in blocks:
        yield block
        sent += len(block)
    ctx.out.write(f"Sending build context to Gantry daemon {human_size(sent):>8}\n")
    ctx.out.flush()


# --------------------------------------------------------------------------------------- flags


def _lazy(module: str, name: str) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        found: Callable[[str], Any] = getattr(__import__(f"gantry.cli.{module}", fromlist=[name]), name)
        return found(text)

    return convert


def _tag(text: str) -> str:
    from gantry.errors import InvalidArgument
    from gantry.model.reference import Reference

    try:
        Reference.parse(text)
    except InvalidArgument as error:
        raise ValueError(error.message) from error
    return text


def _build_arg(text: str) -> str:
    if not text or text[0] == "=":
        raise ValueError(f"invalid environment variable: {text}")
    return text


def _number(name: str, short: str, help: str) -> Any:  # noqa: A002
    from gantry.cli.flags import to_int

    return value(name, short, help, to_int, metavar="int", default=0)


COMMAND = Command(
    _run,
    "[OPTIONS] PATH | URL | -",
    (
        strings(
            "add-host", "", 'Add a custom host-to-IP mapping ("host:ip")', check=_lazy("opts_container", "extra_host")
        ),
        strings("build-arg", "", "Set build-time variables", check=_build_arg),
        string("call", "", "Set method for evaluating build (check)", default="build"),
        boolean("check", "", "Shorthand for --call=check"),
        strings("build-context", "", "Additional build contexts (e.g., name=path)"),
        string_slice("cache-from", "", "Images to consider as cache sources"),
        string("cgroup-parent", "", "Set the parent cgroup for the RUN instructions during build"),
        boolean("compress", "", "Compress the build context using gzip"),
        _number("cpu-period", "", "Limit the CPU CFS (Completely Fair Scheduler) period"),
        _number("cpu-quota", "", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
        _number("cpu-shares", "c", "CPU shares (relative weight)"),
        string("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
        string("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
        boolean("disable-content-trust", "", "Skip image verification (deprecated)", default=True, hidden=True),
        string("file", "f", "Name of the Dockerfile (Default is 'PATH/Dockerfile')"),
        boolean("force-rm", "", "Always remove intermediate containers"),
        boolean("host-ca", "", "Lend this host's certificate authorities to RUN steps"),
        string("iidfile", "", "Write the image ID to the file"),
        boolean("load", "", "Shorthand for --output=type=docker"),
        string("metadata-file", "", "Write build result metadata to a file"),
        strings("no-cache-filter", "", "Do not cache specified stages"),
        string("on-failure", "", 'What to do when a step fails ("none", "shell")', default="none"),
        strings("output", "o", 'Output destination (format: "type=local,dest=path")'),
        boolean("push", "", "Shorthand for --output=type=registry"),
        string("isolation", "", "Container isolation technology"),
        strings("label", "", "Set metadata for an image", check=label),
        size("memory", "m", "Memory limit"),
        swap_size("memory-swap", "", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        string("network", "", "Set the networking mode for the RUN instructions during build", default="default"),
        boolean("no-cache", "", "Do not use cache when building the image"),
        string("platform", "", "Set platform if server is multi-platform capable"),
        string(
            "progress",
            "",
            'Set type of progress output ("auto", "none", "plain", "quiet", "rawjson", "tty")',
            default="auto",
        ),
        boolean("pull", "", "Always attempt to pull a newer version of the image"),
        boolean("quiet", "q", "Suppress the build output and print image ID on success"),
        boolean("rm", "", "Remove intermediate containers after a successful build", default=True),
        strings("secret", "", 'Secret to lend to RUN steps (format: "id=mysecret[,src=/local/secret]")'),
        string_slice("security-opt", "", "Security options"),
        size("shm-size", "", 'Size of "/dev/shm"'),
        strings("ssh", "", 'SSH agent socket to lend to RUN steps (format: "default|<id>[=<socket>]")'),
        boolean("squash", "", "Squash newly built layers into a single new layer", hidden=True),
        strings("tag", "t", 'Name and optionally a tag in the "name:tag" format', check=_tag),
        string("target", "", "Set the target build stage to build"),
        value(
            "ulimit",
            "",
            "Ulimit options",
            _lazy("opts_resources", "ulimit"),
            metavar="ulimit",
            default=[],
            repeats=True,
        ),
    ),
    least=1,
    most=1,
)
