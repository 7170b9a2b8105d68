"""`/volumes` through a real HTTP client, on the real local driver."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gantry.api import volumes as api
from gantry.api.app import application
from gantry.engine.events import EventBus
from gantry.engine.volumes import VolumeCases
from gantry.model.instance import Instance
from gantry.store.state import SQLiteState
from gantry.volumes.local import LocalVolumes


class Room:
    def __init__(self, client: TestClient[Any, Any], containers: dict[str, list[str]], events: EventBus) -> None:
        self._client = client
        self.containers = containers
        self.events = events

    async def ask(self, method: str, path: str, body: Any = None, **filters: list[str]) -> tuple[int, Any]:
        params = {"filters": json.dumps(filters)} if filters else {}
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with self._client.request(
            method, path, data=data, params=params, headers=headers, skip_auto_headers=["Content-Type"]
        ) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def names(self, **filters: list[str]) -> list[str]:
        status, answer = await self.ask("GET", "/volumes", None, **filters)
        assert status == 200
        return sorted(volume["Name"] for volume in answer["Volumes"])

    def actions(self) -> list[tuple[str, str]]:
        return [(event.action, event.actor_id) for event in self.events._history]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    containers: dict[str, list[str]] = {}
    events = EventBus()
    instance = Instance.of(tmp_path, tmp_path / "run")
    local = LocalVolumes(
        instance,
        SQLiteState(tmp_path / "state.db"),
        lambda name: [key for key, have in containers.items() if name in have],
    )
    await local.start()
    async with TestClient(TestServer(application(api.routes(VolumeCases(local, local, events))))) as client:
        yield Room(client, containers, events)


async def test_create_inspect_remove(room: Room) -> None:
    status, made = await room.ask(
        "POST", "/v1.45/volumes/create", {"Name": "data", "Labels": {"a": "b"}, "DriverOpts": None}
    )
    assert status == 201
    assert {key: made[key] for key in ("Driver", "Labels", "Name", "Options", "Scope")} == {
        "Driver": "local", "Labels": {"a": "b"}, "Name": "data", "Options": None, "Scope": "local",
    }  # fmt: skip
    assert await room.ask("GET", "/volumes/data") == (200, made)
    assert await room.ask("POST", "/volumes/create", {"Name": "data"}) == (201, made)
    assert await room.ask("DELETE", "/volumes/data") == (204, None)
    assert await room.ask("GET", "/volumes/data") == (404, {"message": "get data: no such volume"})
    assert await room.ask("DELETE", "/volumes/data") == (404, {"message": "get data: no such volume"})
    assert await room.ask("DELETE", "/volumes/data?force=1") == (204, None)
    assert room.actions() == [("create", "data"), ("destroy", "data")]


async def test_without_body_or_name_it_is_anonymous(room: Room) -> None:
    for body in (None, {}):
        status, made = await room.ask("POST", "/volumes/create", body)
        assert status == 201
        assert made["Labels"] == {"com.docker.volume.anonymous": ""}
        assert len(made["Name"]) == 64


async def test_bad_requests(room: Room) -> None:
    status, answer = await room.ask("POST", "/volumes/create", {"Name": "vv", "Driver": "nope"})
    assert (status, answer["message"]) == (
        404,
        'create vv: error looking up volume plugin nope: plugin "nope" not found',
    )
    assert (await room.ask("POST", "/volumes/create", {"Name": "a b"}))[0] == 400
    assert (await room.ask("POST", "/volumes/create", {"Name": 7}))[0] == 400
    assert (await room.ask("PUT", "/volumes/data"))[0] == 503
    for wanted, message in (
        ({"nope": ["x"]}, "invalid filter 'nope'"),
        ({"dangling": ["x"]}, "invalid filter 'dangling=[x]'"),
        ({"dangling": ["true", "false"]}, "invalid filter 'dangling=[true false]'"),
    ):
        assert await room.ask("GET", "/volumes", None, **wanted) == (400, {"message": message})
    assert await room.ask("POST", "/volumes/prune", None, all=["x"]) == (
        400, {"message": "invalid filter 'all': strconv.ParseBool: parsing \"x\": invalid syntax"},
    )  # fmt: skip


async def test_a_volume_in_use_stays(room: Room) -> None:
    await room.ask("POST", "/volumes/create", {"Name": "data"})
    room.containers["c1"] = ["data"]
    for path in ("/volumes/data", "/volumes/data?force=1"):
        assert await room.ask("DELETE", path) == (409, {"message": "remove data: volume is in use - [c1]"})


async def test_list_filters(room: Room) -> None:
    for name, labels in (("one", {"a": "b"}), ("two", {"a": "c", "d": ""}), ("other", {})):
        await room.ask("POST", "/volumes/create", {"Name": name, "Labels": labels})
    room.containers["c1"] = ["one"]
    assert await room.names() == ["one", "other", "two"]
    assert await room.names(name=["o"]) == ["one", "other", "two"]
    assert await room.names(name=["^o"]) == ["one", "other"]
    assert await room.names(label=["a"]) == ["one", "two"]
    assert await room.names(label=["a=c", "d"]) == ["two"]
    assert await room.names(driver=["local"], dangling=["1"]) == ["other", "two"]
    assert await room.names(dangling=["false"]) == ["one"]
    assert await room.names(driver=["nfs"]) == []


async def test_prune(room: Room) -> None:
    await room.ask("POST", "/volumes/create", {"Name": "named", "Labels": {"keep": "1"}})
    _, anonymous = await room.ask("POST", "/volumes/create", {})
    _, used = await room.ask("POST", "/volumes/create", {})
    Path(anonymous["Mountpoint"], "file").write_bytes(b"x" * 100)
    room.containers["c1"] = [used["Name"]]
    status, answer = await room.ask("POST", "/v1.48/volumes/prune")
    assert (status, answer) == (200, {"VolumesDeleted": [anonymous["Name"]], "SpaceReclaimed": 100})
    assert (await room.ask("POST", "/v1.48/volumes/prune", None, all=["1"], **{"label!": ["keep"]}))[1][
        "VolumesDeleted"
    ] == []
    assert (await room.ask("POST", "/v1.41/volumes/prune"))[1]["VolumesDeleted"] == ["named"]
    assert await room.names() == [used["Name"]]
