"""`gantry registry serve` and `check`: this process becomes the registry server's program."""

from __future__ import annotations

import os
import sys

from gantry.cli.command import Command, Context
from gantry.cli.flags import string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gantry.cli.flags import Arguments


def _become(command: str, args: Arguments) -> int:
    words = [sys.executable, "-m", "gantry.daemon.registry", command]
    if path := args.string("config"):
        words += ["--config", path]
    environment = dict(os.environ)
    for flag, variable in (("address", "REGISTRY_HTTP_ADDR"), ("root", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY")):
        if flag in args.changed:
            environment[variable] = args.string(flag)
    sys.stdout.flush()
    os.execve(sys.executable, words, environment)  # noqa: S606 - the interpreter that runs us


def _serve(_: Context, args: Arguments) -> int:
    return _become("serve", args)


def _check(_: Context, args: Arguments) -> int:
    return _become("check", args)


_CONFIG = string("config", "", "Configuration file, in the format of Distribution (default: 127.0.0.1:5000, no login)")

SERVE = Command(
    _serve,
    "[OPTIONS]",
    (
        string("address", "", "Where to listen, as http.addr: host:port, or :port for every address"),
        _CONFIG,
        string("root", "", "Where the data is kept, as storage.filesystem.rootdirectory"),
    ),
    most=0,
    description=(
        "Serve a registry in the foreground until SIGTERM or SIGINT.\n"
        "Environment variables named REGISTRY_… override the file: REGISTRY_HTTP_ADDR is http.addr."
    ),
)
CHECK = Command(_check, "[OPTIONS]", (_CONFIG,), most=0)
