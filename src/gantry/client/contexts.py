"""Stored contexts, in Docker's layout: contexts/meta/<id>/meta.json and contexts/tls/<id>/<endpoint>/*.pem.

The id of a context is the SHA-256 of its name.
"""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from gantry.client import jsontext
from gantry.client.endpoints import Endpoint, TLSSettings
from gantry.client.errors import EndpointError

_TLS_FILES = ("ca.pem", "cert.pem", "key.pem")


def context_id(name: str) -> str:
    return sha256(name.encode()).hexdigest()


class ContextStore:
    """The contexts below a configuration directory. "default" is no stored context and never found here."""

    def __init__(self, config_dir: str) -> None:
        self._root = Path(config_dir) / "contexts"

    def _meta(self, name: str) -> Path:
        return self._root / "meta" / context_id(name) / "meta.json"

    def tls_dir(self, name: str) -> Path:
        return self._root / "tls" / context_id(name)

    def names(self) -> list[str]:
        """All stored names, sorted."""
        found = []
        for path in (self._root / "meta").glob("*/meta.json"):
            record = self._read(path)
            if isinstance(record.get("Name"), str):
                found.append(record["Name"])
        return sorted(found)

    def exists(self, name: str) -> bool:
        return self._meta(name).is_file()

    def load(self, name: str) -> dict[str, Any]:
        """meta.json: {"Name", "Metadata": {"Description"}, "Endpoints": {"docker": {"Host", "SkipTLSVerify"}}}."""
        path = self._meta(name)
        if not path.is_file():
            raise EndpointError(f'context "{name}": context not found: open {path}: no such file or directory')
        return self._read(path)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            record = jsontext.decode(path.read_bytes())
        except (OSError, ValueError) as error:
            raise EndpointError(f"context metadata {path}: {error}") from error
        if not isinstance(record, dict):
            raise EndpointError(f"context metadata {path}: not a JSON object")
        return record

    def save(self, record: dict[str, Any], tls: dict[str, dict[str, bytes]] | None = None) -> None:
        """Write a context; `tls` (endpoint -> file name -> content) replaces its keys, None leaves them."""
        name = str(record["Name"])
        path = self._meta(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.new")
        temporary.write_bytes(jsontext.encode(record))
        temporary.replace(path)
        if tls is None:
            return
        shutil.rmtree(self.tls_dir(name), ignore_errors=True)
        for endpoint, files in tls.items():
            directory = self.tls_dir(name) / endpoint
            directory.mkdir(parents=True, mode=0o700)
            for file, content in files.items():
                descriptor = os.open(directory / file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as out:
                    out.write(content)

    def remove(self, name: str) -> None:
        """Raises EndpointError where there is none."""
        self.load(name)
        shutil.rmtree(self._meta(name).parent)
        shutil.rmtree(self.tls_dir(name), ignore_errors=True)

    def tls_files(self, name: str) -> dict[str, list[str]]:
        """Names of the stored TLS files, by endpoint."""
        root = self.tls_dir(name)
        if not root.is_dir():
            return {}
        return {entry.name: sorted(file.name for file in entry.iterdir()) for entry in root.iterdir()}

    def endpoint(self, name: str) -> Endpoint:
        """The daemon that a context names."""
        try:
            record = self.load(name)
        except EndpointError as error:
            raise EndpointError(f"Failed to initialize: unable to resolve docker endpoint: {error.message}") from error
        docker = (record.get("Endpoints") or {}).get("docker") or {}
        directory = self.tls_dir(name) / "docker"
        files = [str(directory / file) if (directory / file).is_file() else "" for file in _TLS_FILES]
        tls = None
        if any(files) or docker.get("SkipTLSVerify"):
            tls = TLSSettings(files[0], files[1], files[2], verify=not docker.get("SkipTLSVerify"))
        host = str(docker.get("Host") or "")
        return Endpoint(host, tls) if host else Endpoint("unix:///var/run/docker.sock", default=True)
