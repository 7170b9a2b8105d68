"""The contestants: a gantryd of the benchmark's own, Docker, Podman, and the bare OCI runtime."""

import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from bench.connection import Connection
from bench.model import Failed, Skip
from bench.shell import Completed, Shell

PROJECT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
LABEL = "gantry-bench"
_SO_PEERCRED = struct.Struct("3i")


class Engine:
    """One engine and the client that drives it. `api` is its socket's path, "" where it has none."""

    kind = ""
    name = ""
    address = "127.0.0.1"
    api = ""
    image = "docker.io/bench/busybox"
    has_images = True

    def __init__(self, shell: Shell, program: str) -> None:
        self.shell = shell
        self.program = program

    def run(self, command: str, *, check: bool = True, output: bool = True) -> Completed:
        """One command of the client, in shell syntax without the program's name."""
        return self.shell.run(f"{self.program} {command}", check=check, output=output)

    def time(self, command: str) -> float:
        """Milliseconds of one command of the client; its output is thrown away."""
        return self.run(command, output=False).seconds * 1000

    def output(self, command: str) -> str:
        return self.run(command).output.strip()

    def start(self, options: str = "", command: str = "sleep 3600") -> str:
        """A running container in the background; returns its id."""
        return self.output(f"run -d --label {LABEL} {options} {self.image} {command}")

    def remove(self, *containers: str) -> None:
        if containers:
            self.run(f"rm -f {' '.join(containers)}", check=False)

    def load(self, archive: Path) -> None:
        """Have the image of an archive, however long it takes."""
        staged = self.shell.stage(archive, archive.name)
        self.run(f"load -i {staged}")
        self.shell.run(f"rm -f {staged}")

    def describe(self) -> dict[str, str]:
        """Versions for the report."""
        return {"server": self.output("version --format '{{.Server.Version}}'")}

    def connect(self) -> Connection:
        if not self.api:
            raise Skip("no API socket")
        return Connection(self.api)

    def daemon_pid(self) -> int:
        """The process that listens on the API socket, as this process sees it; 0 where there is none."""
        if not self.api:
            return 0
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.api)
            pid: int = _SO_PEERCRED.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _SO_PEERCRED.size)
            )[0]
        return pid

    def close(self) -> None:
        """Remove all that the benchmark made on this engine."""
        try:
            left = self.run(f"ps -aq --filter label={LABEL}", check=False).output.split()
            self.remove(*left)
            for kind in ("network", "volume"):
                names = self.run(f"{kind} ls -q --filter label={LABEL}", check=False).output.split()
                if names:
                    self.run(f"{kind} rm {' '.join(names)}", check=False)
            images = self.run("images --format '{{.Repository}}:{{.Tag}}'", check=False).output.split()
            if ours := [name for name in images if "bench/" in name and "<none>" not in name]:
                self.run(f"rmi -f {' '.join(ours)}", check=False)
        finally:
            self.shell.close()


