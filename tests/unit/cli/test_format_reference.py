"""Every field that Docker's list commands offer to `--format`, with its column's heading."""

from collections.abc import Iterator
from typing import Any

import pytest

from lib import reference
from lib.fake_api import FakeAPI
from unit.cli.conftest import Gantry

ID = "sha256:" + "ab" * 32
_IMAGE = {
    "Id": ID, "RepoTags": ["a/b:c"], "RepoDigests": [], "Created": 1, "Size": 5, "SharedSize": 1, "Containers": 0,
    "Labels": {}, "ParentId": "",
}  # fmt: skip
_CONTAINER = {
    "Id": "ab" * 32, "Names": ["/n"], "Image": "i", "ImageID": ID, "Command": "c", "Created": 1, "Ports": [],
    "Labels": {}, "State": "running", "Status": "Up", "Mounts": [], "SizeRw": 1, "SizeRootFs": 2,
    "NetworkSettings": {"Networks": {}},
}  # fmt: skip
_VOLUME = {"Name": "v", "Driver": "local", "Scope": "local", "Mountpoint": "/m", "Labels": {}, "Options": {}}
_NETWORK = {
    "Id": "ab" * 32, "Name": "n", "Driver": "bridge", "Scope": "local", "Labels": {}, "Created": "2024-01-01T00:00:00Z",
    "EnableIPv4": True, "EnableIPv6": False, "Internal": False,
}  # fmt: skip
_CACHE = {
    "ID": "c", "Type": "regular", "Description": "d", "InUse": False, "Shared": False, "Size": 1,
    "CreatedAt": "2024-01-01T00:00:00Z", "LastUsedAt": None, "UsageCount": 1,
}  # fmt: skip
_USAGE = {
    "LayersSize": 5, "Images": [_IMAGE], "Containers": [_CONTAINER],
    "Volumes": [_VOLUME | {"UsageData": {"Size": 1, "RefCount": 0}}], "BuildCache": [_CACHE],
}  # fmt: skip
_STATS: dict[str, Any] = {
    "name": "/n", "id": "ab" * 32, "read": "2024-01-01T00:00:02Z", "preread": "2024-01-01T00:00:01Z",
    "pids_stats": {"current": 1}, "blkio_stats": {}, "memory_stats": {"usage": 1, "limit": 2, "stats": {}},
    "cpu_stats": {"cpu_usage": {"total_usage": 2}, "system_cpu_usage": 4, "online_cpus": 1},
    "precpu_stats": {"cpu_usage": {"total_usage": 1}, "system_cpu_usage": 2},
}  # fmt: skip

# The words of each command that is ours, by its first name in the reference.
COMMANDS = {
    "docker ps": ("ps", "-a"),
    "docker images": ("images",),
    "docker history": ("history", "i"),
    "docker volume ls": ("volume", "ls"),
    "docker network ls": ("network", "ls"),
    "docker stats": ("stats", "--no-stream"),
    "docker search": ("search", "x"),
    "docker context ls": ("context", "ls"),
    "docker system df": ("system", "df"),
}


def fields() -> Iterator[tuple[str, str, str]]:
    """(command, field, heading)"""
    path = reference.REFERENCE / "format-fields.json"
    for told in reference.load("format-fields")["list_commands"] if path.exists() else ():
        command = told["commands"][0]
        removed = told.get("changed_in", {}).get("29.7.2", {}).get("removed", ())
        for field in told.get("fields", ()) if command in COMMANDS else ():
            if "(" not in field["name"] and field["name"] not in removed:
                yield command, field["name"], field["header"] or "<no value>"


@pytest.fixture
def answers(daemon: FakeAPI) -> FakeAPI:
    for route, answer in {
        "GET /containers/json": [_CONTAINER],
        "GET /images/json": [_IMAGE],
        "GET /images/i/history": [{"Id": ID, "Created": 1, "CreatedBy": "c", "Size": 1, "Comment": "", "Tags": None}],
        "GET /images/search": [{"name": "x", "description": "d", "star_count": 1, "is_official": True}],
        "GET /volumes": {"Volumes": [_VOLUME], "Warnings": None},
        "GET /networks": [_NETWORK],
        "GET /system/df": _USAGE,
        "GET /info": {"OSType": "linux", "IndexServerAddress": "https://index.docker.io/v1/"},
        f"GET /containers/{'ab' * 32}/stats": _STATS,
        "GET /containers/n/stats": _STATS,
    }.items():
        daemon.on(route, answer)
    return daemon


@pytest.mark.skipif(not reference.REFERENCE.is_dir(), reason=f"{reference.REFERENCE} is not there")
@pytest.mark.parametrize(("command", "field", "heading"), list(fields()))
@pytest.mark.usefixtures("answers")
def test_a_field_of_a_list(gantry: Gantry, command: str, field: str, heading: str) -> None:
    status, out, err = gantry(*COMMANDS[command], "--format", f"table {{{{.{field}}}}}")
    assert status == 0, err
    assert out.splitlines()[0].strip() == heading


@pytest.mark.usefixtures("answers")
def test_a_field_that_is_none(gantry: Gantry) -> None:
    status, _, err = gantry("ps", "--format", "{{.Nothing}}")
    assert status
    assert "Nothing" in err
