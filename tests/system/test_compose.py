"""Docker Compose, unchanged, on our API: two services that find each other by name."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import Client, Daemon

_PLUGINS = ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")
_FILE = """\
services:
  web:
    image: busybox:latest
    command: sh -c "echo hello from web > /index.html; httpd -f -h /"
    healthcheck: {test: ["CMD", "wget", "-q", "-O-", "http://localhost/"], interval: 1s, retries: 10}
    volumes: ["data:/data"]
  client:
    image: busybox:latest
    command: sh -c "wget -q -O- http://web/; sleep 600"
    depends_on: {web: {condition: service_healthy}}
    networks: {default: {aliases: [cli]}}
volumes:
  data:
"""


def find_compose() -> str:
    """COMPOSE_PROGRAM, `docker-compose` on the path, or the plugin where packages put it; "" for none."""
    found = [os.environ.get("COMPOSE_PROGRAM", ""), shutil.which("docker-compose") or ""]
    found += [f"{place}/docker/cli-plugins/docker-compose" for place in _PLUGINS]
    return next((path for path in found if path and os.access(path, os.X_OK)), "")


class Project:
    def __init__(self, program: str, daemon: Daemon, directory: Path) -> None:
        self._program = program
        self.directory = directory
        self._environment = os.environ | {"DOCKER_HOST": daemon.host, "DOCKER_CONFIG": str(directory / "config")}
        (directory / "compose.yaml").write_text(_FILE)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [self._program, "--ansi", "never", "-p", "gt-compose", *words],
            cwd=self.directory, env=self._environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def project(daemon: Daemon, gantry: Client, scratch: Path) -> Iterator[Project]:
    program = find_compose()
    if not program:
        pytest.skip("no Docker Compose on this machine: install it, or name it in COMPOSE_PROGRAM")
    made = Project(program, daemon, scratch)
    yield made
    made.run("down", "-v", "-t", "0", "--remove-orphans")


def test_two_services(project: Project, gantry: Client) -> None:
    project.run("up", "-d")
    states = [json.loads(line) for line in project.run("ps", "--format", "json").splitlines()]
    assert {each["Service"]: (each["State"], each["Health"]) for each in states} == {
        "web": ("running", "healthy"),
        "client": ("running", ""),
    }
    assert "hello from web" in project.run("logs", "--no-color", "client")
    assert project.run("exec", "-T", "client", "wget", "-q", "-O-", "http://web/") == "hello from web\n"
    assert project.run("exec", "-T", "web", "ping", "-c1", "cli").startswith("PING cli (")
    assert "sleep 600" in project.run("top", "client")

    before = gantry.out("ps", "-aq", "--no-trunc", "--filter", "label=com.docker.compose.project=gt-compose").split()
    project.run("up", "-d", "--scale", "web=3")
    answers = project.run("exec", "-T", "client", "nslookup", "web").splitlines()
    assert len([line for line in answers if line.startswith("Address: ")]) == 3
    after = gantry.out("ps", "-aq", "--no-trunc", "--filter", "label=com.docker.compose.project=gt-compose").split()
    assert set(before) < set(after)  # nothing was made anew that had not changed
    assert len(after) == 4

    project.run("restart", "-t", "0", "client")
    assert project.run("run", "--rm", "-T", "client", "wget", "-q", "-O-", "http://web/") == "hello from web\n"
    project.run("cp", "client:/etc/hosts", str(project.directory / "hosts"))
    assert "localhost" in (project.directory / "hosts").read_text()

    project.run("down", "-v", "-t", "0")
    assert gantry.out("ps", "-aq", "--filter", "label=com.docker.compose.project=gt-compose") == ""
    assert gantry.out("network", "ls", "-q", "--filter", "label=com.docker.compose.project=gt-compose") == ""
    assert gantry.out("volume", "ls", "-q", "--filter", "label=com.docker.compose.project=gt-compose") == ""