class Gantry(Engine):
    """A gantryd on directories of the benchmark's own."""

    kind = "gantry"
    name = "gantry"

    def __init__(self, scratch: Path, directory: str = "gantry", *options: str) -> None:
        self.root = scratch / directory
        self.root.mkdir()
        # Where a daemon's runtime files are on an ordinary machine: in memory.
        self.exec_root = Path(tempfile.mkdtemp(prefix="gb-", dir="/run"))
        self._options = options
        self.api = str(self.root / "gantry.sock")
        (self.root / "daemon.json").write_text("{}")
        self.process: subprocess.Popen[bytes] | None = None
        self.boot()
        try:
            super().__init__(Shell([], self.environment(scratch)), shlex.quote(str(BIN / "gantry")))
        except BaseException:
            self.halt()
            raise

    def environment(self, scratch: Path) -> dict[str, str]:
        return {
            "DOCKER_HOST": f"unix://{self.api}", "DOCKER_CONFIG": str(scratch / "config"), "GANTRY_AUTOSTART": "0",
            "DOCKER_BUILDKIT": "0",
        }  # fmt: skip

    def boot(self) -> float:
        """Start the daemon; returns the seconds until it answered."""
        began = time.perf_counter()
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(BIN / "gantryd"), "--host", f"unix://{self.api}", "--data-root", str(self.root / "data"),
                    "--exec-root", str(self.exec_root), "--pidfile", str(self.root / "pid"),
                    "--config-file", str(self.root / "daemon.json"), *self._options,
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        while not self.answers():
            if time.perf_counter() - began > 60 or self.process.poll() is not None:
                raise Failed("gantryd does not answer: " + (self.root / "log").read_text()[-2000:])
            time.sleep(0.002)
        return time.perf_counter() - began

    def answers(self) -> bool:
        try:
            with Connection(self.api) as connection:
                return connection.request("GET", "/_ping").status == 200
        except OSError:
            return False

    def halt(self, sign: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(60)
            self.process = None

    def daemon_pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.halt()
            shutil.rmtree(self.root, ignore_errors=True)
            shutil.rmtree(self.exec_root, ignore_errors=True)


class GantryThroughDocker(Engine):
    """The same gantryd, driven by the official client."""

    kind = "gantry"
    name = "gantry+docker"

    def __init__(self, gantry: Gantry, scratch: Path, program: str) -> None:
        super().__init__(Shell([], gantry.environment(scratch)), shlex.quote(program))
        self.api = gantry.api
        self._gantry = gantry

    def daemon_pid(self) -> int:
        return self._gantry.daemon_pid()

    def describe(self) -> dict[str, str]:
        return {"client": self.output("version --format '{{.Client.Version}}'")}

    def close(self) -> None:
        self.shell.close()


class Docker(Engine):
    """A Docker daemon that is there already, with its own client."""

    kind = "docker"
    name = "docker"

    def __init__(self, enter: list[str], host: str, api: str, scratch: Path, address: str = "127.0.0.1") -> None:
        self.api = api
        self.address = address
        here = {"DOCKER_HOST": host} if host else {}
        super().__init__(Shell(enter, here | {"DOCKER_CONFIG": str(scratch / "config")}), "docker")
        self._cache = self._build_cache()

    def _build_cache(self) -> set[str]:
        with self.connect() as connection:
            answer = connection.request("GET", "/system/df?type=build-cache")
        return {entry["ID"] for entry in json.loads(answer.body or b"{}").get("BuildCache") or ()}

    def close(self) -> None:
        try:
            with self.connect() as connection:
                for entry in self._build_cache() - self._cache:
                    connection.request("POST", "/build/prune?all=1&filters=" + quote(json.dumps({"id": [entry]})))
        finally:
            super().close()


class Podman(Engine):
    kind = "podman"
    name = "podman"

    def __init__(self, enter: list[str], address: str = "127.0.0.1") -> None:
        self.address = address
        super().__init__(Shell(enter, {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}), "podman")

    def describe(self) -> dict[str, str]:
        return {"client": self.output("version --format '{{.Client.Version}}'")}


class Crun(Engine):
    """The floor: the runtime alone on a bundle that is ready, with namespaces and no network set up."""

    kind = "crun"
    name = "crun"
    has_images = False

    def __init__(self, scratch: Path, root: Path) -> None:
        # crun refuses a machine with both versions of cgroups mounted; what it sees is its own.
        enter = ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh"]
        state = scratch / "crun-state"
        self._bundle = scratch / "crun"
        self._bundle.mkdir()
        super().__init__(Shell(enter, {}), f"crun --root {state} --cgroup-manager=cgroupfs")
        (self._bundle / "rootfs").symlink_to(root)
        self.shell.run(f"cd {self._bundle} && crun spec && cd /")
        document = json.loads((self._bundle / "config.json").read_text())
        document["process"] |= {"terminal": False, "args": ["true"], "env": ["PATH=/bin"]}
        document["root"] = {"path": str(root), "readonly": False}
        (self._bundle / "config.json").write_text(json.dumps(document))

    def run_bundle(self) -> float:
        return self.time(f"run --bundle {self._bundle} gantry-bench-{os.getpid()}")

    def describe(self) -> dict[str, str]:
        return {"runtime": self.shell.run("crun --version").output.splitlines()[0]}

    def close(self) -> None:
        self.shell.close()


def official_client() -> str:
    """The official docker client for Gantry's own socket, "" where there is none."""
    cached = PROJECT / ".cache/docker-client/docker"
    return str(cached) if cached.exists() else shutil.which("docker") or ""
