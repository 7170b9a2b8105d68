"""`/networks` through a real HTTP client, on a room without a kernel."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gantry.api import networks as api
from gantry.api.app import application
from gantry.engine.events import EventBus
from gantry.engine.networking import ContainerNetworks
from gantry.engine.networks import NetworkCases
from gantry.engine.registry import Registry
from gantry.errors import Conflict, Forbidden
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, Phase, Status
from gantry.model.identity import new_id
from gantry.model.network import IPAM, Endpoint, EndpointSettings, IPAMPool, Network
from gantry.network.book import Book
from gantry.network.design import simple_network
from gantry.network.records import EndpointRecord, NetworkRecord, Subnet
from gantry.network.requests import check_endpoint, check_network
from gantry.ports import EndpointRequest, NetworkRequest
from gantry.store.state import SQLiteState


class PaperNetworks:
    """The networks of a host that has no interfaces: the room's own records and checks, and no effect."""

    def __init__(self, state: SQLiteState) -> None:
        self.book = Book(state)

    async def start(self, running: Sequence[str]) -> None:
        bridge = Network(
            "bridge", new_id(), timestamp.rfc3339(timestamp.now()), ipam=IPAM(config=[IPAMPool("172.17.0.0/16")])
        )
        for record in (
            NetworkRecord(bridge, "docker0", subnets=(Subnet("172.17.0.0/16", "172.17.0.1"),)),
            simple_network("host", "host"),
            simple_network("none", "null"),
        ):
            await self.book.put_network(record)

    async def rename(self, container_id: str, old: str, new: str) -> None: ...

    async def set_host(self, container_id: str, address: str, names: str) -> None: ...

    async def get(self, name_or_id: str) -> Network:
        return self.book.find(name_or_id).network

    async def list(self) -> Sequence[Network]:
        return [each.network for each in self.book.networks.values()]

    async def create(self, request: NetworkRequest) -> Network:
        check_network(request)
        if self.book.named(request.name):
            raise Conflict(f"network with name {request.name} already exists")
        made = Network(
            request.name, new_id(), timestamp.rfc3339(timestamp.now()), ipam=request.ipam, options=request.options,
            labels=request.labels, internal=request.internal,
        )  # fmt: skip
        await self.book.put_network(
            NetworkRecord(made, "br", subnets=(Subnet("10.9.0.0/24", "10.9.0.1", configured=True),))
        )
        return made

    async def delete(self, network_id: str) -> None:
        record = self.book.find(network_id)
        if record.network.predefined:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        if self.book.of(network_id=record.id):
            raise Forbidden(f"error while removing network: network {record.name} has active endpoints")
        await self.book.drop_network(record)

    async def attach(self, container: Container, network: Network, request: EndpointRequest) -> Endpoint:
        record = self.book.find(network.id)
        if self.book.of(network_id=record.id, container_id=container.id):
            raise Forbidden(f"endpoint with name {container.name} already exists in network {record.name}")
        check_endpoint(request.settings, record)
        asked = request.settings.ipam_config
        address = str(self.book.take(record, 4, asked.ipv4_address if asked else "")[0])
        made = Endpoint(container.id, record.id, new_id(), "eth0", "02:42:00:00:00:01", address, 24)
        self.book.endpoints[made.endpoint_id] = EndpointRecord(made)
        return made

    async def detach(self, container_id: str, network_id: str) -> None:
        for each in self.book.of(network_id=network_id, container_id=container_id):
            await self.book.drop_endpoints([each.key])

    async def endpoints(self, *, network_id: str = "", container_id: str = "") -> Sequence[Endpoint]:
        return [each.endpoint for each in self.book.of(network_id=network_id, container_id=container_id)]

    async def open_sandbox(self, container: Container, *, host: bool) -> Any:
        raise AssertionError("no route opens a sandbox")

    async def close_sandbox(self, container_id: str) -> None:
        raise AssertionError("no route closes a sandbox")


