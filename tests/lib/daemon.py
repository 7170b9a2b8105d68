"""Real daemons on directories of their own, and clients that talk to them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


class Client:
    """One command line program that speaks to one endpoint."""

    def __init__(self, program: str, host: str, config: Path) -> None:
        self.program = program
        self.host = host
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "GANTRY_"))
        }
        self._environment |= {"DOCKER_HOST": host, "DOCKER_CONFIG": str(config), "GANTRY_AUTOSTART": "0"}

    def run(
        self,
        *args: str,
        check: bool = True,
        stdin: str | bytes | None = None,
        timeout: float = 120,
        cwd: Path | None = None,
        **environment: str,
    ) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end; with `check`, anything but exit code 0 fails the test with what was printed."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [self.program, *args],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            env=self._environment | environment,
            check=False,
        )
        result = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and result.returncode:
            raise AssertionError(f"{args} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def out(self, *args: str, **options: object) -> str:
        """The standard output of one successful command, stripped."""
        return self.run(*args, **options).stdout.strip()  # type: ignore[arg-type]

    def start(self, *args: str, **popen: object) -> "subprocess.Popen[bytes]":
        """Start a command and leave it running; the caller ends it."""
        return subprocess.Popen([self.program, *args], env=self._environment, **popen)  # type: ignore[call-overload, no-any-return]


class Daemon:
    """A gantryd of the test's own: data, sockets and names apart from every other daemon's."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.data_root = directory / "data"
        self.exec_root = directory / "run"
        self.socket = directory / "gantry.sock"
        self.log = directory / "gantryd.log"
        self._options = options
        self.environment: dict[str, str] = {}
        self.prefix: tuple[str, ...] = ()  # a program that starts it, such as unshare(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers."""
        configuration = self.directory / "daemon.json"
        if not configuration.exists():
            configuration.write_text("{}")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self.prefix,
                    str(BIN / "gantryd"),
                    "--host", self.host,
                    "--data-root", str(self.data_root),
                    "--exec-root", str(self.exec_root),
                    "--pidfile", str(self.directory / "gantryd.pid"),
                    "--config-file", str(configuration),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | self.environment,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"gantryd ended with {self._process.returncode}:\n{self.log.read_text()}")
            if self._answers():
                return
            time.sleep(0.02)
        raise AssertionError(f"gantryd does not answer:\n{self.log.read_text()}")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
                return connection.recv(64).startswith(b"HTTP/1.1 200")
            except OSError:
                return False

    def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def died(self, seconds: float = 20) -> bool:
        """Wait until it was killed by SIGKILL; False where it goes on."""
        assert self._process is not None
        try:
            return self._process.wait(seconds) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def clean(self) -> None:
        """Stop it if it runs, and remove all that it stored."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def official_clients() -> Sequence[str]:
    """The official `docker` programs on this machine, Debian's first."""
    found = [PROJECT / ".cache/docker-client/docker"]
    if on_path := shutil.which("docker"):
        found.append(Path(on_path))
    return [str(path) for path in found if path.exists()]
