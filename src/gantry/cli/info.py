"""`gantry info`: facts about the daemon and its host."""

from __future__ import annotations

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.opts import inspect_format_flag
from gantry.cli.units import bytes_size
from gantry.cli.version import client_info
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from gantry.cli.flags import Arguments


def _run(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format import parse, render_one

    text = args.string("format")
    template = parse("{{json .}}" if text == "json" else text, status=64) if text else None
    server, problem = {}, ""
    try:
        server = ctx.client.get("/info")
    except ClientError as error:
        problem = error.message
    client = client_info(ctx)
    del client["ApiVersion"]
    client = {"Debug": ctx.flags.boolean("debug"), **client, "Plugins": [], "Warnings": None}
    if template is not None:
        from gantry.cli.gotemplate_values import typed

        document = {**server, "ClientInfo": client}
        if problem:
            document["ServerErrors"] = [problem]
        render_one(ctx, template, typed(document, "system.dockerInfo"))
    else:
        ctx.out.write("".join(line + "\n" for line in _client_lines(client)))
        if server:
            ctx.out.write("".join(line + "\n" for line in server_lines(server, ctx.config)) + "\n")
            ctx.out.flush()
            for warning in server.get("Warnings") or ():
                ctx.warn(warning)
    if problem:
        raise CommandError(problem)
    return 0


def _client_lines(client: Mapping[str, Any]) -> list[str]:
    return [
        "Client:",
        f" Version:    {client['Version']}",
        f" Context:    {client['Context']}",
        f" Debug Mode: {_truth(client['Debug'])}",
        "",
        "Server:",
    ]


def _truth(value: object) -> str:
    return "true" if value else "false"


def server_lines(info: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """The daemon's half, in Docker's order."""
    yield f" Containers: {info.get('Containers', 0)}"
    for state in ("Running", "Paused", "Stopped"):
        yield f"  {state}: {info.get('Containers' + state, 0)}"
    yield f" Images: {info.get('Images', 0)}"
    yield from _given(info, ("Server Version", "ServerVersion"), ("Storage Driver", "Driver"))
    yield from (f"  {name}: {text}" for name, text in info.get("DriverStatus") or ())
    yield from _given(
        info,
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    )
    plugins = info.get("Plugins") or {}
    yield " Plugins:"
    yield f"  Volume: {' '.join(plugins.get('Volume') or ())}"
    yield f"  Network: {' '.join(plugins.get('Network') or ())}"
    if plugins.get("Authorization"):
        yield f"  Authorization: {' '.join(plugins['Authorization'])}"
    yield f"  Log: {' '.join(plugins.get('Log') or ())}"
    yield from _list(" CDI spec directories:", info.get("CDISpecDirs"))
    yield f" Swarm: {(info.get('Swarm') or {}).get('LocalNodeState') or ''}"
    if info.get("Runtimes"):
        yield f" Runtimes: {' '.join(sorted(info['Runtimes']))}"
        yield f" Default Runtime: {info.get('DefaultRuntime') or ''}"
    if info.get("OSType") == "linux":
        yield f" Init Binary: {info.get('InitBinary') or ''}"
        for name, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
            yield f" {name} version: {(info.get(key) or {}).get('ID') or ''}"
        yield from _security(info.get("SecurityOptions") or ())
    yield from _given(
        info,
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    )
    yield f" CPUs: {info.get('NCPU', 0)}"
    yield f" Total Memory: {bytes_size(info.get('MemTotal') or 0)}"
    yield from _given(info, ("Name", "Name"), ("ID", "ID"))
    yield f" Docker Root Dir: {info.get('DockerRootDir') or ''}"
    yield f" Debug Mode: {_truth(info.get('Debug'))}"
    if info.get("Debug"):
        yield f"  File Descriptors: {info.get('NFd', 0)}"
        yield f"  Goroutines: {info.get('NGoroutines', 0)}"
        yield f"  System Time: {info.get('SystemTime') or ''}"
        yield f"  EventsListeners: {info.get('NEventsListener', 0)}"
    yield from _given(info, ("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy"))
    yield from _user(info, config)
    yield from _list(" Labels:", info.get("Labels"))
    yield f" Experimental: {_truth(info.get('ExperimentalBuild'))}"
    yield from _registries(info.get("RegistryConfig") or {})
    yield f" Live Restore Enabled: {_truth(info.get('LiveRestoreEnabled'))}"
    yield from _given(info, ("Product License", "ProductLicense"))
    if info.get("DefaultAddressPools"):
        yield " Default Address Pools:"
        yield from (f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in info["DefaultAddressPools"])


def _given(info: Mapping[str, Any], *names: tuple[str, str]) -> Iterator[str]:
    """Lines of the fields that are not empty."""
    for title, key in names:
        if info.get(key):
            yield f" {title}: {info[key]}"


def _list(title: str, items: Any) -> Iterator[str]:
    if items:
        yield title
        yield from (f"  {item}" for item in items)


def _security(options: Any) -> Iterator[str]:
    """ "name=seccomp,profile=builtin" as a name with its settings below."""
    if not options:
        return
    yield " Security Options:"
    for option in options:
        pairs = [part.partition("=") for part in option.split(",")]
        yield from (f"  {text or key}" for key, _, text in pairs if key == "name" or not text)
        yield from (f"   {key.capitalize()}: {text}" for key, _, text in pairs if key == "profile")


def _user(info: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    server = info.get("IndexServerAddress")
    if not server or not config.get("auths"):
        return
    from gantry.client.auth import credentials

    try:
        name = credentials(config, str(server)).get("username")
    except ClientError:  # an unusable credential helper is no fact about the daemon
        return
    if name:
        yield f" Username: {name}"


def _registries(config: Mapping[str, Any]) -> Iterator[str]:
    indexes = config.get("IndexConfigs") or {}
    insecure = [name for name in sorted(indexes) if not indexes[name].get("Secure")]
    yield from _list(" Insecure Registries:", [*insecure, *(config.get("InsecureRegistryCIDRs") or ())])
    yield from _list(" Registry Mirrors:", config.get("Mirrors"))


COMMAND = Command(_run, "[OPTIONS]", (inspect_format_flag(),), most=0)
