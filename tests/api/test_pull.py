"""Pulling from a registry that misbehaves: every pull ends right, or fails cleanly and goes on where it broke off."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gantry.api.app import application
from gantry.api.images import routes
from gantry.model.platform import Platform
from gantry.oci.zstandard import zstd
from gantry.registry.settings import RegistrySettings
from lib.archives import descriptor, directory, member, sha256, tar
from lib.image_room import ImageRoom
from lib.registry import OCI_GZIP, OCI_INDEX, OCI_MANIFEST, FakeRegistry, error_answer, once

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers have owners")

HOST = Platform.host().architecture
BASE = tar(directory("etc", mode=0o700, uid=7), member("etc/base", b"base"))
TOP = tar(member("etc/top", b"top!"), member("etc/.wh.base"))
BIG = tar(member("big", os.urandom(3 << 20)))


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
async def server(registry: FakeRegistry) -> AsyncIterator[TestServer]:
    async with registry.server() as server:
        yield server


@pytest.fixture
def settings(server: TestServer) -> RegistrySettings:
    return RegistrySettings(attempts=3, certificates=())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gantry.registry.transport.pause", lambda *_: 0.0)
    monkeypatch.setattr("gantry.registry.download.pause", lambda *_: 0.0)


@pytest.fixture
async def room(tmp_path: Path, settings: RegistrySettings) -> AsyncIterator[ImageRoom]:
    room = ImageRoom(tmp_path, settings)
    yield room
    await room.close()


Pull = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
async def pull(room: ImageRoom, server: TestServer) -> AsyncIterator[Pull]:
    """Pull through the API; returns the messages. An error, plain or in the stream, comes as `{"error": …}`."""
    async with TestClient(TestServer(application(routes(room.images)))) as client:

        async def pull(name: str, tag: str = "latest", platform: str = "", **auth: str) -> list[dict[str, Any]]:
            query = {"fromImage": f"{server.host}:{server.port}/{name}", "tag": tag, "platform": platform}
            headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()} if auth else {}
            async with client.post("/images/create", params=query, headers=headers) as response:
                body = await response.read()
                if response.status != 200:
                    return [{"error": json.loads(body)["message"], "code": response.status}]
                return [json.loads(line) for line in body.splitlines()]

        yield pull


def last(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1].get("error") or messages[-1].get("status"))


def served(registry: FakeRegistry, *digests: str) -> int:
    return sum(registry.served[digest] for digest in digests)


# ------------------------------------------------------------------------------------------- what is right


async def test_a_pull(pull: Pull, registry: FakeRegistry, room: ImageRoom, server: TestServer) -> None:
    digest = registry.add_image("me/app", "latest", [BASE, TOP])
    name = f"{server.host}:{server.port}/me/app"
    messages = await pull("me/app")
    short = [layer[7:19] for layer in registry.layers("me/app", "latest")]
    texts = [(message.get("id"), message.get("status")) for message in messages]
    assert texts[0] == ("latest", "Pulling from me/app")
    assert texts[-2:] == [(None, f"Digest: {digest}"), (None, f"Status: Downloaded newer image for {name}:latest")]
    for layer in short:
        own = [status for found, status in texts if found == layer]
        assert own[0] == "Pulling fs layer"
        assert own[-1] == "Pull complete"
    image = await room.images.get(f"{name}:latest")
    assert (image.id, image.repo_digests) == (digest, (f"{name}@{digest}",))
    assert room.file(f"{name}:latest", "etc/top").read_bytes() == b"top!"
    status = room.snapshots.layers(image.chain_id)[0].joinpath("etc").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o700, 7), "an undescribed directory looks as below"
    assert last(await pull("me/app")) == f"Status: Image is up to date for {name}:latest"
    assert last(await pull("me/app", digest)) == f"Status: Downloaded newer image for {name}@{digest}"
    assert not room.contents()[2]


async def test_compressions_and_an_unchanged_manifest(pull: Pull, registry: FakeRegistry, room: ImageRoom) -> None:
    kinds = {
        "plain": (BASE, "application/vnd.oci.image.layer.v1.tar"),
        "zstd": (zstd.compress(BASE), "application/vnd.oci.image.layer.v1.tar+zstd"),
        "docker": (gzip.compress(BASE), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    }
    for name, (blob, kind) in kinds.items():
        media_type, config = OCI_MANIFEST, "application/vnd.oci.image.config.v1+json"
        if name == "docker":
            media_type = "application/vnd.docker.distribution.manifest.v2+json"
            config = "application/vnd.docker.container.image.v1+json"
        digest = registry.add_image(
            name, "latest", [BASE], blobs=[blob], layer_type=kind, media_type=media_type, config_type=config
        )
        assert last(await pull(name)).startswith("Status: Downloaded newer image")
        assert room.content.read(digest, 1 << 20) == registry.manifests[name, "latest"][1]


async def test_an_index_keeps_all_manifests_and_takes_the_hosts_platform(
    pull: Pull, registry: FakeRegistry, room: ImageRoom, server: TestServer
) -> None:
    other = "s390x"
    mine = registry.add_image("multi", "", [BASE, TOP], architecture=HOST)
    theirs = registry.add_image("multi", "", [TOP], architecture=other)
    index = registry.add_index("multi", "latest", {f"linux/{other}": theirs, f"linux/{HOST}": mine})
    assert last(await pull("multi")).startswith("Status: Downloaded newer image")
    name = f"{server.host}:{server.port}/multi:latest"
    image = await room.images.get(name)
    assert (image.id, image.manifest) == (index, mine)
    blobs, _, _ = room.contents()
    assert {index, mine, theirs} <= blobs
    assert last(await pull("multi", platform=f"linux/{other}")).startswith("Status: Image is up to date")
    assert (await room.images.get(name)).manifest == mine
    assert (await room.images.get(name, Platform("linux", other))).manifest == theirs
    assert "no matching manifest for linux/riscv64" in last(await pull("multi", platform="linux/riscv64"))


def nested(registry: FakeRegistry, name: str, inner: str, platform: dict[str, str] | None = None) -> str:
    """An index whose only part is the index `inner`; it has the tag latest."""
    media_type, data = registry.manifests[name, inner]
    entry = {**descriptor(data, media_type), **({"platform": platform} if platform else {})}
    return registry.add_index(name, "latest", {}, manifests=[entry])


async def test_an_index_in_an_index_is_searched(
    pull: Pull, registry: FakeRegistry, room: ImageRoom, server: TestServer, tmp_path: Path
) -> None:
    mine = registry.add_image("app", "", [BASE, TOP], architecture=HOST)
    theirs = registry.add_image("app", "", [TOP], architecture="s390x")
    inner = registry.add_index("app", "", {"linux/s390x": theirs, f"linux/{HOST}": mine})
    top = nested(registry, "app", inner)
    assert last(await pull("app")).startswith("Status: Downloaded newer image")
    name = f"{server.host}:{server.port}/app:latest"
    image = await room.images.get(name)
    assert (image.id, image.manifest) == (top, mine)
    assert {top, inner, mine, theirs} <= room.contents()[0]
    room.images.collector.collect(grace=0)
    assert {top, inner, mine, theirs} <= room.contents()[0]
    shown = [part.descriptor.digest for part in await room.images.manifests(image)]
    assert shown == [theirs, mine]
    with (tmp_path / "one.tar").open("wb") as out:
        room.images.save([name], out, Platform("linux", HOST))
    assert "no matching manifest for linux/riscv64" in last(await pull("app", platform="linux/riscv64"))
    # One level more is searched too, then it ends.
    third = nested(registry, "app", top, {"os": "linux", "architecture": HOST})
    assert last(await pull("app")).startswith("Status: Downloaded newer image")
    assert (await room.images.get(name)).manifest == mine
    fourth = nested(registry, "app", third)
    assert fourth
    assert f"no matching manifest for linux/{HOST}" in last(await pull("app"))


async def test_a_digest_of_another_algorithm_is_refused(pull: Pull, registry: FakeRegistry, room: ImageRoom) -> None:
    mine = registry.add_image("app", "", [BASE], architecture=HOST)
    media_type, data = registry.manifests["app", mine]
    digest = "sha512:" + hashlib.sha512(data).hexdigest()
    registry.manifests["app", digest] = media_type, data
    entry = {**descriptor(data, media_type), "digest": digest, "platform": {"os": "linux", "architecture": HOST}}
    registry.add_index("app", "latest", {}, manifests=[entry])
    assert "unsupported digest algorithm" in last(await pull("app"))
    assert room.contents() == (set(), set(), set())


async def test_two_equal_layers_and_none(pull: Pull, registry: FakeRegistry) -> None:
    registry.add_image("twice", "latest", [BASE, BASE, TOP, BASE])
    assert last(await pull("twice")).startswith("Status: Downloaded newer image")
    registry.add_image("empty", "latest", [])
    assert last(await pull("empty")).startswith("Status: Downloaded newer image")


async def test_all_tags_over_pages(pull: Pull, registry: FakeRegistry, room: ImageRoom) -> None:
    for number in range(5):
        registry.add_image("many", f"v{number}", [BASE], author=str(number))
    messages = await pull("many", "")
    assert last(messages).startswith("Status: Downloaded newer image for")
    assert sum("Digest:" in message.get("status", "") for message in messages) == 5
    assert len(room.images.store.records()) == 5


async def test_pulls_at_once_share_the_work(pull: Pull, registry: FakeRegistry) -> None:
    registry.add_image("big", "latest", [BIG, BASE])
    registry.add_image("other", "latest", [BIG, TOP])
    for digest in registry.blobs:
        registry.owners[digest] |= {"big", "other"}
    registry.chunk = 256 << 10

    async def slowly(request: web.Request) -> None:
        await asyncio.sleep(0.05)

    registry.faults.append(once("GET .*blobs", slowly, times=100))
    answers = await asyncio.gather(pull("big"), pull("big"), pull("other"), pull("big"))
    assert all("Status:" in last(messages) for messages in answers)
    big = registry.layers("big", "latest")[0]
    assert registry.served[big] == len(registry.blobs[big])


# -------------------------------------------------------------------------------------------- interruptions


async def test_a_cut_connection_goes_on_where_it_broke_off(pull: Pull, registry: FakeRegistry) -> None:
    registry.add_image("big", "latest", [BIG])
    layer = registry.layers("big", "latest")[0]

    async def cut(request: web.Request) -> web.StreamResponse:
        return await registry.send(request, layer, registry.blobs[layer], cut=500_000)

    registry.faults.append(once(f"GET .*blobs/{layer}", cut, times=5))
    assert last(await pull("big")).startswith("Status: Downloaded newer image")
    assert served(registry, layer) == len(registry.blobs[layer]), "no byte comes twice"


async def test_a_dead_daemon_goes_on_where_it_broke_off(
    tmp_path: Path, registry: FakeRegistry, server: TestServer, settings: RegistrySettings
) -> None:
    """Five daemons, each ended in the middle of the pull and begun anew on the same data."""
    registry.add_image("big", "latest", [BASE, BIG, TOP])
    layers = registry.layers("big", "latest")
    name = f"{server.host}:{server.port}/big:latest"
    blobs = {layer: len(registry.blobs[layer]) for layer in layers}
    stop = asyncio.Event()

    async def cut(request: web.Request) -> web.StreamResponse | None:
        answer = await registry.send(request, layers[1], registry.blobs[layers[1]], cut=500_000)
        stop.set()
        return answer

    async def hang(request: web.Request) -> web.StreamResponse | None:
        if stop.is_set():
            await asyncio.Event().wait()
        return None

    registry.faults += [hang, once(f"GET .*blobs/{layers[1]}", cut, times=5)]
    for _ in range(5):
        room = ImageRoom(tmp_path, settings)
        await room.images.start()
        task = room.owner.spawn(room.images.pull(name, None, lambda _: None))
        await stop.wait()
        await asyncio.sleep(0.05)  # what was sent arrives
        task.cancel()
        await asyncio.wait({task})
        await room.close()
        stop.clear()
    room = ImageRoom(tmp_path, settings)
    await room.images.start()
    await room.images.pull(name, None, lambda _: None)
    await room.close()
    assert served(registry, *layers) <= 1.1 * sum(blobs.values())
    assert served(registry, layers[0], layers[2]) == blobs[layers[0]] + blobs[layers[2]]


async def test_large_blobs_come_in_parallel_ranges(
    pull: Pull, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gantry.registry.download._SEGMENT", 300_000)
    monkeypatch.setattr("gantry.registry.download._LARGE", 600_000)
    registry.add_image("big", "latest", [BIG])
    layer = registry.layers("big", "latest")[0]
    registry.faults.append(
        once(f"GET .*blobs/{layer}", lambda r: registry.send(r, layer, registry.blobs[layer], cut=9))
    )
    assert last(await pull("big")).startswith("Status: Downloaded newer image")
    ranges = [headers["Range"] for method, path, headers in registry.requests if path.endswith(layer)]
    assert len(ranges) >= 10
    assert served(registry, layer) == len(registry.blobs[layer])


async def test_a_registry_without_ranges(pull: Pull, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gantry.registry.download._SEGMENT", 300_000)
    monkeypatch.setattr("gantry.registry.download._LARGE", 600_000)
    registry.ranges = False
    registry.add_image("big", "latest", [BIG])
    assert last(await pull("big")).startswith("Status: Downloaded newer image")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_answers_that_are_worth_another_attempt(pull: Pull, registry: FakeRegistry, status: int) -> None:
    registry.add_image("app", "latest", [BASE])

    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Retry-After": "1"})

    registry.faults += [once("GET .*manifests", busy, 2), once("GET .*blobs", busy, 2)]
    assert last(await pull("app")).startswith("Status: Downloaded newer image")


async def test_a_registry_that_stays_out_of_order(pull: Pull, registry: FakeRegistry, room: ImageRoom) -> None:
    registry.add_image("app", "latest", [BASE, TOP])
    layer = registry.layers("app", "latest")[1]

    async def broken(request: web.Request) -> web.StreamResponse:
        return error_answer(500, "UNKNOWN", "disk on fire")

    fault = once(f"GET .*{layer}", broken, 100)
    registry.faults.append(fault)
    assert "unknown: disk on fire" in last(await pull("app"))
    assert not room.images.store.records()
    registry.faults.clear()
    assert last(await pull("app")).startswith("Status: Downloaded newer image")
    first = registry.layers("app", "latest")[0]
    assert served(registry, first) == len(registry.blobs[first]), "what had come before is not fetched again"


async def test_parts_of_an_interrupted_pull_can_be_let_go(pull: Pull, registry: FakeRegistry, room: ImageRoom) -> None:
    registry.add_image("app", "latest", [BASE, BIG])
    layer = registry.layers("app", "latest")[1]
    registry.faults.append(
        once(f"GET .*{layer}", lambda r: registry.send(r, layer, registry.blobs[layer], cut=500_000), 1)
    )

    async def gone(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    registry.faults.append(once(f"GET .*{layer}", gone, 100))
    assert "error" in (await pull("app"))[-1]
    room.images.collector.collect(grace=0)
    blobs, snapshots, ingest = room.contents()
    assert blobs
    assert ingest
    freed = room.puller.forget_unfinished()
    assert freed >= 500_000
    room.images.collector.collect(grace=0)
    assert room.contents() == (set(), set(), set())


# ---------------------------------------------------------------------------------------------------- lies


Damage = Callable[[FakeRegistry], None]


def _change_manifest(registry: FakeRegistry, **fields: Any) -> None:
    media_type, data = registry.manifests["app", "latest"]
    registry.add_manifest("app", "latest", json.loads(data) | fields, media_type)


def _wrong_digest(registry: FakeRegistry) -> None:
    layer = registry.layers("app", "latest")[0]
    registry.blobs[layer] = registry.blobs[layer][:-1] + bytes([registry.blobs[layer][-1] ^ 1])


def _other_content(registry: FakeRegistry) -> None:
    layer = registry.layers("app", "latest")[0]
    other = gzip.compress(TOP + bytes(512), 1, mtime=0)
    registry.blobs[layer] = (other + bytes(len(registry.blobs[layer])))[: len(registry.blobs[layer])]


def _longer(registry: FakeRegistry) -> None:
    registry.blobs[registry.layers("app", "latest")[0]] += b"more"


def _longer_without_saying(registry: FakeRegistry) -> None:
    layer = registry.layers("app", "latest")[0]

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Connection": "close"})
        await response.prepare(request)
        for _ in range(100):
            await response.write(registry.blobs[layer])
        return response

    registry.faults.append(once(f"GET .*{layer}", endless, 9))


def _shorter(registry: FakeRegistry) -> None:
    layer = registry.layers("app", "latest")[0]
    registry.blobs[layer] = registry.blobs[layer][:-9]


def _wrong_diff_id(registry: FakeRegistry) -> None:
    registry.add_image("app", "latest", [BASE], diff_ids=[sha256(TOP)])


def _fewer_diff_ids(registry: FakeRegistry) -> None:
    registry.add_image("app", "latest", [BASE, TOP], diff_ids=[sha256(BASE)])


def _bomb(registry: FakeRegistry) -> None:
    out = io.BytesIO()
    with zstd.ZstdFile(out, "w") as file:
        for _ in range(40):
            file.write(bytes(64 << 20))
    kind = "application/vnd.oci.image.layer.v1.tar+zstd"
    registry.add_image("app", "latest", [BASE], blobs=[out.getvalue()], layer_type=kind)


def _escape(registry: FakeRegistry) -> None:
    registry.add_image("app", "latest", [tar(member("../../evil", b"x"))])


def _no_tar(registry: FakeRegistry) -> None:
    registry.add_image("app", "latest", [b"not a tar" * 100])


def _both_kinds(registry: FakeRegistry) -> None:
    _change_manifest(registry, manifests=[])


def _other_type_inside(registry: FakeRegistry) -> None:
    _change_manifest(registry, mediaType=OCI_INDEX)


def _manifest_as_index(registry: FakeRegistry) -> None:
    data = json.loads(registry.manifests["app", "latest"][1])
    del data["mediaType"]
    registry.add_manifest("app", "latest", data, OCI_INDEX)


def _large_manifest(registry: FakeRegistry) -> None:
    _change_manifest(registry, annotations={"a": "x" * (5 << 20)})


def _deep_manifest(registry: FakeRegistry) -> None:
    data = registry.manifests["app", "latest"][1][:-1] + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    registry.add_manifest("app", "latest", data, OCI_MANIFEST)


def _deep_config(registry: FakeRegistry) -> None:
    about = b'{"rootfs": {"type": "layers", "diff_ids": []}, "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    registry.add_blob(about, "app")
    _change_manifest(registry, config=descriptor(about, "application/vnd.oci.image.config.v1+json"), layers=[])


def _schema_1(registry: FakeRegistry) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    registry.add_manifest("app", "latest", {"schemaVersion": 1, "fsLayers": [], "history": []}, kind)


def _foreign(registry: FakeRegistry) -> None:
    layer = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 3, "digest": sha256(b"abc"),
        "urls": ["http://169.254.169.254/latest"],
    }  # fmt: skip
    _change_manifest(registry, layers=[layer])


def _negative(registry: FakeRegistry) -> None:
    _change_manifest(registry, layers=[{"mediaType": OCI_GZIP, "size": -1, "digest": sha256(b"abc")}])


def _bad_digest(registry: FakeRegistry) -> None:
    _change_manifest(registry, layers=[{"mediaType": OCI_GZIP, "size": 1, "digest": "sha256:../../../etc"}])


def _artifact(registry: FakeRegistry) -> None:
    about = b"{}"
    registry.add_blob(about, "app")
    _change_manifest(registry, config=descriptor(about, "application/vnd.cncf.helm.config.v1+json"))


def _lying_header(registry: FakeRegistry) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        media_type, data = registry.manifests["app", "latest"]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": sha256(b"something else")}
        return web.Response(body=data, headers=headers)

    registry.faults.append(once("GET .*manifests", answer))


def _wrong_range(registry: FakeRegistry) -> None:
    layer = registry.layers("app", "latest")[0]

    async def answer(request: web.Request) -> web.StreamResponse:
        data = registry.blobs[layer]
        return web.Response(
            status=206, body=data[1:], headers={"Content-Range": f"bytes 1-{len(data) - 1}/{len(data)}"}
        )

    registry.faults.append(once(f"GET .*{layer}", answer, 9))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_wrong_digest, "filesystem layer verification failed for digest"),
        (_other_content, ""),
        (_longer, "the manifest says"),
        (_longer_without_saying, "more than the announced"),
        (_shorter, "the manifest says"),
        (_wrong_diff_id, "wrong diff id calculated on extraction"),
        (_fewer_diff_ids, "layers length mismatch: expected 1, got 2"),
        (_bomb, "expands to more than its compressed size allows"),
        (_escape, 'invalid entry name "../../evil"'),
        (_no_tar, "archive/tar: invalid tar header"),
        (_both_kinds, "must not have 'config' or 'layers'"),
        (_other_type_inside, "contradict each other"),
        (_manifest_as_index, "document is no"),
        (_large_manifest, "at most 4194304 are accepted"),
        (_deep_manifest, "recursion"),
        (_deep_config, "recursion"),
        (_schema_1, "schema 1 is not supported"),
        (_foreign, "at a foreign URL (http://169.254.169.254/latest)"),
        (_negative, "invalid size"),
        (_bad_digest, "invalid digest format"),
        (_artifact, "is an artifact, not an image"),
        (_lying_header, "manifest verification failed for digest"),
        (_wrong_range, "was answered"),
    ],
)
async def test_lies_are_refused_and_leave_nothing(
    pull: Pull, registry: FakeRegistry, room: ImageRoom, damage: Damage, words: str
) -> None:
    registry.add_image("app", "latest", [BASE, TOP])
    damage(registry)
    messages = await pull("app")
    assert "error" in messages[-1], messages
    assert words in messages[-1]["error"]
    assert room.contents() == (set(), set(), set())
    assert not room.images.store.records()


async def test_a_manifest_by_digest_must_have_it(pull: Pull, registry: FakeRegistry, room: ImageRoom) -> None:
    digest = registry.add_image("app", "latest", [BASE])
    other = registry.add_image("app", "other", [TOP])
    registry.manifests["app", digest] = registry.manifests["app", other]
    assert "manifest verification failed for digest" in last(await pull("app", digest))
    assert room.contents() == (set(), set(), set())


async def test_what_an_earlier_attempt_spoilt_is_fetched_again(
    pull: Pull, registry: FakeRegistry, room: ImageRoom
) -> None:
    registry.add_image("app", "latest", [BIG])
    layer = registry.layers("app", "latest")[0]
    wrong = bytes(len(registry.blobs[layer]))

    partial = room.content.partial(layer, len(wrong))
    partial.write(0, [wrong[: 1 << 20]])
    partial.close()
    assert last(await pull("app")).startswith("Status: Downloaded newer image")


# ------------------------------------------------------------------------------------ what is not there


async def test_unknown_names_in_dockers_words(pull: Pull, registry: FakeRegistry, server: TestServer) -> None:
    registry.add_image("app", "latest", [BASE])
    name = f"{server.host}:{server.port}/app"
    (answer,) = await pull("app", "nope")
    assert answer == {"error": f"manifest for {name}:nope not found: manifest unknown: manifest unknown", "code": 404}
