"""The engines that are measured: a gantryd of the benchmark's own, and a Docker daemon that is there already."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
IMAGE = "bench/busybox"


class Engine:
    """One engine with its own client."""

    name = ""
    program = ""

    def __init__(self, host: str, scratch: Path) -> None:
        self.archive = scratch / "load.tar"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "GANTRY_"))}
        self.environment |= {"DOCKER_HOST": host, "DOCKER_CONFIG": str(scratch / "config"), "GANTRY_AUTOSTART": "0"}
        self._scratch = scratch

    def command(self, *arguments: str, data: bytes | None = None) -> str:
        done = subprocess.run(
            [self.program, *arguments], env=self.environment, input=data, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {arguments}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    def prepare(self, *, with_archive: bool) -> None:
        """Make the images that the cases use, the same for every engine."""
        root = self._scratch / "root"
        if not root.exists():
            (root / "bin").mkdir(parents=True)
            shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
            for applet in ("sh", "true", "echo", "sleep"):
                (root / "bin" / applet).symlink_to("busybox")
        tar = subprocess.run(["tar", "-C", str(root), "-c", "."], capture_output=True, check=True).stdout
        self.command("import", "-", IMAGE, data=tar)
        if with_archive and not self.archive.exists():
            big = self._scratch / "big"
            for number in range(95):
                (big / f"d{number}").mkdir(parents=True)
                for file in range(100):
                    (big / f"d{number}" / f"f{file}").write_bytes(os.urandom(19_000))
            shutil.copytree(root / "bin", big / "bin", symlinks=True)
            made = subprocess.run(["tar", "-C", str(big), "-c", "."], capture_output=True, check=True).stdout
            self.command("import", "-", "bench/load", data=made)
            self.command("save", "-o", str(self.archive), "bench/load")
            shutil.rmtree(big)

    def describe(self) -> str:
        return self.command("version", "--format", "{{.Server.Version}}").strip()

    def close(self) -> None:
        for image in (IMAGE, "bench/load"):
            subprocess.run([self.program, "rmi", "-f", image], env=self.environment, capture_output=True, check=False)


class Gantry(Engine):
    """A gantryd on directories of the benchmark's own."""

    name = "gantry"
    program = str(BIN / "gantry")

    def __init__(self, scratch: Path) -> None:
        self._socket = scratch / "gantry.sock"
        super().__init__(f"unix://{self._socket}", scratch)
        configuration = scratch / "daemon.json"
        configuration.write_text("{}")
        with (scratch / "gantryd.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(BIN / "gantryd"), "--host", f"unix://{self._socket}", "--data-root", str(scratch / "data"),
                    "--exec-root", str(scratch / "run"), "--pidfile", str(scratch / "pid"),
                    "--config-file", str(configuration),
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((scratch / "gantryd.log").read_text())
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
            except OSError:
                return False
            return True

    def close(self) -> None:
        super().close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Peer(Engine):
    """A Docker daemon with the official client."""

    name = "docker"

    @classmethod
    def find(cls, host: str, scratch: Path) -> "Peer | None":
        """None where no daemon answers or there is no client."""
        cls.program = shutil.which("docker") or ""
        chosen = host or "unix:///var/run/docker.sock"
        if not cls.program or (not host and not Path("/var/run/docker.sock").exists()):
            return None
        peer = cls(chosen, scratch)
        try:
            peer.describe()
        except RuntimeError:
            return None
        return peer


def _resident(pid: int) -> float:
    """Megabytes of one process that are its own (private pages)."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            total += int(line.split()[1])
    return total / 1024


def daemon_memory(engine: Gantry) -> dict[str, float]:
    """The daemon at rest, and what each of ten running containers adds in all processes of ours."""
    before = _resident(engine.process.pid)
    ids = [engine.command("run", "-d", IMAGE, "sleep", "600").strip() for _ in range(10)]
    monitors = subprocess.run(["pgrep", "conmon"], capture_output=True, text=True, check=False).stdout.split()
    own = [int(pid) for pid in monitors if any(i in _cmdline(pid) for i in ids)]
    after = _resident(engine.process.pid)
    added = (after - before + sum(_resident(pid) for pid in own)) / len(ids)
    engine.command("rm", "-f", *ids)
    return {"rest": before, "per container": added}


def _cmdline(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
