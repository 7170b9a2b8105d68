"""Health checks on the real kernel, through both clients."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lib.daemon import Client, Daemon
from lib.engine_api import call

FAST = ("--health-interval", "100ms", "--health-retries", "2")


@pytest.fixture
def name(gantry: Client) -> Iterator[str]:
    yield "health"
    gantry.run("rm", "-f", "health", check=False)


def inspect(client: Client, name: str) -> Any:
    return json.loads(client.out("inspect", name))[0]


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def health(client: Client, name: str) -> Any:
    return inspect(client, name)["State"]["Health"]


def test_a_command_says_healthy_then_unhealthy(client: Client, name: str) -> None:
    began = int(time.time())
    script = "touch /ok; sleep 1000"
    check = ("--health-cmd", "echo looked; test -f /ok", *FAST)
    client.run("run", "-d", "--name", name, *check, "busybox", "sh", "-c", script)
    until(lambda: health(client, name)["Status"] == "healthy")
    assert client.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}").endswith("(healthy)")
    client.run("exec", name, "rm", "/ok")
    until(lambda: health(client, name)["Status"] == "unhealthy")
    until(lambda: len(health(client, name)["Log"]) == 5)
    last = health(client, name)["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (1, "looked\n")
    assert client.out("ps", "-q", "--filter", "health=unhealthy", "--filter", f"name={name}")
    client.run("stop", "-t", "0", name)
    events = client.out(
        "events", "--since", str(began), "--until", str(int(time.time()) + 1), "--filter", f"container={name}",
        "--filter", "event=health_status", "--format", "{{.Action}}",
    )  # fmt: skip
    assert events.splitlines() == ["health_status: healthy", "health_status: unhealthy"]
    assert health(client, name)["Status"] == "unhealthy"


def test_output_is_cut_and_a_slow_probe_is_killed(client: Client, name: str) -> None:
    check = ("--health-cmd", "yes | head -c 5000; sleep 0.0; exec sleep 987", "--health-timeout", "300ms", *FAST)
    client.run("run", "-d", "--name", name, *check, "busybox", "sleep", "1000")
    until(lambda: health(client, name)["Status"] == "unhealthy")
    entry = health(client, name)["Log"][0]
    assert entry["ExitCode"] == -1
    assert entry["Output"].startswith("Health check exceeded timeout (300ms): y\ny\n")
    assert len(entry["Output"]) < 4200
    client.run("pause", name)
    client.run("unpause", name)
    until(lambda: client.out("exec", name, "ps").count("sleep 987") <= 1)


def test_start_period_and_start_interval(client: Client, name: str) -> None:
    check = (
        "--health-cmd", "test -f /ok", "--health-interval", "1h", "--health-start-period", "1m",
        "--health-start-interval", "100ms", "--health-retries", "1",
    )  # fmt: skip
    if "--health-start-interval" not in client.out("run", "--help"):
        pytest.skip(f"{client.program} is older than --health-start-interval")
    client.run("run", "-d", "--name", name, *check, "busybox", "sh", "-c", "sleep 0.5; touch /ok; sleep 1000")
    until(lambda: bool(health(client, name)["Log"]))
    assert health(client, name)["Status"] == "starting"
    assert client.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}").endswith("(health: starting)")
    until(lambda: health(client, name)["Status"] == "healthy")


def test_no_healthcheck(client: Client, name: str, gantry: Client) -> None:
    gantry.run("build", "-t", "checked", "-", stdin="FROM busybox\nHEALTHCHECK --interval=100ms CMD true\n")
    try:
        client.run("run", "-d", "--name", name, "checked", "sleep", "1000")
        until(lambda: health(client, name)["Status"] == "healthy")
        client.run("rm", "-f", name)
        client.run("run", "-d", "--no-healthcheck", "--name", name, "checked", "sleep", "1000")
        assert "Health" not in inspect(client, name)["State"]
    finally:
        gantry.run("rm", "-f", name, check=False)
        gantry.run("rmi", "checked")


def test_http_and_tcp_probes_need_no_process(gantry: Client, name: str) -> None:
    script = "mkdir /w; echo fine > /w/ok; exec httpd -f -p 8080 -h /w"
    for check in (("--health-http", "http://:8080/ok"), ("--health-tcp", ":8080")):
        gantry.run("run", "-d", "--name", name, *check, *FAST, "busybox", "sh", "-c", script)
        until(lambda: health(gantry, name)["Status"] == "healthy")
        said = health(gantry, name)["Log"][-1]["Output"]
        assert "fine" in said if check[0] == "--health-http" else said == "connected to 127.0.0.1:8080"
        gantry.run("rm", "-f", name)
    gantry.run("run", "-d", "--name", name, "--health-http", "http://:8080/none", *FAST, "busybox", "sh", "-c", script)
    until(lambda: health(gantry, name)["Status"] == "unhealthy")
    assert "404" in health(gantry, name)["Log"][-1]["Output"]
    refused = gantry.run("run", "--health-tcp", "name:80", "busybox", check=False)
    assert (refused.returncode, "the host has to be an IP address" in refused.stderr) == (125, True)


@pytest.mark.parametrize(
    ("action", "policy", "status"),
    [
        ("restart", "no", "running"),
        ("stop", "always", "exited"),
        ("kill", "no", "exited"),
        ("kill", "always", "running"),
    ],
)
def test_on_failure(daemon: Daemon, gantry: Client, name: str, action: str, policy: str, status: str) -> None:
    check = ("--health-cmd", "false", "--health-interval", "100ms", "--health-retries", "1")
    options = ("--health-on-failure", action, "--restart", policy, "--stop-timeout", "0")
    gantry.run("run", "-d", "--name", name, *check, *options, "busybox", "sleep", "1000")
    before = inspect(gantry, name)["State"]["StartedAt"]

    def reacted() -> bool:
        state = call(daemon.socket, "GET", f"/containers/{name}/json")["State"]
        return bool(state["Status"] == status and (status == "exited" or state["StartedAt"] != before))

    until(reacted)
    assert inspect(gantry, name)["Config"]["Healthcheck"]["OnFailure"] == action
