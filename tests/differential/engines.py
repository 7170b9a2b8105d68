"""The two engines: a gantryd of the run's own, and a Docker daemon that is there already."""

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from lib.daemon import PROJECT, Client, Daemon, official_clients
from lib.engine_api import UnixConnection, busybox_tar

_CHANGES = (
    'CMD ["sh"]',
    "ENV KIND=base",
    "LABEL origin=base",
    "VOLUME /kept",
)


class Engine:
    """One engine as the scenarios see it; `host` is a unix socket."""

    def __init__(self, name: str, program: str, host: str, config: Path) -> None:
        self.name = name
        self.host = host
        self.socket = Path(urlsplit(host).path)
        self.client = Client(program, host, config)
        self.root = self.client.out("info", "-f", "{{.DockerRootDir}}")
        self.image = f"differential-{secrets.token_hex(4)}"
        self.rich = f"{self.image}-rich"

    def prepare(self) -> None:
        """Import the two images of the scenarios: `@image` has a command alone, `@rich` what images can have."""
        root = busybox_tar()
        for image, changes in ((self.image, _CHANGES[:1]), (self.rich, _CHANGES)):
            arguments = [word for change in changes for word in ("-c", change)]
            self.client.run("import", *arguments, "-", image, stdin=root)

    def clean(self, prefix: str) -> None:
        """Remove whatever has the prefix in its name: a scenario's containers, volumes, networks and images."""
        for noun, listing, removal in (
            ("container", ("ps", "-aq", "--filter", f"name={prefix}"), ("rm", "-f", "-v")),
            ("volume", ("volume", "ls", "-q", "--filter", f"name={prefix}"), ("volume", "rm", "-f")),
            ("network", ("network", "ls", "-q", "--filter", f"name={prefix}"), ("network", "rm")),
            ("image", ("images", "-q", "--filter", f"reference={prefix}*"), ("rmi", "-f")),
        ):
            if found := self.client.out(*listing).split():
                done = self.client.run(*removal, *found, check=False)
                if done.returncode and noun == "container":
                    raise RuntimeError(f"{self.name}: {done.stderr}")

    def close(self) -> None:
        """Remove the two images, and the containers that no scenario gave a name."""
        for image in (self.image, self.rich):
            if nameless := self.client.run("ps", "-aq", "--filter", f"ancestor={image}", check=False).stdout.split():
                self.client.run("rm", "-f", "-v", *nameless, check=False)
        self.client.run("rmi", "-f", self.image, self.rich, check=False)

    def connection(self) -> UnixConnection:
        return UnixConnection(self.socket, 60)


def newest_client() -> str:
    """The official client on PATH, else the one that setup fetched; "" where there is none."""
    found = official_clients()
    return str(shutil.which("docker") or (found[0] if found else ""))


def peer_host() -> tuple[str, str]:
    """A real Docker's endpoint, or "" and the reason why there is none."""
    if host := os.environ.get("PEER_DOCKER_HOST", ""):
        return host, ""
    tool = PROJECT.parent / "shared/tools/peers"
    if tool.exists():
        answer = subprocess.run([str(tool), "start"], capture_output=True, text=True, check=False)
        if answer.returncode:
            return "", f"{tool} start: {answer.stderr.strip()}"
        return answer.stdout.strip().rpartition("DOCKER_HOST=")[2], ""
    return "", "PEER_DOCKER_HOST names no Docker daemon, and ../shared/tools/peers is not there"


def start_gantry(directory: Path, program: str) -> tuple[Daemon, Engine]:
    """A gantryd on directories of its own."""
    daemon = Daemon(directory)
    daemon.start()
    return daemon, Engine("gantry", program, daemon.host, directory / "config")
