"""`gantry context`: ls, show, inspect, use, create, update, rm. The files are Docker's, so both clients share them."""

from __future__ import annotations

from gantry.cli import format as formats
from gantry.cli.command import Command, Context
from gantry.cli.contextstore import (
    DESCRIPTION,
    check_name,
    check_tls,
    current,
    docker_endpoint,
    record_of,
    tls_content,
)
from gantry.cli.errors import CommandError
from gantry.cli.flags import Flag, boolean, csv_fields, string, to_bool
from gantry.cli.opts import format_flag, inspect_format_flag
from gantry.cli.table import ellipsis
from gantry.client import config as configs
from gantry.client.contexts import ContextStore, context_id
from gantry.client.errors import ClientError, EndpointError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments

_HEADERS = {"Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR"}
_TABLE = "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
_OVERRIDE = (
    "Warning: DOCKER_HOST environment variable overrides the active context. "
    "To use {}, either set the global --context flag, or unset DOCKER_HOST environment variable."
)
_LIMIT = 45
_TYPE = "context.contextWithTLSListing"


def _ls(ctx: Context, args: Arguments) -> int:
    store = ContextStore(ctx.config_dir)
    active = current(ctx)
    names = {*store.names(), "default", active}
    rows = [_row(ctx, name, active) for name in sorted(names, key=formats.natural_key)]
    quiet = args.boolean("quiet")
    template = formats.resolve(args.string("format"), "", quiet=quiet, table=_TABLE, quiet_table="{{.Name}}")
    formats.render(rows, template, _HEADERS, ctx.out, type="*formatter.clientContextContext")
    if not quiet and ctx.environ.get("DOCKER_HOST"):
        ctx.warn(_OVERRIDE.format("a context"))
    return 0


def _row(ctx: Context, name: str, active: str) -> dict[str, Any]:
    description = host = problem = ""
    try:
        record = record_of(ctx, name)
        host = str(docker_endpoint(record).get("Host") or "")
        description = str((record.get("Metadata") or {}).get("Description") or "")
    except ClientError as error:
        problem = error.message
    return {
        "Name": name,
        "Current": name == active,
        "Description": ellipsis(DESCRIPTION if name == "default" else description, _LIMIT),
        "DockerEndpoint": host,
        "Error": ellipsis(problem, _LIMIT),
    }


LS = Command(_ls, "[OPTIONS]", (format_flag(), boolean("quiet", "q", "Only show context names")), most=0)


def _show(ctx: Context, _args: Arguments) -> int:
    ctx.out.write(current(ctx) + "\n")
    return 0


SHOW = Command(_show, "", most=0)


