"""`POST /build` over HTTP, on fake rooms: parameters, progress, errors, and a client that hangs up."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gantry.api import build as api
from gantry.api.app import application
from gantry.wire import build as wire
from unit.build.conftest import context_tar
from unit.build.fakes import Workshop


class Api:
    def __init__(self, shop: Workshop, client: "TestClient[Any, Any]") -> None:
        self.shop = shop
        self.client = client
        self.status = 0

    async def __call__(self, dockerfile: str | bytes, query: str = "", **headers: str) -> list[dict[str, Any]]:
        """The messages of one build (or the error document, as one message)."""
        body = dockerfile if isinstance(dockerfile, bytes) else context_tar({"Dockerfile": dockerfile, "f": "1"})
        async with self.client.post(
            f"/v1.47/build?{query}", data=body, headers={"Content-Type": "application/x-tar", **headers}
        ) as answer:
            self.status = answer.status
            assert answer.content_type == "application/json"
            return [json.loads(line) for line in (await answer.text()).splitlines()]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Api]:
    shop = Workshop(tmp_path)
    await shop.base()
    app = application(api.routes(shop.builder))
    async with TestClient(TestServer(app, handler_cancellation=True)) as client:
        yield Api(shop, client)
    await shop.builder.close()
    shop.nothing_left()


async def test_a_build(build: Api) -> None:
    messages = await build("FROM busybox\nCOPY f /f\n", "t=a&t=b:2&labels=%7B%22x%22%3A%22y%22%7D")
    assert build.status == 200
    assert messages[:2] == [{"stream": "Step 1/3 : FROM busybox"}, {"stream": "\n"}]
    image = build.shop.images.names["b:2"]
    assert build.shop.images.names["a:latest"] == image
    assert {"aux": {"ID": image}} in messages
    assert messages[-3:] == [
        {"stream": f"Successfully built {image[7:19]}\n"},
        {"stream": "Successfully tagged a:latest\n"},
        {"stream": "Successfully tagged b:2\n"},
    ]
    assert (await build.shop.images.get(image)).config.labels == {"x": "y"}


async def test_limits_and_arguments_arrive(build: Api) -> None:
    query = (
        "buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&memory=1000000&memswap=-1&cpushares=5&cpuperiod=100000"
        "&cpuquota=50000&cpusetcpus=0&shmsize=67108864&extrahosts=h:1.2.3.4&extrahosts=i:5.6.7.8&nocache=1&hostca=1"
        "&networkmode=none&ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Hard%22%3A9%2C%22Soft%22%3A8%7D%5D"
    )
    await build("FROM busybox\nARG A\nRUN x\n", query)
    (task,) = build.shop.runtime.specs
    limits = task.host_config
    assert (limits.memory, limits.memory_swap, limits.cpu_shares) == (1000000, -1, 5)
    assert (limits.cpu_period, limits.cpu_quota, limits.cpuset_cpus) == (100000, 50000, "0")
    assert (limits.shm_size, limits.extra_hosts) == (67108864, ["h:1.2.3.4", "i:5.6.7.8"])
    assert limits.ulimits is not None
    assert (limits.ulimits[0].name, limits.ulimits[0].hard) == ("nofile", 9)
    assert "A=1" in task.process.env
    assert task.ca_bundle
    assert build.shop.runtime.attached == []


async def test_a_failed_step_is_the_last_message(build: Api) -> None:
    build.shop.runtime.commands["exit 3"] = lambda root, env, args: (3, b"", b"")
    messages = await build("FROM busybox\nRUN exit 3\n")
    words = "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
    assert build.status == 200
    assert messages[-1] == {"errorDetail": {"code": 3, "message": words}, "error": words}


@pytest.mark.parametrize(
    ("dockerfile", "query", "status", "words"),
    [
        ("FORM x\n", "", 400, "dockerfile parse error on line 1: unknown instruction: FORM (did you mean FROM?)"),
        ("", "", 400, "the Dockerfile (Dockerfile) cannot be empty"),
        ("FROM busybox\n", "t=A:B:c", 400, "invalid reference format"),
        ("FROM busybox\n", "buildargs=x", 400, "error reading build args"),
        ("FROM busybox\n", "labels=1", 400, "error reading labels"),
        ("FROM busybox\n", "cachefrom=x", 400, "error reading cache-from"),
        ("FROM busybox\n", "ulimits=x", 400, "error reading ulimit settings"),
        ("FROM busybox\n", "shmsize=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("FROM busybox\n", "version=2", 400, "DOCKER_BUILDKIT=0"),
        ("FROM busybox\n", "version=3", 400, 'invalid version "3"'),
        ("FROM busybox\n", "squash=1", 400, "squash is only supported with experimental mode"),
        ("FROM busybox\n", "isolation=x", 400, 'unsupported isolation: "x"'),
        ("FROM busybox\n", "outputs=%5B%7B%7D%5D", 501, "outputs are only supported with BuildKit"),
        ("FROM busybox\n", "networkmode=container:x", 501, "cannot join the network of a container"),
        ("FROM busybox\n", "platform=a/b/c/d", 400, "a/b/c/d"),
        ("FROM busybox\n", "dockerfile=../x", 400, "forbidden path outside the build context: ../x ()"),
        ("FROM busybox\n", "dockerfile=nope", 400, "Cannot locate specified Dockerfile: nope"),
        ("FROM busybox\n", "remote=http://127.0.0.1:1/x", 503, "error downloading remote context http://127.0.0.1:1/x"),
        ("FROM busybox\n", "remote=client-session", 501, "DOCKER_BUILDKIT=0"),
        ("FROM busybox\n", "remote=/etc/passwd", 400, "remote must be a git repository or an http(s) URL"),
        (b"garbage", "", 400, "unexpected EOF"),
        (b"", "", 400, "Cannot locate specified Dockerfile: Dockerfile"),
    ],
)
async def test_what_is_refused_before_anything_runs(
    build: Api, dockerfile: str | bytes, query: str, status: int, words: str
) -> None:
    (message,) = await build(dockerfile, query)
    assert build.status == status
    assert words in message["message"]


async def test_vertexes(build: Api) -> None:
    messages = await build("FROM busybox\nENV A=1\nEXPOSE x\n", "progress=vertex")
    assert messages[-2] == {
        "source": {
            "file": "Dockerfile",
            "line": 3,
            "excerpt": "  1 | FROM busybox\n  2 | ENV A=1\n> 3 | EXPOSE x\n  4 |",
        }
    }
    assert messages[-1]["error"] == "Invalid containerPort: x"
    messages = await build("FROM busybox\nENV A=1\n", "progress=vertex&t=x")
    assert all(set(message) <= {"vertex", "status", "log", "aux"} for message in messages)
    assert {"aux": {"ID": build.shop.images.names["x:latest"]}} in messages


async def test_a_client_that_hangs_up_stops_its_build(build: Api) -> None:
    build.shop.runtime.hang = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(build("FROM busybox\nRUN slow\n"))
        while not build.shop.runtime.specs:
            await asyncio.sleep(0.01)
        task.cancel()
    await build.shop.settled()
    assert not build.shop.runtime.alive


async def test_prune(build: Api) -> None:
    await build("FROM busybox\nENV A=1\n")
    async with build.client.post("/v1.47/build/prune?filters=%7B%22until%22%3A%5B%221h%22%5D%7D") as answer:
        assert await answer.json() == {"CachesDeleted": None, "SpaceReclaimed": 0}
    async with build.client.post("/v1.47/build/prune?all=1") as answer:
        assert len((await answer.json())["CachesDeleted"]) == 1
    async with build.client.post("/v1.47/build/prune?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D") as answer:
        assert answer.status == 400
    async with build.client.post("/v1.47/build/cancel") as answer:
        assert answer.status == 400


def test_registry_credentials() -> None:
    plain = {"https://index.docker.io/v1/": {"username": "a"}, "https://r.example:5000/v2/": {"password": "b"}, "x": 1}
    header = base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")
    found = wire.decode_registry_config(header)
    assert found.keys() == {"docker.io", "r.example:5000"}
    assert json.loads(base64.urlsafe_b64decode(found["docker.io"])) == {"username": "a"}
    assert wire.decode_registry_config("%%%") == {}
    assert wire.decode_registry_config(base64.urlsafe_b64encode(b"[1]").decode()) == {}
