"""Debian's docker-registry (the open-source Distribution), unpacked from its package and never installed."""

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from lib.daemon import PROJECT

_CACHE = PROJECT / ".cache/docker-registry"


def program() -> str:
    """Its path; skips, loudly, where it is not here and cannot be fetched."""
    if found := shutil.which("docker-registry"):
        return found
    binary = _CACHE / "usr/bin/docker-registry"
    if not binary.exists():
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            directory = Path(name)
            directory.chmod(0o755)
            fetched = subprocess.run(
                ["apt-get", "download", "docker-registry"], cwd=directory, capture_output=True, text=True, check=False
            )
            packages = list(directory.glob("*.deb"))
            if fetched.returncode or not packages:
                pytest.skip(f"Debian's docker-registry cannot be fetched: {fetched.stderr.strip()[-200:]}")
            subprocess.run(["dpkg-deb", "-x", packages[0], directory / "root"], check=True)
            _CACHE.parent.mkdir(exist_ok=True)
            shutil.copytree(directory / "root", _CACHE, symlinks=True, dirs_exist_ok=True)
    return str(binary)


class DebianRegistry:
    """One registry on a free port of 127.0.0.1, with its data in `directory`; `http` and `more` are YAML."""

    def __init__(self, directory: Path, *, http: str = "", more: str = "") -> None:
        directory.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._configuration = directory / "config.yml"
        self._configuration.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {directory / 'data'}}}, delete: {{enabled: true}}}}\n"
            f'http: {{addr: "127.0.0.1:{self.port}"{http}}}\n{more}\n'
        )
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program(), "serve", self._configuration], stdout=log, stderr=log)
        for _ in range(500):
            assert self._process.poll() is None, self._log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError(f"docker-registry does not answer: {self._log.read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