def _inspect(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format_inspect import inspect

    names = args.positional or [current(ctx)]
    return inspect(ctx, names, lambda name: _details(ctx, name), args.string("format"), _TYPE, raw=False)


def _details(ctx: Context, name: str) -> dict[str, Any]:
    record = record_of(ctx, name)
    directory = f"{ctx.config_dir}/contexts"
    stored = name != "default"
    store = ContextStore(ctx.config_dir)
    return {
        "Name": name,
        "Metadata": record.get("Metadata") or {},
        "Endpoints": record.get("Endpoints") or {},
        "TLSMaterial": store.tls_files(name) if stored else {},
        "Storage": {
            "MetadataPath": f"{directory}/meta/{context_id(name)}" if stored else "<IN MEMORY>",
            "TLSPath": f"{directory}/tls/{context_id(name)}" if stored else "<IN MEMORY>",
        },
    }


INSPECT = Command(_inspect, "[OPTIONS] [CONTEXT] [CONTEXT...]", (inspect_format_flag(),))


def _use(ctx: Context, args: Arguments) -> int:
    name = args.positional[0]
    if name != "default":
        check_name(name)
        ContextStore(ctx.config_dir).load(name)
    config = dict(ctx.config)
    wanted = "" if name == "default" else name
    if str(config.get("currentContext") or "") != wanted:
        config.pop("currentContext", None)
        if wanted:
            config["currentContext"] = wanted
        configs.save(ctx.config_dir, {"auths": {}, **config})
    ctx.out.write(name + "\n")
    ctx.warn(f'Current context is now "{name}"')
    if name != "default" and ctx.environ.get("DOCKER_HOST"):
        ctx.warn(_OVERRIDE.format(f'"{name}"'))
    return 0


USE = Command(_use, "CONTEXT", least=1, most=1)


# --------------------------------------------------------------------------- create and update


def _pairs(text: str) -> list[tuple[str, str]]:
    fields = [text] if text.count("=") <= 1 else csv_fields(text)
    pairs = []
    for field in fields:
        key, equals, rest = field.strip('"').partition("=")
        if not equals:
            raise ValueError(f"{field} must be formatted as key=value")
        pairs.append((key, rest))
    return pairs


def _docker_flag() -> Flag:
    return Flag(
        "docker",
        "",
        "set the docker endpoint",
        _pairs,
        metavar="stringToString",
        default=[],
        repeats=True,
        splits=True,
        shown="[]",
    )


def _endpoint(ctx: Context, settings: dict[str, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The docker endpoint that --docker asks for, and its TLS files; raises CommandError."""
    prefix = "unable to create docker endpoint config: "
    for key in settings:
        if key not in ("ca", "cert", "from", "host", "key", "skip-tls-verify"):
            raise CommandError(f"{prefix}unrecognized config key: {key}")
    if "from" in settings:
        name = settings["from"]
        record = record_of(ctx, name)
        return docker_endpoint(record), tls_content(ctx, name).get("docker", {})
    files = {}
    for key in ("ca", "cert", "key"):
        if settings.get(key):
            files[f"{key}.pem"] = _read(settings[key], prefix)
    skip = settings.get("skip-tls-verify", "")
    try:
        insecure = to_bool(skip) if skip else False
    except ValueError as error:
        raise CommandError(f"{prefix}skip-tls-verify: {error}") from error
    try:
        check_tls(files)
    except CommandError as error:
        words = "invalid docker endpoint options: failed to retrieve context tls info"
        raise CommandError(f"{prefix}{words}: {error.message}") from error
    return {"Host": settings.get("host", ""), "SkipTLSVerify": insecure}, files


def _read(name: str, prefix: str) -> bytes:
    import os

    try:
        with open(name, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise CommandError(f"{prefix}open {name}: {os.strerror(error.errno or 0).lower()}") from error


def _create(ctx: Context, args: Arguments) -> int:
    name, origin = args.positional[0], args.string("from")
    store = ContextStore(ctx.config_dir)
    if origin and args["docker"]:
        raise CommandError("cannot use --docker flag when --from is set")
    check_name(name)
    if store.exists(name):
        raise CommandError(f'context "{name}" already exists')
    metadata: dict[str, Any] = {}
    if args["docker"]:
        endpoint, files = _endpoint(ctx, dict(args["docker"]))
        endpoints, tls = {"docker": endpoint}, {"docker": files} if files else {}
    else:
        source = origin or current(ctx)
        record = record_of(ctx, source)
        endpoints, tls = record.get("Endpoints") or {}, tls_content(ctx, source)
        metadata = dict(record.get("Metadata") or {})
        if source == "default":
            metadata["Description"] = DESCRIPTION
    if args.string("description"):
        metadata["Description"] = args.string("description")
    store.save({"Name": name, "Metadata": metadata, "Endpoints": endpoints}, tls)
    ctx.out.write(name + "\n")
    ctx.warn(f'Successfully created context "{name}"')
    return 0


_DESCRIPTION_FLAG = string("description", "", "Description of the context")

CREATE = Command(
    _create,
    "[OPTIONS] CONTEXT",
    (_DESCRIPTION_FLAG, _docker_flag(), string("from", "", "create context from a named context")),
    least=1,
    most=1,
    description=(
        "Create a context\n\nDocker endpoint config:\n\n"
        "NAME                DESCRIPTION\n"
        "from                Copy named context's Docker endpoint configuration\n"
        "host                Docker endpoint on which to connect\n"
        "ca                  Trust certs signed only by this CA\n"
        "cert                Path to TLS certificate file\n"
        "key                 Path to TLS key file\n"
        "skip-tls-verify     Skip TLS certificate validation\n\n"
        'Example:\n\n$ gantry context create my-context --description "some description" '
        '--docker "host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file"'
    ),
)


def _update(ctx: Context, args: Arguments) -> int:
    name = args.positional[0]
    check_name(name)
    store = ContextStore(ctx.config_dir)
    record = store.load(name)
    if args.string("description"):
        record["Metadata"] = {**(record.get("Metadata") or {}), "Description": args.string("description")}
    tls = None
    if args["docker"]:
        endpoint, files = _endpoint(ctx, dict(args["docker"]))
        record["Endpoints"] = {**(record.get("Endpoints") or {}), "docker": endpoint}
        tls = {key: item for key, item in {**tls_content(ctx, name), "docker": files}.items() if item}
    store.save(record, tls)
    ctx.out.write(name + "\n")
    ctx.warn(f'Successfully updated context "{name}"')
    return 0


UPDATE = Command(_update, "[OPTIONS] CONTEXT", (_DESCRIPTION_FLAG, _docker_flag()), least=1, most=1)


def _rm(ctx: Context, args: Arguments) -> int:
    force = args.boolean("force")
    active = current(ctx)
    store = ContextStore(ctx.config_dir)
    problems = []
    for name in args.positional:
        if name == "default":
            problems.append('context "default" cannot be removed')
            continue
        if name == active and not force:
            problems.append(f'context "{name}" is in use, set -f flag to force remove')
            continue
        try:
            store.remove(name)
        except EndpointError:
            if not force:
                problems.append(f'context "{name}" does not exist')
                continue
        if name == str(ctx.config.get("currentContext") or ""):
            configs.save(ctx.config_dir, {key: item for key, item in ctx.config.items() if key != "currentContext"})
        ctx.out.write(name + "\n")
    if problems:
        raise CommandError("\n".join(problems))
    return 0


RM = Command(
    _rm,
    "CONTEXT [CONTEXT...]",
    (boolean("force", "f", "Force the removal of a context in use"),),
    least=1,
)


# ---------------------------------------------------------------------------- export and import


def _export(ctx: Context, args: Arguments) -> int:
    from gantry.cli.contextstore import export_context

    name = args.positional[0]
    export_context(ctx, name, args.positional[1] if len(args.positional) > 1 else f"{name}.dockercontext")
    return 0


EXPORT = Command(_export, "[OPTIONS] CONTEXT [FILE|-]", least=1, most=2)


def _import(ctx: Context, args: Arguments) -> int:
    from gantry.cli.contextstore import import_context

    name, source = args.positional
    import_context(ctx, name, source)
    ctx.out.write(name + "\n")
    ctx.warn(f'Successfully imported context "{name}"')
    return 0


IMPORT = Command(_import, "CONTEXT FILE|-", least=2, most=2)
