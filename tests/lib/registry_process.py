"""`gantry registry serve` as a process of the test's own."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from lib.daemon import BIN


class RegistryProcess:
    """A registry with its data in `directory`, at `address` (a free port of it); `with` ends it."""

    def __init__(self, directory: Path, address: str = "127.0.0.1", more: str = "") -> None:
        with socket.create_server((address, 0)) as probe:
            self.port = probe.getsockname()[1]
        self.host = f"{address}:{self.port}"
        self.address = address
        self.log = directory / "registry.log"
        self.configuration = directory / "config.yaml"
        self.configuration.write_text(
            f"version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {directory / 'data'}}}, delete: {{enabled: true}}}}\n"
            f"{more or 'http: {}'}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
        environment["REGISTRY_HTTP_ADDR"] = self.host
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "gantry", "registry", "serve", "--config", self.configuration],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"the registry ended with {self._process.returncode}:\n{self.log.read_text()}")
            try:
                socket.create_connection((self.address, self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"the registry does not answer:\n{self.log.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