class Room:
    def __init__(self, client: TestClient[Any, Any], registry: Registry, events: EventBus) -> None:
        self._client = client
        self.registry = registry
        self.events = events
        self.live: dict[str, dict[str, Endpoint]] = {}

    async def ask(self, method: str, path: str, body: Any = None, **filters: list[str]) -> tuple[int, Any]:
        params = {"filters": json.dumps(filters)} if filters else {}
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with self._client.request(
            method, path, data=data, params=params, headers=headers, skip_auto_headers=["Content-Type"]
        ) as response:
            text = await response.text()
            if text:
                assert response.headers["Content-Type"] == "application/json"  # clients compare it; no charset
                assert text.endswith("\n")
            return response.status, json.loads(text) if text else None

    async def refused(self, method: str, path: str, body: Any = None, **filters: list[str]) -> tuple[int, str]:
        status, answer = await self.ask(method, path, body, **filters)
        return status, answer["message"]

    async def names(self, **filters: list[str]) -> list[str]:
        status, answer = await self.ask("GET", "/networks", None, **filters)
        assert status == 200
        return [network["Name"] for network in answer]

    async def container(self, name: str, phase: Phase = Phase.RUNNING, mode: str = "bridge") -> Container:
        return await self.registry.save(
            Container(
                id=new_id(), name=name, created_at=0, image_id="", image_ref="", platform="", path="", args=(),
                config=ContainerConfig(), host_config=HostConfig(network_mode=mode), runtime="", driver="",
                status=Status(phase=phase), networks={"none": EndpointSettings()} if mode == "none" else {},
            )
        )  # fmt: skip


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    state = SQLiteState(tmp_path / "state.db")
    networks = PaperNetworks(state)
    await networks.start([])
    registry, events = Registry(state), EventBus()
    connections = ContainerNetworks(registry, networks, networks, events)
    async with TestClient(
        TestServer(application(api.routes(NetworkCases(networks, registry, connections, events))))
    ) as client:
        made = Room(client, registry, events)
        made.live = connections.endpoints
        yield made


def claim(room: Room, container: Container) -> Container:
    room.registry.claim(container.name, container.id)
    return container


async def test_create_inspect_remove(room: Room) -> None:
    pool = {"Subnet": "10.9.2.0/24", "AuxiliaryAddresses": {"q": "10.9.2.9"}}
    body = {
        "Name": "n1",
        "CheckDuplicate": True,
        "Labels": {"a": "b"},
        "IPAM": {"Driver": None, "Config": [pool]},
        "Options": None,
    }
    status, made = await room.ask("POST", "/networks/create", body)
    assert status == 201
    assert made["Warning"] == ""
    status, shown = await room.ask("GET", f"/networks/{made['Id'][:12]}")
    assert status == 200
    created = shown.pop("Created")
    assert timestamp.parse_rfc3339(created) > 0
    assert shown == {
        "Name": "n1", "Id": made["Id"], "Scope": "local", "Driver": "bridge", "EnableIPv4": True, "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": [pool]}, "Internal": False, "Attachable": False,
        "Ingress": False, "ConfigFrom": {"Network": ""}, "ConfigOnly": False, "Containers": {}, "Options": {},
        "Labels": {"a": "b"},
    }  # fmt: skip
    assert "EnableIPv4" not in (await room.ask("GET", "/v1.40/networks/n1"))[1]
    assert await room.refused("POST", "/networks/create", {"Name": "n1"}) == (
        409,
        "network with name n1 already exists",
    )
    assert await room.ask("DELETE", "/networks/n1") == (204, None)
    assert await room.refused("GET", "/networks/n1") == (404, "network n1 not found")
    assert [(event.action, event.attributes) for event in room.events._history] == [
        ("create", {"name": "n1", "type": "bridge"}),
        ("destroy", {"name": "n1", "type": "bridge"}),
    ]


NO_SWARM = "cannot create a swarm scoped network when swarm is not active"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("DELETE", "/networks/bridge", None, 403, "bridge is a pre-defined network and cannot be removed"),
        ("DELETE", "/networks/nope", None, 404, "network nope not found"),
        ("POST", "/networks/create", None, 400, "invalid name: name is empty"),
        ("POST", "/networks/create", {"Name": "n", "Scope": "swarm"}, 403, NO_SWARM),
        ("POST", "/networks/create", {"Name": "n", "Driver": "nope"}, 404, 'plugin "nope" not found'),
        ("POST", "/networks/create", {"Name": "n", "EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
        ("POST", "/networks/nope/connect", {"Container": "c1"}, 404, "network nope not found"),
        ("POST", "/networks/bridge/connect", {"Container": "c1"}, 404, "No such container: c1"),
        ("POST", "/networks/bridge/connect", None, 400, 'invalid name or ID supplied: ""'),
        ("POST", "/networks/bridge/disconnect", {"Container": "c1"}, 404, "No such container: c1"),
        ("POST", "/networks/bridge/disconnect", {"Container": "c1", "Force": True}, 404, "endpoint c1 not found"),
        ("GET", "/networks/bridge?scope=swarm", None, 404, "network bridge not found"),
    ],
)  # fmt: skip
async def test_refusals(room: Room, method: str, path: str, body: Any, status: int, message: str) -> None:
    assert await room.refused(method, path, body) == (status, message)


