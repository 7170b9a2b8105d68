"""Which engines stand beside Gantry: those of shared/tools/peers, else those on this machine."""

import os
import shutil
import subprocess
from pathlib import Path

from bench import registry
from bench.engines import PROJECT, Crun, Docker, Engine, Gantry, GantryThroughDocker, Podman, official_client
from bench.model import Failed

KINDS = ("docker", "podman", "crun")


def peers_tool() -> Path | None:
    """A script that keeps real engines apart from the machine (`start`, `run CMD`); None where there is none."""
    tool = Path(os.environ.get("GANTRY_PEERS") or PROJECT.parent / "shared/tools/peers")
    return tool if os.access(tool, os.X_OK) else None


class Contestants:
    """Gantry first, then its peers; `absent` says why a wanted one is not there."""

    def __init__(self, scratch: Path, root: Path, wanted: tuple[str, ...]) -> None:
        self.engines: list[Engine] = []
        self.absent: dict[str, str] = {}
        self.tool = peers_tool() if {"docker", "podman"} & set(wanted) else None
        try:
            self._gather(scratch, root, wanted)
        except BaseException:
            self.close()
            raise

    def _gather(self, scratch: Path, root: Path, wanted: tuple[str, ...]) -> None:
        enter, host, api, address = self._enter()
        gantry = Gantry(scratch, "gantry", "--insecure-registry", f"{address}:{registry.PORT}")
        self.engines.append(gantry)
        if client := official_client():
            self.engines.append(GantryThroughDocker(gantry, scratch, client))
        else:
            self.absent["gantry+docker"] = "no official docker client: scripts/setup --dev fetches one"
        for kind in wanted:
            try:
                if kind == "crun":
                    self.engines.append(Crun(scratch, root))
                elif not enter and not shutil.which(kind):
                    self.absent[kind] = "not on this machine"
                elif kind == "docker":
                    self.engines.append(Docker(enter, host, api, scratch, address))
                else:
                    self.engines.append(Podman(enter, address))
            except (Failed, OSError) as error:
                self.absent[kind] = str(error)

    def _enter(self) -> tuple[list[str], str, str, str]:
        """How commands reach the peers: a prefix, Docker's host there, its socket here, and their address."""
        if self.tool is None:
            return [], "", "/var/run/docker.sock", "127.0.0.1"
        started = subprocess.run([self.tool, "start"], capture_output=True, text=True, check=False)
        if started.returncode:
            self.absent["docker"] = self.absent["podman"] = started.stderr.strip()
            self.tool = None
            return [], "", "/var/run/docker.sock", "127.0.0.1"
        api = started.stdout.strip().rpartition("unix://")[2]
        enter = [str(self.tool), "run"]
        shown = subprocess.run(
            [*enter, "ip", "-o", "-4", "addr", "show", "dev", "eth0"], capture_output=True, text=True, check=False
        )
        address = (
            shown.stdout.split("inet ", 1)[-1].split("/", 1)[0].strip() if "inet " in shown.stdout else "127.0.0.1"
        )
        inside = subprocess.run([*enter, "printenv", "DOCKER_HOST"], capture_output=True, text=True, check=False)
        return enter, inside.stdout.strip(), api, address

    def close(self) -> None:
        """Take away what was made on each, Gantry's own daemon last."""
        problems: list[Exception] = []
        for engine in reversed(self.engines):
            try:
                engine.close()
            except (Failed, OSError, subprocess.SubprocessError) as error:
                problems.append(error)
        self.engines.clear()
        if problems:
            raise ExceptionGroup("not everything could be taken away", problems)
