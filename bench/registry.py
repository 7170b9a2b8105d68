"""A registry beside the engines for pull and push: Debian's docker-registry where the peers are, else Gantry's own."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from bench.engines import BIN, Engine
from bench.model import Failed, Skip, Surroundings
from bench.shell import Shell

PORT = 5151
_CONFIGURATION = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}/registry}}, delete: {{enabled: true}}}}
http: {{addr: "0.0.0.0:{port}"}}
"""


class Registry:
    """An empty registry; `with` ends it. Raises Skip where no registry server can be started."""

    def __init__(self, here: Surroundings) -> None:
        self._address = next((one.address for one in here.contestants if one.kind == "docker"), "127.0.0.1")
        self._server: subprocess.Popen[bytes] | None = None
        self._shell: Shell | None = None
        self._pid = 0
        try:
            if here.peers is not None:
                self._shell = Shell([str(here.peers), "run"], {})
                self._start_debian(self._shell)
            else:
                self._address = "127.0.0.1"
                self._start_own(here.scratch)
            self._wait()
        except BaseException:
            self.close()
            raise

    def _start_debian(self, shell: Shell) -> None:
        text = _CONFIGURATION.format(directory=shell.directory, port=PORT)
        shell.run(f"printf %s {shlex.quote(text)} >{shell.directory}/registry.yml")
        self._pid = shell.background(f"docker-registry serve {shell.directory}/registry.yml")

    def _start_own(self, scratch: Path) -> None:
        program = BIN / "gantry"
        probe = subprocess.run([program, "registry", "serve", "--help"], capture_output=True, text=True, check=False)
        if probe.returncode:
            raise Skip(f"no registry server: {probe.stderr.strip().splitlines()[0] if probe.stderr.strip() else ''}")
        root = scratch / f"registry-{time.monotonic_ns()}"
        root.mkdir()
        self._server = subprocess.Popen(
            [program, "registry", "serve", "--address", f"127.0.0.1:{PORT}", "--root", root],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _wait(self) -> None:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection((self._address, PORT), 1):
                return
            if self._server is not None and self._server.poll() is not None:
                raise Skip(f"gantry registry serve ended with status {self._server.returncode}")
            time.sleep(0.01)
        raise Failed(f"the registry at {self._address}:{PORT} does not answer")

    def host(self, engine: Engine) -> str:
        """The registry as the engine names it: on its own loopback address plain HTTP needs no permission."""
        inside = self._shell is not None and engine.kind in ("docker", "podman")
        return f"{'127.0.0.1' if inside else self._address}:{PORT}"

    def plain(self, engine: Engine) -> str:
        """The option that permits plain HTTP."""
        return "--tls-verify=false" if engine.kind == "podman" else ""

    def fill(self, archive: Path, repository: str) -> None:
        """Have the image of an archive."""
        if self._shell is None:
            raise Skip("no skopeo to fill the registry with: it is one of the peers")
        staged = self._shell.stage(archive, "image.tar")
        copy = f"skopeo copy -q --dest-tls-verify=false docker-archive:{staged}"
        self._shell.run(f"{copy} docker://127.0.0.1:{PORT}/{repository}:latest && rm -f {staged}")

    def close(self) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server.pid, signal.SIGTERM)
            self._server.wait(10)
        if self._shell is not None:
            if self._pid:
                self._shell.run(f"kill {self._pid}", check=False)
            self._shell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
