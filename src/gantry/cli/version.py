"""`gantry version`, and what the client says of itself."""

from __future__ import annotations

import os
import sys

from gantry import API_VERSION, __version__
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.opts import inspect_format_flag
from gantry.cli.tabwriter import align
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gantry.cli.flags import Arguments

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "i386": "386", "armv7l": "arm"}
_ENGINE = (
    ("API version", "ApiVersion"),
    ("Go version", "GoVersion"),
    ("Git commit", "GitCommit"),
    ("Built", "BuildTime"),
    ("OS/Arch", "Os"),
    ("Experimental", "Experimental"),
)


def client_info(ctx: Context, api_version: str = "") -> dict[str, Any]:
    """The client's half of `version`."""
    from gantry.client.endpoints import current_context

    machine = os.uname().machine
    return {
        "Version": __version__,
        "ApiVersion": api_version or API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": "python" + sys.version.partition(" ")[0],
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine, machine),
        "BuildTime": "",
        "Context": current_context(ctx.flags, ctx.environ, ctx.config),
    }


def _run(ctx: Context, args: Arguments) -> int:
    from gantry.cli.format import parse, render_one

    text = args.string("format")
    template = None
    if text:
        template = parse("{{json .}}" if text == "json" else text, status=64, name="version")
    problem, server, spoken = "", None, ""
    try:
        server = ctx.client.get("/version")
        _reformat(server)
        spoken = ctx.client.api_version
    except ClientError as error:
        problem = error.message
    document = {"Client": client_info(ctx, spoken), "Server": server}
    if template is None:
        ctx.out.write(render(document))
    else:
        from gantry.cli.gotemplate_values import typed

        render_one(ctx, template, typed(document, "system.versionInfo"))
    if problem:
        raise CommandError(problem)
    return 0


def render(document: Mapping[str, Any]) -> str:
    """The versions as text, in two aligned columns."""
    client, server = document["Client"], document["Server"]
    default = client["DefaultAPIVersion"]
    downgraded = f" (downgraded from {default})" if client["ApiVersion"] != default else ""
    rows = [
        ("Version", client["Version"]),
        ("API version", client["ApiVersion"] + downgraded),
        (_language(client["GoVersion"]), client["GoVersion"]),
        ("Git commit", client["GitCommit"]),
        ("Built", client["BuildTime"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
        ("Context", client["Context"]),
    ]
    lines = ["Client:", *(f" {name}:\t{text}" for name, text in rows if text)]
    if server:
        platform = (server.get("Platform") or {}).get("Name") or ""
        lines += ["", f"Server: {platform}".rstrip()]
        for component in server.get("Components") or (_engine(server),):
            lines += [f" {component['Name']}:", f"  Version:\t{component['Version']}", *_details(component)]
    return align("\n".join(lines) + "\n", least=20, padding=1)


def _engine(server: Mapping[str, Any]) -> dict[str, Any]:
    """The engine as a component, for a daemon that lists none."""
    details = {key: str(value) for key, value in server.items() if isinstance(value, (str, bool))}
    return {"Name": "Engine", "Version": server.get("Version") or "", "Details": details}


def _details(component: Mapping[str, Any]) -> list[str]:
    details = component.get("Details") or {}
    if component["Name"] != "Engine":
        return [f"  {key}:\t{details[key]}" for key in sorted(details)]
    lines = []
    for name, key in _ENGINE:
        text = str(details.get(key) or "")
        if key == "ApiVersion":
            text += f" (minimum version {details.get('MinAPIVersion')})"
        elif key == "GoVersion":
            name = _language(text)
        elif key == "Os":
            text += f"/{details.get('Arch')}"
        if text:
            lines.append(f"  {name}:\t{text}")
    return lines


def _language(version: str) -> str:
    return "Python version" if version.startswith("python") else "Go version"


def _reformat(server: Mapping[str, Any]) -> None:
    """The engine's time of building as "Mon Jan  2 15:04:05 2006"."""
    for component in server.get("Components") or ():
        details = component.get("Details") or {}
        if component.get("Name") == "Engine" and "T" in str(details.get("BuildTime")):
            from gantry.cli.gotemplate_time import format_time

            details["BuildTime"] = format_time(details["BuildTime"], "Mon Jan _2 15:04:05 2006")


COMMAND = Command(_run, "[OPTIONS]", (inspect_format_flag(),), most=0)