async def test_list_filters(room: Room) -> None:
    for name, labels in (("one", {"a": "b"}), ("two", {"a": "c"})):
        await room.ask("POST", "/networks/create", {"Name": name, "Labels": labels})
    claim(room, await room.container("c1"))
    await room.ask("POST", "/networks/one/connect", {"Container": "c1"})
    assert await room.names() == ["bridge", "host", "none", "one", "two"]
    assert await room.names(type=["custom"]) == ["one", "two"]
    assert await room.names(type=["builtin"], driver=["null"]) == ["none"]
    assert await room.names(name=["^o"]) == ["one"]
    assert await room.names(label=["a=c"]) == ["two"]
    assert await room.names(dangling=["true"]) == ["two"]
    assert await room.names(scope=["swarm"]) == []
    bad = 'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
    assert await room.refused("GET", "/networks", None, dangling=["zz"]) == (400, bad)
    assert await room.refused("GET", "/networks", None, nope=["x"]) == (400, "invalid filter 'nope'")
    assert await room.refused("GET", "/networks", None, type=["zz"]) == (500, "invalid filter: 'type'='zz'")


async def test_connect_and_disconnect_a_running_container(room: Room) -> None:
    await room.ask("POST", "/networks/create", {"Name": "n"})
    container = claim(room, await room.container("c1"))
    body = {"Container": "c1", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.9.0.7"}, "Aliases": ["x"]}}
    assert await room.ask("POST", "/networks/n/connect", body) == (200, None)
    assert await room.refused("POST", "/networks/n/connect", body) == (
        403,
        "endpoint with name c1 already exists in network n",
    )
    users = (await room.ask("GET", "/networks/n"))[1]["Containers"]
    assert users[container.id]["Name"] == "c1"
    assert users[container.id]["IPv4Address"] == "10.9.0.7/24"
    assert room.live[container.id]["n"].ip_address == "10.9.0.7"
    assert room.registry.get("c1").networks["n"].aliases == ["x"]
    assert (await room.refused("DELETE", "/networks/n"))[0] == 403
    assert await room.ask("POST", "/networks/n/disconnect", {"Container": "c1"}) == (200, None)
    assert container.id not in room.live
    assert room.registry.get("c1").networks == {}
    assert await room.refused("POST", "/networks/n/disconnect", {"Container": "c1"}) == (
        500, f"container {container.id} is not connected to network n",
    )  # fmt: skip
    assert [event.action for event in room.events._history] == ["create", "connect", "disconnect"]
    assert room.events._history[-1].attributes == {"container": container.id, "name": "n", "type": "bridge"}


async def test_a_stopped_container_is_connected_in_its_record(room: Room) -> None:
    await room.ask("POST", "/networks/create", {"Name": "n"})
    container = claim(room, await room.container("c1", Phase.EXITED))
    for _ in range(2):
        assert await room.ask("POST", "/networks/n/connect", {"Container": "c1"}) == (200, None)
    assert list(room.registry.get("c1").networks) == ["n"]
    assert (await room.ask("GET", "/networks/n"))[1]["Containers"] == {}
    assert await room.ask("POST", "/networks/n/disconnect", {"Container": "c1"}) == (200, None)
    assert await room.refused("POST", "/networks/n/disconnect", {"Container": "c1"}) == (
        500, f"container {container.id} is not connected to the network n",
    )  # fmt: skip


SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


@pytest.mark.parametrize(
    ("mode", "network", "message"),
    [
        ("host", "bridge", SHARED),
        ("container:x", "bridge", SHARED),
        ("none", "bridge", PRIVATE),
        ("bridge", "none", PRIVATE),
        ("bridge", "host", "cannot connect container to host network - container must be created in host network mode"),
    ],
)
async def test_networks_that_do_not_go_together(room: Room, mode: str, network: str, message: str) -> None:
    claim(room, await room.container("c1", mode=mode))
    assert await room.refused("POST", f"/networks/{network}/connect", {"Container": "c1"}) == (400, message)


async def test_a_container_that_has_left_none_may_join(room: Room) -> None:
    container = await room.container("c1", mode="none", phase=Phase.CREATED)
    claim(room, container)
    assert (await room.ask("POST", "/networks/none/disconnect", {"Container": "c1"}))[0] == 200
    assert (await room.ask("POST", "/networks/bridge/connect", {"Container": "c1"}))[0] == 200
    assert set(room.registry.get("c1").networks) == {"bridge"}


async def test_prune(room: Room) -> None:
    for name, labels in (("used", {}), ("kept", {"keep": "1"}), ("unused", {})):
        await room.ask("POST", "/networks/create", {"Name": name, "Labels": labels})
    claim(room, await room.container("c1"))
    await room.ask("POST", "/networks/used/connect", {"Container": "c1"})
    assert await room.ask("POST", "/networks/prune", None, until=["1h"]) == (200, {"NetworksDeleted": None})
    assert await room.refused("POST", "/networks/prune", None, until=["x"]) == (
        400, 'failed to parse value as time or duration: "x"',
    )  # fmt: skip
    assert await room.ask("POST", "/networks/prune", None, **{"label!": ["keep"]}) == (
        200,
        {"NetworksDeleted": ["unused"]},
    )
    assert await room.names(type=["custom"]) == ["used", "kept"]
