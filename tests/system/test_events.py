"""The events of each lifecycle, in Docker's order and with Docker's attributes, and the ways to ask for them."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lib.daemon import Client, Daemon
from lib.engine_api import UnixConnection, call


class Watch:
    """Events from now on, as they were sent."""

    def __init__(self, daemon: Daemon, version: str = "1.52", **filters: list[str]) -> None:
        self._connection = UnixConnection(daemon.socket, timeout=15)
        self._connection.request("GET", f"/v{version}/events?filters=" + json.dumps(filters).replace(" ", ""))
        self._stream = self._connection.getresponse()

    def until(self, action: str) -> list[dict[str, Any]]:
        """All events up to the first with this action."""
        found = []
        while True:
            event = json.loads(self._stream.readline())
            found.append(event)
            if event["Action"] == action:
                return found

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def watch(daemon: Daemon, gantry: Client) -> Iterator[Watch]:
    made = Watch(daemon, type=["container", "network", "volume"])
    yield made
    made.close()
    gantry.run("rm", "-fv", "eventful", check=False)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event['Type']} {event['Action'].partition(':')[0]}" for event in events]


def attributes(events: list[dict[str, Any]], action: str) -> dict[str, str]:
    found: dict[str, str] = next(each for each in events if each["Action"].startswith(action))["Actor"]["Attributes"]
    return found


def test_run_in_the_foreground(watch: Watch, client: Client) -> None:
    client.run("run", "--name", "eventful", "-v", "/v", "-l", "a=b", "busybox", "sh", "-c", "exit 3", check=False)
    events = watch.until("die")
    assert names(events) == [
        "volume create", "container create", "container attach", "volume mount", "network connect", "container start",
        "network disconnect", "volume unmount", "container die",
    ]  # fmt: skip
    identifier = events[1]["Actor"]["ID"]
    died = attributes(events, "die")
    died.pop("io.gantry.bootstrap")  # the image's own label
    assert died == {"a": "b", "execDuration": "0", "exitCode": "3", "image": "busybox", "name": "eventful"}
    assert attributes(events, "connect") == {"container": identifier, "name": "bridge", "type": "bridge"}
    mounted = attributes(events, "mount")
    assert mounted == {
        "container": identifier, "destination": "/v", "driver": "local", "propagation": "", "read/write": "true",
    }  # fmt: skip
    assert attributes(events, "unmount") == {"container": identifier, "driver": "local"}
    client.run("rm", "-v", "eventful")
    assert names(watch.until("destroy")) in (["volume destroy"], ["container destroy"])


def test_a_long_life(watch: Watch, client: Client, daemon: Daemon, gantry: Client) -> None:
    client.run("run", "-d", "--name", "eventful", "busybox", "sleep", "1000")
    assert names(watch.until("start")) == ["container create", "network connect", "container start"]
    client.run("exec", "eventful", "echo", "hi")
    executed = watch.until("exec_die")
    assert names(executed) == ["container exec_create", "container exec_start", "container exec_die"]
    assert executed[0]["Action"] == "exec_create: echo hi"
    assert len({each["Actor"]["Attributes"]["execID"] for each in executed}) == 1
    assert attributes(executed, "exec_die")["exitCode"] == "0"
    client.run("pause", "eventful")
    client.run("unpause", "eventful")
    client.run("top", "eventful")
    client.run("update", "--memory", "200m", "--memory-swap", "400m", "eventful")
    client.run("cp", "eventful:/bin/sh", "-")
    client.run("rename", "eventful", "eventful2")
    client.run("rename", "eventful2", "eventful")
    call(daemon.socket, "GET", "/containers/eventful/export")
    client.run("commit", "-m", "said", "eventful", "eventful-image")
    gantry.run("rmi", "eventful-image")
    call(daemon.socket, "POST", "/containers/eventful/resize?h=20&w=30")
    events = watch.until("resize")
    assert names(events) == [
        "container pause", "container unpause", "container top", "container update", "container archive-path",
        "container rename", "container rename", "container export", "container pause", "container unpause",
        "container commit", "container resize",
    ]  # fmt: skip
    assert attributes(events, "rename")["oldName"] == "/eventful"
    assert attributes(events, "resize")["height"] == "20"
    committed = attributes(events, "commit")
    assert (committed["comment"], committed["imageID"][:7]) == ("said", "sha256:")
    client.run("stop", "-t", "0", "eventful")
    stopped = watch.until("stop")
    assert names(stopped) == [
        "container kill", "container kill", "network disconnect", "container die", "container stop",
    ]  # fmt: skip
    assert [each["Actor"]["Attributes"]["signal"] for each in stopped[:2]] == ["15", "9"]
    client.run("start", "eventful")
    assert names(watch.until("start")) == ["network connect", "container start"]
    client.run("restart", "-t", "0", "eventful")
    assert names(watch.until("restart"))[-5:] == [
        "container die", "container stop", "network connect", "container start", "container restart",
    ]  # fmt: skip
    client.run("rm", "-f", "eventful")
    assert names(watch.until("destroy")) == [
        "container kill", "network disconnect", "container die", "container destroy",
    ]  # fmt: skip


def test_volumes_and_networks(watch: Watch, client: Client) -> None:
    client.run("volume", "create", "eventful-volume")
    client.run("volume", "rm", "eventful-volume")
    client.run("network", "create", "eventful-network")
    client.run("network", "rm", "eventful-network")
    client.run("volume", "prune", "-f")
    client.run("network", "prune", "-f", "--filter", "label=none")
    client.run("container", "prune", "-f", "--filter", "label=none")
    events: list[dict[str, Any]] = []
    while len([each for each in events if each["Action"] == "prune"]) < 3:
        events += watch.until("prune")
    assert names(events)[:4] == ["volume create", "volume destroy", "network create", "network destroy"]
    assert attributes(events, "create") == {"driver": "local"}
    assert events[2]["Actor"]["Attributes"] == {"name": "eventful-network", "type": "bridge"}
    assert [each["Type"] for each in events if each["Action"] == "prune"] == ["volume", "network", "container"]
    assert attributes(events, "prune") == {"reclaimed": "0"}


def test_images(daemon: Daemon, client: Client) -> None:
    watch = Watch(daemon, type=["image"])
    try:
        client.run("tag", "busybox", "eventful:one")
        client.run("rmi", "eventful:one")
        events = watch.until("untag")
    finally:
        watch.close()
    assert names(events) == ["image tag", "image untag"]
    assert attributes(events, "tag")["name"] == "eventful:one"


def test_a_build_makes_an_image(daemon: Daemon, gantry: Client) -> None:
    watch, older = Watch(daemon, type=["image"]), Watch(daemon, version="1.45", type=["image"])
    try:
        gantry.run("build", "-t", "eventful", "-", stdin="FROM busybox\nLABEL a=b\n")
        assert names(watch.until("tag")) == ["image create", "image tag"]
        assert names(older.until("tag")) == ["image tag"]
    finally:
        watch.close()
        older.close()
        gantry.run("rmi", "eventful")


def test_replay_and_filters(daemon: Daemon, client: Client) -> None:
    began = time.time()
    client.run("volume", "create", "replayed")
    client.run("volume", "rm", "replayed")
    window = ("--since", f"{began:.6f}", "--until", f"{time.time():.6f}", "--format", "{{.Type}} {{.Action}}")
    mine = (*window, "--filter", "volume=replayed")
    assert client.out("events", *mine).splitlines() == ["volume create", "volume destroy"]
    assert client.out("events", *mine, "--filter", "event=destroy") == "volume destroy"
    assert client.out("events", *window, "--filter", "type=container", "--filter", "volume=replayed") == ""
    assert client.out("events", *window, "--filter", "scope=swarm") == ""
    refused = client.run("events", "--since", "2000", "--until", "1000", check=False)
    assert "cannot be after" in refused.stderr
    for number in range(130):  # twice as many events as are kept
        call(daemon.socket, "POST", "/volumes/create", {"Name": f"r{number}"})
        call(daemon.socket, "DELETE", f"/volumes/r{number}")
    replayed = client.out("events", "--since", "1", "--until", f"{time.time():.6f}", "--format", "{{.Action}}")
    assert len(replayed.splitlines()) == 256
