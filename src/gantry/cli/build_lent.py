"""What `gantry build` lends to a build: named contexts, secrets, and the socket of an SSH agent."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from gantry.cli.build import Lent
from gantry.cli.build_context import BuildContext, ignore_patterns
from gantry.cli.build_source import is_remote
from gantry.cli.command import Context
from gantry.cli.errors import CommandError
from gantry.client.jsontext import encode_text

_IMAGE, _LAYOUT = "docker-image://", "oci-layout://"
_SECRET_LIMIT = 500 << 10
_PREFIX = ".gantry-context-"


def prepare(ctx: Context, contexts: list[str], secrets: list[str], agents: list[str]) -> Lent:
    """Read what the flags name, and leave the secrets with the daemon. Raises CommandError."""
    query: dict[str, str] = {}
    directories: list[BuildContext] = []
    if contexts:
        query["contexts"] = encode_text(_contexts(contexts, directories))
    if agents:
        query["ssh"] = encode_text(_agents(ctx, agents))
    if secrets:
        values = {name: base64.b64encode(value).decode() for name, value in map(_secret, secrets)}
        query["secrets"] = ctx.client.post("/_gantry/build/secrets", body=values)["ID"]
    return Lent(query, directories)


def _contexts(texts: list[str], directories: list[BuildContext]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals or not name or not source:
            raise CommandError(f"invalid context value: {text}, expected key=value")
        if source.startswith(_LAYOUT):
            raise CommandError(f"context {name}: an OCI layout cannot be a context yet: load it, and name the image")
        if source.startswith(_IMAGE) or is_remote(source):
            found[name] = source
            continue
        root = Path(source)
        if not root.is_dir():
            raise CommandError(f"failed to get build context {name}: stat {source}: no such directory")
        found[name] = f"context:{len(directories)}"
        patterns = ignore_patterns(root, None, "")
        directories.append(BuildContext(root.resolve(), patterns, {}, f"{_PREFIX}{len(directories)}"))
    return found


def _secret(text: str) -> tuple[str, bytes]:
    """(id, value) of `id=ID[,src=PATH][,env=NAME][,type=file|env]`."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise CommandError(f"invalid field '{part}' must be a key=value pair")
        key = {"src": "source"}.get(key.lower(), key.lower())
        if key not in ("id", "source", "env", "type"):
            raise CommandError(f"unexpected key '{key}' in '{part}'")
        fields[key] = value
    kind, name = fields.get("type", ""), fields.get("id", "")
    if kind not in ("", "file", "env"):
        raise CommandError(f'unsupported secret type "{kind}"')
    source, variable = fields.get("source", ""), fields.get("env", "")
    if kind == "env" and not variable:
        source, variable = "", source
    if not source and not variable:
        source, variable = ("", name) if name in os.environ else (name, "")
    if variable:
        return name or variable, os.environ.get(variable, "").encode("utf-8", "surrogateescape")
    try:
        with open(source, "rb") as file:
            content = file.read(_SECRET_LIMIT + 1)
    except OSError as error:
        raise CommandError(f"failed to stat {source}: {os.strerror(error.errno or 0).lower()}") from error
    if len(content) > _SECRET_LIMIT:
        raise CommandError(f"secret {name or source}: invalid secret size, max 500KB")
    return name or source, content


def _agents(ctx: Context, texts: list[str]) -> dict[str, str]:
    """Sockets by id. The daemon mounts them itself, so it must be this machine's."""
    if ctx.client.endpoint.scheme != "unix":
        raise CommandError("--ssh lends a socket of this machine: the daemon must be on it too")
    found: dict[str, str] = {}
    for text in texts:
        name, _, socket = text.partition("=")
        socket = socket or os.environ.get("SSH_AUTH_SOCK", "")
        if not socket:
            raise CommandError("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
        try:
            is_socket = stat.S_ISSOCK(os.stat(socket).st_mode)
        except OSError as error:
            raise CommandError(f"failed to stat {socket}: {os.strerror(error.errno or 0).lower()}") from error
        if not is_socket:
            raise CommandError(f"--ssh {text}: a key file cannot be lent: add it to an agent with ssh-add")
        found[name or "default"] = str(Path(socket).resolve())
    return found
