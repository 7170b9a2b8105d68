"""Registry credentials of config.json: `auths`, `credHelpers` and `credsStore` (docker-credential-* programs)."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from typing import Any

from gantry.client.errors import ClientError

DOCKER_HUB = "https://index.docker.io/v1/"


class CredentialError(ClientError):
    """A credential helper failed."""


def config_key(registry: str) -> str:
    """Where config.json keeps the credentials of a registry's host name."""
    return DOCKER_HUB if registry in ("docker.io", "index.docker.io", "registry-1.docker.io") else registry


def credentials(config: Mapping[str, Any], registry: str) -> dict[str, str]:
    """AuthConfig of a registry: username, password, identitytoken, serveraddress; {} where there is none."""
    key = config_key(registry)
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper:
        return _from_helper(str(helper), key)
    for name, entry in (config.get("auths") or {}).items():
        if name == key or _host(name) == _host(key):
            return _from_entry(entry or {}, key)
    return {}


def header(config: Mapping[str, Any], registry: str) -> str:
    """The value of X-Registry-Auth."""
    return base64.urlsafe_b64encode(json.dumps(credentials(config, registry)).encode()).decode()


def all_header(config: Mapping[str, Any]) -> str:
    """The value of X-Registry-Config, which a build gets: credentials by registry."""
    found = {
        key: credentials(config, key) for key in {*(config.get("auths") or {}), *(config.get("credHelpers") or {})}
    }
    return base64.urlsafe_b64encode(json.dumps({key: auth for key, auth in found.items() if auth}).encode()).decode()


def _host(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _from_entry(entry: Mapping[str, Any], key: str) -> dict[str, str]:
    result = {"serveraddress": key}
    if entry.get("identitytoken"):
        result["identitytoken"] = str(entry["identitytoken"])
    try:
        username, colon, password = (
            base64.b64decode(str(entry.get("auth") or ""), validate=True).decode().partition(":")
        )
    except ValueError as error:
        raise CredentialError(f"invalid auth entry of {key} in config.json: {error}") from error
    if colon:
        result["username"], result["password"] = username, password.rstrip("\0")
    return result if len(result) > 1 else {}


def _from_helper(helper: str, key: str) -> dict[str, str]:
    program = f"docker-credential-{helper}"
    try:
        answer = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CredentialError(f"error getting credentials - {program}: {error}") from error
    if answer.returncode:
        if b"credentials not found" in answer.stdout:
            return {}
        words = (answer.stdout or answer.stderr).decode("utf-8", "replace").strip()
        raise CredentialError(f"error getting credentials - err: exit status {answer.returncode}, out: `{words}`")
    try:
        found = json.loads(answer.stdout)
    except ValueError as error:
        raise CredentialError(f"error getting credentials - {program} did not answer in JSON: {error}") from error
    name, secret = str(found.get("Username") or ""), str(found.get("Secret") or "")
    if name == "<token>":
        return {"serveraddress": key, "identitytoken": secret}
    return {"serveraddress": key, "username": name, "password": secret} if name else {}
