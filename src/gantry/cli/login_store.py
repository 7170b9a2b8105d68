"""Keeping registry credentials: config.json, or the credential helper that it names."""

from __future__ import annotations

import base64
import json
import subprocess

from gantry.cli.errors import CommandError
from gantry.client import config as configs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_NOTICE = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""


def helper_of(config: Mapping[str, Any], key: str) -> str:
    """The credential helper for a registry, "" where config.json itself keeps its credentials."""
    return str((config.get("credHelpers") or {}).get(key) or config.get("credsStore") or "")


def default_helper(config: Mapping[str, Any]) -> str:
    """The helper of this machine for a configuration that keeps no credentials yet, "" where there is none installed.

    `pass` goes before the desktop's secret service, as with Docker's client.
    """
    from shutil import which

    if config.get("auths") or config.get("credHelpers") or config.get("credsStore"):
        return ""
    name = "pass" if which("pass") else "secretservice"
    return name if which(f"docker-credential-{name}") else ""


def store(config_dir: str, config: dict[str, Any], key: str, auth: Mapping[str, str]) -> str:
    """Keep credentials; returns a notice for the user, "" for none. Raises CommandError."""
    if found := default_helper(config):
        config = {**config, "credsStore": found}
    helper = helper_of(config, key)
    token = auth.get("identitytoken", "")
    if helper:
        name = "<token>" if token else auth.get("username", "")
        secret = token or auth.get("password", "")
        _call(helper, "store", json.dumps({"ServerURL": key, "Username": name, "Secret": secret}))
        entry: dict[str, str] = {}
    else:
        pair = f"{auth.get('username', '')}:{'' if token else auth.get('password', '')}"
        entry = {"auth": base64.b64encode(pair.encode()).decode()}
        if token:
            entry["identitytoken"] = token
    auths = {**(config.get("auths") or {}), key: entry}
    configs.save(config_dir, {**config, "auths": auths})
    return "" if helper else _NOTICE.format(configs.path(config_dir))


def erase(config_dir: str, config: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Forget credentials under any of `keys`; raises CommandError."""
    helper = helper_of(config, keys[0])
    if helper:
        _call(helper, "erase", keys[0])
    auths = config.get("auths") or {}
    kept = {key: entry for key, entry in auths.items() if key not in keys}
    if kept != auths:
        configs.save(config_dir, {**config, "auths": kept})


def _call(helper: str, action: str, text: str) -> None:
    program = f"docker-credential-{helper}"
    try:
        answer = subprocess.run([program, action], input=text.encode(), capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"error storing credentials - {program}: {error}") from error
    if answer.returncode and not (action == "erase" and b"credentials not found" in answer.stdout):
        words = (answer.stdout or answer.stderr).decode("utf-8", "replace").strip()
        raise CommandError(f"error storing credentials - err: exit status {answer.returncode}, out: `{words}`")
