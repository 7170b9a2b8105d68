"""System routes on fakes: versions, information, events, disk usage."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from gantry import trace
from gantry.api import disk as disk_api
from gantry.api import system as system_api
from gantry.api.app import application
from gantry.build.cache import CacheRecord
from gantry.engine.disk import Disk
from gantry.engine.events import EventBus
from gantry.engine.system import Component, Host, Settings, System
from gantry.errors import NotFound
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, Phase, Status
from gantry.model.image import HistoryEntry, Image
from gantry.model.volume import Volume
from gantry.ports import LayerInfo, RuntimeInfo

Call = Callable[..., Awaitable[ClientResponse]]

HOST = Host(
    name="box",
    operating_system="Debian",
    os_version="12",
    kernel_version="6.1",
    machine="x86_64",
    architecture="amd64",
    ncpu=2,
    mem_total=1 << 30,
    backing_filesystem="extfs",
    cgroup_version="2",
    memory_limit=True,
    swap_limit=False,
    cpu_cfs=True,
    cpu_shares=True,
    cpuset=True,
    pids_limit=True,
    oom_kill_disable=False,
    security_options=("name=seccomp,profile=builtin",),
)
SETTINGS = Settings(
    id="abc",
    data_root="/data",
    labels=("a=b",),
    insecure_registries=("reg:5000", "10.0.0.0/8"),
    address_pools=(("10.0.0.0/8", 24),),
    warnings=("WARNING: one more",),
)


class Tasks:
    def runtimes(self) -> dict[str, RuntimeInfo]:
        return {
            "crun": RuntimeInfo("crun", "/usr/bin/crun", "1.8", "c0ffee"),
            "runc": RuntimeInfo("runc", "/usr/bin/runc", "1.1", "", problem="cgroup trouble"),
            "gone": RuntimeInfo("gone", "", "", "", problem="not found"),
        }

    def default_runtime(self) -> str:
        return "crun"

    async def devices(self) -> list[str]:
        return ["vendor.com/class=one"]


def image(name: str, *layers: str) -> Image:
    return Image(
        id=f"sha256:{name}", manifest="", config_digest="", media_type="", os="linux", architecture="amd64", variant="",
        created="2024-01-01T00:00:00Z", author="", comment="", docker_version="", config=ContainerConfig(),
        layers=layers, diff_ids=layers, chain_id="", history=(), size=0,
    )  # fmt: skip


class Images:
    async def all(self, *, intermediate: bool = False) -> Sequence[Image]:
        assert intermediate
        return [image("one", "base"), image("two", "base", "top")]

    async def layer_infos(self, found: Image) -> Sequence[LayerInfo]:
        return [LayerInfo("d", layer, 5, {"base": 100, "top": 7}[layer], "") for layer in found.diff_ids]


class Builds:
    async def cache_records(self) -> Sequence[CacheRecord]:
        layer = LayerInfo("d", "top", 5, 70, "")
        step = HistoryEntry(created_by="RUN true")
        return [
            CacheRecord("sha256:ab", "", "", "", layer, step, ContainerConfig(), "", 10**9, 0, 3),
            CacheRecord("sha256:cd", "", "", "", None, step, ContainerConfig(), "", 10**9, 2 * 10**9),
        ]


class Snapshots:
    def usage(self, key: str) -> int:
        if key == "stopped":
            raise NotFound("gone")
        return 11


class Volumes:
    async def list(self) -> Sequence[Volume]:
        return [Volume(name, "local", "/v", "2024-01-01T00:00:00Z") for name in ("used", "idle")]

    def in_use(self, name: str) -> Sequence[str]:
        return ["running"] if name == "used" else []

    async def size(self, name: str) -> int:
        return 8192 if name == "used" else 0


def container(name: str, phase: Phase) -> Container:
    return Container(
        id=name, name=name, created_at=1, image_id="sha256:two", image_ref="two", platform="linux", path="sh", args=(),
        config=ContainerConfig(), host_config=HostConfig(), runtime="crun", driver="overlay2",
        status=Status(phase=phase),
    )  # fmt: skip


@pytest.fixture
def events() -> EventBus:
    return EventBus()


@pytest.fixture
def system() -> System:
    containers = [container("running", Phase.RUNNING), container("paused", Phase.PAUSED)]
    return System(
        HOST,
        lambda: SETTINGS,
        tasks=Tasks(),  # type: ignore[arg-type]
        containers=[*containers, container("stopped", Phase.EXITED)],
        images=Images(),
        components=lambda: [Component("conmon", "2.1", {})],
        listeners=lambda: 3,
    )


@pytest.fixture
async def call(system: System, events: EventBus) -> AsyncIterator[Call]:
    disk = Disk(system._containers, Images(), Volumes(), Volumes(), Snapshots())  # type: ignore[arg-type]
    routes = [*system_api.routes(system, events), *disk_api.routes(disk, Builds())]  # type: ignore[arg-type]
    async with TestClient(TestServer(application(routes))) as client:
        yield client.request


async def test_ping(call: Call) -> None:
    for method, text in (("GET", "OK"), ("HEAD", "")):
        answer = await call(method, "/_ping")
        assert (answer.status, await answer.text(), answer.content_type) == (200, text, "text/plain")
        assert answer.headers["Builder-Version"] == "1"
        assert answer.headers["Swarm"] == "inactive"
        assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"


async def test_version_names_the_parts(call: Call) -> None:
    found = await (await call("GET", "/v1.24/version")).json()
    assert (found["ApiVersion"], found["MinAPIVersion"], found["Os"], found["Arch"]) == (
        "1.55",
        "1.24",
        "linux",
        "amd64",
    )
    assert [part["Name"] for part in found["Components"]] == ["Engine", "conmon", "crun"]
    assert found["Components"][2]["Details"] == {"GitCommit": "c0ffee", "Default": "true"}
    assert found["Components"][0]["Details"]["KernelVersion"] == "6.1"


async def test_info(call: Call) -> None:
    found = await (await call("GET", "/info")).json()
    assert [found[f"Containers{kind}"] for kind in ("", "Running", "Paused", "Stopped")] == [3, 1, 1, 1]
    assert found["Images"] == 2
    assert (found["DefaultRuntime"], list(found["Runtimes"])) == ("crun", ["crun", "runc"])
    assert found["Runtimes"]["runc"]["status"]["io.gantry.problem"] == "cgroup trouble"
    assert found["RuncCommit"]["ID"] == "c0ffee"
    assert found["DefaultAddressPools"] == [{"Base": "10.0.0.0/8", "Size": 24}]
    assert found["RegistryConfig"]["InsecureRegistryCIDRs"] == ["::1/128", "127.0.0.0/8", "10.0.0.0/8"]
    assert found["RegistryConfig"]["IndexConfigs"]["reg:5000"]["Secure"] is False
    assert "WARNING: No swap limit support" in found["Warnings"]
    assert "WARNING: one more" in found["Warnings"]
    assert found["NEventsListener"] == 3
    assert found["FirewallBackend"] == {"Driver": "nftables"}
    assert "FirewallBackend" not in await (await call("GET", "/v1.48/info")).json()


async def test_info_has_every_field_of_the_api(call: Call) -> None:
    found = await (await call("GET", "/info")).json()
    for name in ("ID", "Driver", "DriverStatus", "Plugins", "OomKillDisable", "NGoroutines", "SystemTime", "Swarm",
                 "LoggingDriver", "CgroupDriver", "CgroupVersion", "OSType", "IndexServerAddress", "InitBinary",
                 "LiveRestoreEnabled", "SecurityOptions", "DockerRootDir", "Isolation", "ServerVersion"):  # fmt: skip
        assert name in found


async def test_check_names_the_command_that_installs_a_part(call: Call) -> None:
    parts = {part["name"]: part for part in (await (await call("GET", "/_gantry/check")).json())["parts"]}
    assert parts["crun"]["problem"] == ""
    assert parts["runc"]["problem"] == "cgroup trouble"
    assert {"conmon", "nft", "git", "mmdebstrap"} <= parts.keys()
    for part in parts.values():
        assert part["install"] == "" or part["install"].startswith("apt-get install ")


async def test_traces_are_the_last_32(call: Call, system: System) -> None:
    for number in range(40):
        with trace.tracing(f"start {number}") as made, trace.span("netns"):
            pass
        system.record_trace(made)
    found = await (await call("GET", "/_gantry/traces")).json()
    assert [each["name"] for each in found] == [f"start {number}" for number in range(8, 40)]
    assert found[0]["spans"][0].keys() == {"name", "start_us", "duration_us", "depth"}
    assert found[0]["duration_us"] >= found[0]["spans"][0]["duration_us"]


async def test_login_says_that_it_cannot(call: Call) -> None:
    answer = await call("POST", "/auth", json={"username": "a"})
    assert answer.status == 501
    assert "login is not supported" in (await answer.json())["message"]


async def read(answer: ClientResponse, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        return [json.loads(await answer.content.readline()) for _ in range(count)]


async def test_events_follow_and_old_clients_see_the_older_fields(call: Call, events: EventBus) -> None:
    old = await call("GET", '/v1.41/events?filters={"type":["container"]}')
    new = await call("GET", "/v1.52/events")
    assert (old.content_type, new.content_type) == ("application/json", "application/jsonl")
    events.publish("network", "create", "n1", {"name": "net"})
    made = events.publish("container", "start", "c1", {"image": "me/app", "name": "web"})
    [event] = await read(old, 1)
    actor = {"ID": "c1", "Attributes": {"image": "me/app", "name": "web"}}
    modern = {
        "Type": "container", "Action": "start", "Actor": actor, "scope": "local", "time": made.time // 10**9,
        "timeNano": made.time,
    }  # fmt: skip
    assert event == {"status": "start", "id": "c1", "from": "me/app", **modern}
    assert (await read(new, 2))[1] == modern
    old.close()
    new.close()


async def test_events_of_the_past_end(call: Call, events: EventBus) -> None:
    before = timestamp.now()
    for action in ("create", "start", "die"):
        events.publish("container", action, "c1", {})
    now = (timestamp.now() + 1000) / 1e9
    answer = await call("GET", f"/events?since={before / 1e9:.9f}&until={now:.9f}")
    async with asyncio.timeout(5):
        lines = (await answer.text()).splitlines()
    assert [json.loads(line)["Action"] for line in lines] == ["create", "start", "die"]


async def test_json_sequences(call: Call, events: EventBus) -> None:
    answer = await call("GET", "/events", headers={"Accept": "application/json-seq"})
    events.publish("daemon", "reload", "d", {})
    assert answer.content_type == "application/json-seq"
    assert (await answer.content.readline()).startswith(b'\x1e{"Type":"daemon"')
    answer.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=abc", 'strconv.ParseInt: parsing "abc": invalid syntax'),
        ("since=5&until=4", "`since` time (5) cannot be after `until` time (4)"),
        ("filters=x", "invalid filter"),
    ],
)
async def test_bad_event_queries(call: Call, query: str, message: str) -> None:
    answer = await call("GET", f"/events?{query}")
    assert (answer.status, await answer.json()) == (400, {"message": message})


async def test_disk_usage_of_old_clients(call: Call) -> None:
    found = await (await call("GET", "/v1.41/system/df")).json()
    assert found["LayersSize"] == 117, "blobs and files"
    assert [(each["Size"], each["SharedSize"], each["Containers"]) for each in found["Images"]] == [
        (105, 105, 0),
        (117, 105, 3),
    ]
    assert [(each["SizeRw"], each["SizeRootFs"]) for each in found["Containers"]] == [(11, 118), (11, 118), (0, 107)]
    sizes = {each["Name"]: each["UsageData"] for each in found["Volumes"]}
    assert sizes == {"used": {"Size": 8192, "RefCount": 1}, "idle": {"Size": 0, "RefCount": 0}}
    assert found["BuilderSize"] == 70
    assert found["BuildCache"][0] == {
        "ID": "ab", "Type": "regular", "Description": "RUN true", "InUse": False, "Shared": False, "Size": 70,
        "CreatedAt": "1970-01-01T00:00:01Z", "LastUsedAt": None, "UsageCount": 3,
    }  # fmt: skip


async def test_disk_usage_by_type_and_in_totals(call: Call) -> None:
    only = await (await call("GET", "/v1.45/system/df?type=image&type=volume")).json()
    assert only.keys() == {"LayersSize", "Images", "Volumes"}
    totals = await (await call("GET", "/v1.52/system/df")).json()
    assert totals["ImageUsage"] == {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 0, "TotalSize": 117}
    assert totals["ContainerUsage"] == {"ActiveCount": 2, "TotalCount": 3, "Reclaimable": 0, "TotalSize": 22}
    verbose = await (await call("GET", "/v1.52/system/df?verbose=1&type=container")).json()
    assert len(verbose["ContainerUsage"]["Items"]) == 3
    assert (await call("GET", "/system/df?type=nope")).status == 400
