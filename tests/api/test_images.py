"""The `/images` operations over HTTP, on a real store in a temporary directory. Expectations were taken from Docker."""

import asyncio
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gantry.api.app import application
from gantry.api.images import routes
from gantry.engine.events import EventBus
from gantry.engine.images import Images
from gantry.model.container import ContainerConfig
from gantry.model.image import HistoryEntry
from gantry.model.platform import Platform
from gantry.oci import documents
from gantry.oci.zstandard import zstd
from gantry.store.content import BlobStore
from gantry.store.layers import OverlayLayers
from gantry.store.leases import MemoryLeases
from gantry.store.snapshots import OverlaySnapshotter
from gantry.store.state import SQLiteState
from lib.archives import directory, docker_archive, member, oci_archive, sha256, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers have owners")

Call = Callable[..., Awaitable[Any]]
TAR = {"Content-Type": "application/x-tar"}
HOST = Platform.host().architecture
BASE = tar(directory("etc"), member("etc/base", b"base"))
TOP = tar(member("etc/top", b"top!"), member("etc/.wh.base"))


class Room:
    """A store with its use cases and routes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = SQLiteState(root / "state.db")
        self.content = BlobStore(root / "content")
        self.snapshots = OverlaySnapshotter(root / "snap", self.state)
        self.layers = OverlayLayers(self.content, self.snapshots, root / "mounts")
        self.events = EventBus()
        self.images = Images(self.state, self.content, self.snapshots, self.layers, MemoryLeases(), self.events)

    def contents(self) -> tuple[set[str], set[str]]:
        """The digests of all blobs, and the keys of all snapshots."""
        return {blob.digest for blob in self.content.walk()}, {info.key for info in self.snapshots.walk()}

    def is_empty(self) -> bool:
        return self.contents() == (set(), set()) and not list((self.root / "content/ingest").iterdir())

    def actions(self) -> list[tuple[str, str]]:
        return [(event.action, event.attributes.get("name", "")) for event in self.events._history]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    yield room
    room.state.close()


@pytest.fixture
async def call(room: Room) -> AsyncIterator[Call]:
    async with TestClient(TestServer(application(routes(room.images)))) as client:

        async def call(
            method: str, path: str, data: bytes | None = None, *, status: int = 200, raw: bool = False, **query: Any
        ) -> Any:
            params = [(k, v) for k, values in query.items() for v in (values if isinstance(values, list) else [values])]
            sent, headers = (None, None) if data is None else (io.BytesIO(data), TAR)
            async with client.request(method, path, data=sent, params=params, headers=headers) as r:
                body = await r.read()
                assert r.status == status, body
                if raw:
                    return body
                if method == "POST" and path.rpartition("/")[2] in ("load", "create") and status == 200:
                    return [json.loads(line) for line in body.splitlines()]
                return json.loads(body) if body else None

        yield call


def filters(**wanted: list[str]) -> str:
    return json.dumps({key.replace("_not", "!"): values for key, values in wanted.items()})


async def load(call: Call, archive: bytes, **query: str) -> str:
    """What was printed, or the error."""
    lines = await call("POST", "/images/load", archive, **query)
    assert all(line["error"] == line["errorDetail"]["message"] for line in lines if "error" in line)
    return "".join(line.get("stream", "") + line.get("error", "") for line in lines)


# ------------------------------------------------------------------------------------------------ load


async def test_load_list_inspect_history(call: Call, room: Room) -> None:
    history = [
        {"created": "2024-01-02T03:04:05.6Z", "created_by": "base", "comment": "first"},
        {"created": "2024-01-02T03:04:06Z", "created_by": "ENV a=b", "empty_layer": True},
        {"created": "2024-01-02T03:04:07Z", "created_by": "top"},
    ]
    fields = {
        "architecture": HOST, "created": "2024-01-02T03:04:07Z", "author": "me", "history": history,
        "config": {
            "Cmd": ["sh"], "Env": ["a=b"], "Labels": {"l": "1"}, "Healthcheck": {"Test": ["CMD", "x"]}, "Volumes": None,
        },
    }  # fmt: skip
    assert await load(call, docker_archive([BASE, TOP], "me/app:1", "me/app:latest", **fields)) == (
        "Loaded image: me/app:1\nLoaded image: me/app:latest\n"
    )
    (found,) = await call("GET", "/images/json")
    assert found["RepoTags"] == ["me/app:1", "me/app:latest"]
    assert found["Size"] == len("base") + len("top!")
    assert found["Created"] == 1704164647
    assert (found["ParentId"], found["SharedSize"], found["Containers"], found["Labels"]) == ("", -1, -1, {"l": "1"})
    about = await call("GET", "/images/me/app/json")
    assert about["Id"] == found["Id"] == about["Descriptor"]["digest"]
    assert about["RootFS"] == {"Type": "layers", "Layers": [sha256(BASE), sha256(TOP)]}
    assert about["Config"] == {
        "Cmd": ["sh"], "Entrypoint": None, "Env": ["a=b"], "Labels": {"l": "1"}, "OnBuild": None, "User": "",
        "Volumes": None, "WorkingDir": "", "Healthcheck": {"Test": ["CMD", "x"]},
    }  # fmt: skip
    assert (about["Author"], about["Architecture"], about["Os"], about["Size"]) == ("me", HOST, "linux", 8)
    lines = await call("GET", "/images/me/app/history")
    assert [(line["CreatedBy"], line["Size"], line["Id"], line["Tags"]) for line in lines] == [
        ("top", 4, found["Id"], ["me/app:1", "me/app:latest"]),
        ("ENV a=b", 0, "<missing>", None),
        ("base", 4, "<missing>", None),
    ]
    assert room.actions() == [("load", found["Id"])]
    assert room.events._history[0].attributes["l"] == "1"
    image = await room.images.get("me/app")
    assert sorted(path.name for path in room.snapshots.upper(image.chain_id).rglob("*")) == [
        ".wh.base"[4:],
        "etc",
        "top",
    ]


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, lzma.compress])
async def test_compressed_archives_and_layers(call: Call, room: Room, compress: Callable[[bytes], bytes]) -> None:
    assert await load(call, compress(docker_archive([BASE], "a:1"))) == "Loaded image: a:1\n"
    archive = docker_archive([compress(BASE)], "b:1", diff_ids=[sha256(BASE)])
    assert await load(call, archive) == "Loaded image: b:1\n"
    a, b = await room.images.get("a:1"), await room.images.get("b:1")
    assert a.chain_id == b.chain_id == sha256(BASE)


async def test_an_oci_layout(call: Call, room: Room) -> None:
    layers = [
        (gzip.compress(BASE), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (TOP, "application/vnd.oci.image.layer.v1.tar"),
    ]
    archive = oci_archive(layers, "example.com/team/app:v2", [sha256(BASE), sha256(TOP)], architecture=HOST)
    assert await load(call, archive) == "Loaded image: example.com/team/app:v2\n"
    nameless = oci_archive(layers[:1], "", [sha256(BASE)], architecture=HOST)
    assert (await load(call, nameless)).startswith("Loaded image ID: sha256:")
    assert [image["RepoTags"] for image in await call("GET", "/images/json")].count([]) == 1


async def test_layers_that_are_links(call: Call) -> None:
    config_file = docker_archive([BASE, BASE], "l:1")
    with tarfile.open(fileobj=io.BytesIO(config_file)) as archive:
        config = archive.extractfile("config.json").read()  # type: ignore[union-attr]
    manifest = [{"Config": "config.json", "RepoTags": ["l:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    made = tar(
        member("a/layer.tar", BASE), symlink("b/layer.tar", "../a/layer.tar"), member("config.json", config),
        member("manifest.json", json.dumps(manifest).encode()),
    )  # fmt: skip
    assert await load(call, made) == "Loaded image: l:1\n"


async def test_a_name_moves_to_the_image_that_is_loaded(call: Call) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    old = (await call("GET", "/images/a:1/json"))["Id"]
    said = await load(call, docker_archive([TOP], "a:1"))
    assert (
        said == f"The image a:1 already exists, renaming the old one with ID {old} to empty string\nLoaded image: a:1\n"
    )
    assert (await call("GET", f"/images/{old}/json"))["RepoTags"] == []


async def test_progress_unless_quiet(call: Call) -> None:
    big = tar(member("big", os.urandom(3_000_000)))
    lines = await call("POST", "/images/load", docker_archive([big], "p:1"))
    assert any(line.get("status") == "Loading layer" for line in lines)
    assert lines[-1] == {"stream": "Loaded image: p:1\n"}
    lines = await call("POST", "/images/load", docker_archive([big], "p:1"), quiet="1")
    assert lines == [{"stream": "Loaded image: p:1\n"}]


HOSTILE = [
    ("not a tar", b"garbage" * 1000, "archive/tar: invalid tar header"),
    ("empty", b"", "manifest.json: no such file or directory"),
    ("cut", docker_archive([BASE], "x:1")[:3000], "unexpected EOF"),
    ("gzip cut", gzip.compress(docker_archive([os.urandom(5000)], "x:1"))[:3000], "unexpected EOF"),
    (
        "wrong diff ID",
        docker_archive([BASE], "x:1", diff_ids=["sha256:" + "0" * 64]),
        f'invalid diffID for layer 0: expected "sha256:{"0" * 64}", got "{sha256(BASE)}"',
    ),
    (
        "wrong diff ID, compressed",
        docker_archive([gzip.compress(BASE)], "x:1", diff_ids=["sha256:" + "0" * 64]),
        "wrong diff id",
    ),
    ("diff ID of no form", docker_archive([BASE], "x:1", diff_ids=["sha256:../../x"]), "invalid digest format"),
    (
        "layers missing",
        docker_archive([BASE], "x:1", diff_ids=[]),
        "invalid manifest, layers length mismatch: expected 0, got 1",
    ),
    (
        "manifest is not JSON",
        docker_archive([BASE], "x:1", files={"manifest.json": b"not json"}),
        "invalid manifest.json",
    ),
    ("deep manifest", docker_archive([BASE], "x:1", files={"manifest.json": b"[" * 200_000}), "invalid manifest.json"),
    (
        "config is not JSON",
        docker_archive([BASE], "x:1", files={"config.json": b"not json"}),
        "invalid image configuration",
    ),
    ("large manifest", docker_archive([BASE], "x:1", files={"manifest.json": b" " * (5 << 20)}), "at most 4194304"),
    ("bad name", docker_archive([BASE], "X/Bad:1"), "must be lowercase"),
    ("layer is no tar", docker_archive([b"no tar at all" * 100], "x:1"), "archive/tar: invalid tar header"),
    ("name leaves the root", docker_archive([tar(member("../x", b""))], "x:1"), 'invalid entry name "../x"'),
    (
        "through a link",
        docker_archive([tar(symlink("d", "../../../tmp"), member("d/x", b""))], "x:1"),
        "statat d: path escapes from parent",
    ),
    ("second layer is bad", docker_archive([BASE, b"x" * 600], "x:1"), "invalid tar header"),
    (
        "a file is missing",
        docker_archive([BASE], "x:1", files={"manifest.json": b'[{"Config":"no.json"}]'}),
        "open no.json: no such file",
    ),
    (
        "links in a circle",
        tar(symlink("a", "b"), symlink("b", "a"), member("manifest.json", b'[{"Config":"a"}]')),
        "open a: no such file",
    ),
    (
        "blob under another digest",
        oci_archive([(BASE, "application/vnd.oci.image.layer.v1.tar")], "x:1", [sha256(TOP)]),
        "wrong diff id",
    ),
]


@pytest.mark.parametrize(("archive", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_what_is_no_archive_leaves_nothing(call: Call, room: Room, archive: bytes, message: str) -> None:
    said = await load(call, archive)
    assert message in said
    assert "\n" not in said
    assert await call("GET", "/images/json", all="1") == []
    assert room.is_empty()


async def test_a_blob_that_is_not_what_its_name_says(call: Call, room: Room) -> None:
    good = oci_archive([(BASE, "application/vnd.oci.image.layer.v1.tar")], "x:1", [sha256(BASE)])
    said = await load(call, good.replace(b"base" + bytes(508), b"evil" + bytes(508)))
    assert f'invalid digest: expected "{sha256(BASE)}"' in said
    assert room.is_empty()


async def test_a_failed_load_leaves_what_was_there(call: Call, room: Room) -> None:
    await load(call, docker_archive([BASE], "good:1"))
    before = room.contents()
    await load(call, docker_archive([BASE, b"x" * 600], "bad:1"))
    assert room.contents() == before
    assert (await room.images.get("good:1")).chain_id == sha256(BASE)


async def test_an_upload_that_breaks_off_leaves_nothing(room: Room) -> None:
    async with TestServer(application(routes(room.images))) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = docker_archive([tar(member("f", os.urandom(2_000_000)))], "x:1")
        writer.write(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body[:1_000_000])
        await writer.drain()
        writer.close()
        for _ in range(200):
            await asyncio.sleep(0.02)
            if room.is_empty():
                break
        assert room.is_empty()
        assert room.images.store.records() == []


async def test_many_loads_at_once_unpack_once(call: Call, room: Room) -> None:
    archives = [docker_archive([BASE, TOP], f"n:{number}", comment=str(number)) for number in range(6)]
    said = await asyncio.gather(*(load(call, archive) for archive in archives))
    assert said == [f"Loaded image: n:{number}\n" for number in range(6)]
    assert len(list(room.snapshots.walk())) == 2


# ------------------------------------------------------------------------------------------------ save


async def test_save_and_load_again(call: Call, room: Room, tmp_path: Path) -> None:
    await load(call, docker_archive([BASE, TOP], "a:1", "a:2"))
    await load(call, docker_archive([BASE], "b:1"))
    before = {image["Id"]: image["RepoTags"] for image in await call("GET", "/images/json")}
    saved = await call("GET", "/images/get", raw=True, names=["a", "b:1"])
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        names = archive.getnames()
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        repositories = json.load(archive.extractfile("repositories"))  # type: ignore[arg-type]
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert len(names) == len(set(names))
    assert [item["RepoTags"] for item in manifest] == [["a:1", "a:2"], ["b:1"]]
    assert manifest[0]["Layers"] == ["blobs/" + sha256(layer).replace(":", "/") for layer in (BASE, TOP)]
    assert set(repositories) == {"a", "b"}
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        "docker.io/library/a:1", "docker.io/library/a:2", "docker.io/library/b:1",
    ]  # fmt: skip
    other = Room(tmp_path / "other")
    async with TestClient(TestServer(application(routes(other.images)))) as client:
        async with client.post("/images/load", data=saved, headers=TAR) as response:
            assert b"Loaded image: a:1" in await response.read()
        async with client.get("/images/json") as response:
            assert {image["Id"]: image["RepoTags"] for image in await response.json()} == before
    other.state.close()


async def test_save_by_id_has_no_names(call: Call) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    image_id = (await call("GET", "/images/a:1/json"))["Id"]
    saved = await call("GET", f"/images/{image_id[7:19]}/get", raw=True)
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        assert json.load(archive.extractfile("manifest.json"))[0]["RepoTags"] is None  # type: ignore[arg-type]
        assert "repositories" not in archive.getnames()
    await call("GET", "/images/nosuch/get", status=404)


# ---------------------------------------------------------------------------------------------- import


async def test_import(call: Call, room: Room) -> None:
    lines = await call(
        "POST", "/images/create", gzip.compress(BASE), fromSrc="-", repo="im/port", tag="1", message="hello",
        changes=["CMD foo", 'ENV a=b c="d e"', "EXPOSE 80", "LABEL k=v"],
    )  # fmt: skip
    (line,) = lines
    about = await call("GET", "/images/im/port:1/json")
    assert line == {"status": about["Id"]}
    assert about["Comment"] == "hello"
    assert about["Config"]["Cmd"] == ["/bin/sh", "-c", "foo"]
    assert about["Config"]["Env"] == ["a=b", "c=d e"]
    assert about["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert about["RootFS"]["Layers"] == [sha256(BASE)]
    (entry,) = await call("GET", "/images/im/port:1/history")
    assert (entry["Comment"], entry["Size"]) == ("hello", 4)
    assert room.actions() == [("tag", "im/port:1"), ("import", about["Id"])]


@pytest.mark.parametrize(
    ("data", "query", "status", "message"),
    [
        (b"garbage" * 1000, {"repo": "x"}, 500, "archive/tar: invalid tar header"),
        (BASE[:700], {"repo": "x"}, 500, "unexpected EOF"),
        (BASE, {"repo": "x", "changes": "FOO x"}, 400, "FOO is not a valid change command"),
        (BASE, {"repo": "x", "changes": "RUN x"}, 400, "RUN is not a valid change command"),
        (BASE, {"repo": "Bad"}, 400, "must be lowercase"),
        (BASE, {"repo": "x", "tag": "a b"}, 400, "invalid tag format"),
        (BASE, {"repo": "x", "platform": "///"}, 400, "unknown operating system or architecture"),
    ],
)
async def test_bad_imports(
    call: Call, room: Room, data: bytes, query: dict[str, str], status: int, message: str
) -> None:
    answer = await call("POST", "/images/create", data, status=status, fromSrc="-", **query)
    assert message in answer["message"]
    assert room.is_empty()


async def test_pull_without_a_registry_client(call: Call) -> None:
    answer = await call("POST", "/images/create", status=503, fromImage="busybox", tag="latest")
    assert "no registry client" in answer["message"]
    await call("POST", "/images/create", status=400, fromImage="BAD")
    assert await call("POST", "/images/create", status=400, fromImage="foo", tag="a b") == {
        "message": "invalid tag format"
    }


# ---------------------------------------------------------------------------------------- names, lists


async def test_names_and_what_they_mean(call: Call) -> None:
    await load(call, docker_archive([BASE], "a:latest"))
    image_id = (await call("GET", "/images/a/json"))["Id"]
    for name in ("a:latest", "docker.io/library/a", image_id, image_id[7:], image_id[7:19], f"a@{image_id}"):
        assert (await call("GET", f"/images/{name}/json"))["Id"] == image_id
    for name, message in (
        ("nosuch", "No such image: nosuch:latest"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ("0" * 64, "No such image: sha256:" + "0" * 64),
        (f"b@{image_id}", f"No such image: b@{image_id}"),
    ):
        assert await call("GET", f"/images/{name}/json", status=404) == {"message": message}
    assert (await call("GET", "/images/BAD/json", status=400))["message"].endswith("must be lowercase")


async def test_a_prefix_of_several_images(call: Call, room: Room) -> None:
    for number in range(40):
        room.images.store._records[f"sha256:{number % 10}{number:063d}"] = None  # type: ignore[assignment]
    assert await call("GET", "/images/1/json", status=404) == {"message": "ambiguous reference"}


async def test_platforms(call: Call) -> None:
    await load(call, docker_archive([BASE], "a:1", architecture="arm64"))
    assert (await call("GET", "/images/a:1/json", platform='{"os":"linux","architecture":"arm64"}'))[
        "Architecture"
    ] == "arm64"
    answer = await call("GET", "/images/a:1/json", status=404, platform="linux/s390x")
    assert answer["message"] == (
        "image with reference a:1 was found but its platform (linux/arm64) "
        "does not match the specified platform (linux/s390x)"
    )


async def test_tag(call: Call, room: Room) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    await call("POST", "/images/a:1/tag", status=201, repo="localhost:5000/x/y", tag="v1")
    assert (await call("GET", "/images/a:1/json"))["RepoTags"] == ["a:1", "localhost:5000/x/y:v1"]
    await call("POST", "/images/a:1/tag", status=201, repo="b")
    for status, query, message in (
        (400, {"repo": "X", "tag": "y"}, "must be lowercase"),
        (400, {"repo": "sha256"}, "refusing to create an ambiguous tag using digest algorithm as name"),
        (400, {"repo": "x@sha256:" + "0" * 64}, "digest reference"),
        (400, {"repo": ""}, "invalid reference format"),
    ):
        assert message in (await call("POST", "/images/a:1/tag", status=status, **query))["message"]
    await call("POST", "/images/nosuch/tag", status=404, repo="x")
    assert room.actions()[1:] == [("tag", "localhost:5000/x/y:v1"), ("tag", "b:latest")]


async def test_list_filters(call: Call) -> None:
    for name, day, labels in (("me/app:1", 1, {"a": "1"}), ("me/app:2", 2, {"a": "2"}), ("other:1", 3, None)):
        about = {"created": f"2024-01-0{day}T00:00:00Z", "config": {"Labels": labels}}
        await load(call, docker_archive([BASE], name, **about))
    await load(call, docker_archive([TOP], "other:1", created="2024-01-04T00:00:00Z"))  # leaves one without a name

    async def listed(**wanted: list[str]) -> list[str]:
        return [",".join(image["RepoTags"]) for image in await call("GET", "/images/json", filters=filters(**wanted))]

    assert await listed() == ["other:1", "", "me/app:2", "me/app:1"]
    assert await listed(dangling=["true"]) == [""]
    assert await listed(dangling=["0"]) == ["other:1", "me/app:2", "me/app:1"]
    assert await listed(label=["a"]) == ["me/app:2", "me/app:1"]
    assert await listed(label=["a=2"]) == ["me/app:2"]
    assert await listed(label_not=["a=2"]) == ["other:1", "", "me/app:1"]
    assert await listed(before=["me/app:2"]) == ["me/app:1"]
    assert await listed(since=["me/app:2"]) == ["other:1", ""]
    assert await listed(until=["2024-01-02T12:00:00Z"]) == ["me/app:2", "me/app:1"]
    assert await listed(reference=["me/app"]) == ["me/app:2", "me/app:1"]
    assert await listed(reference=["*:1"]) == ["other:1"]
    assert await listed(reference=["*/*:1"]) == ["me/app:1"]
    assert await listed(reference=["me/[a-b]pp:?"]) == ["me/app:2", "me/app:1"]
    for wanted, status, message in (
        ({"foo": ["x"]}, 400, "invalid filter 'foo'"),
        ({"dangling": ["x"]}, 400, "invalid filter 'dangling=[x]'"),
        ({"before": ["nosuch"]}, 404, "No such image: nosuch:latest"),
        ({"reference": ["[x"]}, 400, "syntax error in pattern"),
    ):
        answer = await call("GET", "/images/json", status=status, filters=filters(**wanted))
        assert answer == {"message": message}


async def test_what_older_versions_show(call: Call) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    await load(call, docker_archive([TOP], "a:1"))
    _, old = sorted(await call("GET", "/v1.42/images/json"), key=lambda image: image["RepoTags"], reverse=True)
    assert (old["RepoTags"], old["RepoDigests"], old["VirtualSize"]) == (["<none>:<none>"], ["<none>@<none>"], 4)
    assert "Descriptor" not in old
    about = await call("GET", "/v1.43/images/a:1/json")
    assert about["VirtualSize"] == 4
    assert about["Config"]["AttachStdin"] is False
    assert "Hostname" in about["ContainerConfig"]


async def test_shared_size(call: Call, room: Room) -> None:
    room.images.containers_using = lambda image_id: [("c", True)]
    await load(call, docker_archive([BASE], "a:1"))
    await load(call, docker_archive([BASE, TOP], "b:1"))
    found = await call("GET", "/images/json", **{"shared-size": "1"})
    assert {(image["RepoTags"][0], image["Size"], image["SharedSize"], image["Containers"]) for image in found} == {
        ("a:1", 4, 4, 1), ("b:1", 8, 4, 1),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------- remove


async def test_untag_then_delete(call: Call, room: Room) -> None:
    await load(call, docker_archive([BASE], "a:1", "a:2"))
    image_id = (await call("GET", "/images/a:1/json"))["Id"]
    assert await call("DELETE", "/images/a:1") == [{"Untagged": "a:1"}]
    assert await call("DELETE", "/images/a:2") == [
        {"Untagged": "a:2"},
        {"Deleted": image_id},
        {"Deleted": sha256(BASE)},
    ]
    assert room.is_empty()
    assert room.actions()[1:] == [("untag", image_id), ("untag", image_id), ("delete", image_id)]
    assert await call("DELETE", "/images/a:2", status=404) == {"message": "No such image: a:2"}


async def test_delete_by_id(call: Call, room: Room) -> None:
    await load(call, docker_archive([BASE], "a:1", "b:1"))
    image_id = (await call("GET", "/images/a:1/json"))["Id"]
    short = image_id[7:19]
    assert await call("DELETE", f"/images/{short}", status=409) == {
        "message": f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    }
    assert await call("DELETE", f"/images/{short}", force="1") == [
        {"Untagged": "a:1"}, {"Untagged": "b:1"}, {"Deleted": image_id}, {"Deleted": sha256(BASE)},
    ]  # fmt: skip
    assert room.is_empty()


async def test_layers_that_others_need_stay(call: Call, room: Room) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    before = room.contents()
    await load(call, docker_archive([BASE, TOP], "b:1"))
    answer = await call("DELETE", "/images/b:1")
    assert len(answer) == 3
    assert answer[0] == {"Untagged": "b:1"}
    assert room.contents() == before


async def test_images_in_use(call: Call, room: Room) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    image = await room.images.get("a:1")
    short, container = image.id[7:19], "c" * 64
    room.images.containers_using = lambda image_id: [(container, running)]
    running = False
    assert await call("DELETE", "/images/a:1", status=409) == {
        "message": 'conflict: unable to remove repository reference "a:1" (must force) - container '
        f"{'c' * 12} is using its referenced image {short}"
    }
    assert await call("DELETE", f"/images/{short}", status=409) == {
        "message": f"conflict: unable to delete {short} (must be forced) - "
        f"image is being used by stopped container {'c' * 12}"
    }
    running = True
    assert await call("DELETE", f"/images/{short}", status=409, force="1") == {
        "message": f"conflict: unable to delete {short} (cannot be forced) - "
        f"image is being used by running container {'c' * 12}"
    }
    assert await call("DELETE", "/images/a:1", force="1") == [{"Untagged": "a:1"}]
    assert (await call("GET", f"/images/{short}/json"))["RepoTags"] == []
    running = False
    room.snapshots.prepare(container, image.chain_id)
    assert await call("DELETE", f"/images/{short}", force="1") == [{"Deleted": image.id}]
    assert room.snapshots.mounts(container)


async def build(room: Room, *names: str) -> list[str]:
    """A chain of images as a classic build makes them; the last has the names."""
    parent, made = "", []
    for number in range(3):
        history = [HistoryEntry(created_by=f"step {n}", empty_layer=True) for n in range(number + 1)]
        config = ContainerConfig(env=[f"n={number}"])
        image = await room.images.add(config, [], history, platform=Platform.host(), parent=parent)
        parent = image.id
        made.append(parent)
    for name in names:
        await room.images.tag(parent, name)
    return made


async def test_intermediate_images(call: Call, room: Room) -> None:
    made = await build(room, "built:1")
    assert [image["Id"] for image in await call("GET", "/images/json")] == [made[2]]
    assert {image["Id"] for image in await call("GET", "/images/json", all="1")} == set(made)
    lines = await call("GET", "/images/built:1/history")
    assert [(line["CreatedBy"], line["Id"]) for line in lines] == [
        ("step 2", made[2]), ("step 1", made[1]), ("step 0", made[0]),
    ]  # fmt: skip
    short = made[0][7:19]
    assert await call("DELETE", f"/images/{short}", status=409, force="1") == {
        "message": f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
    }
    answer = await call("DELETE", "/images/built:1", noprune="1")
    assert answer == [{"Untagged": "built:1"}, {"Deleted": made[2]}]
    assert await call("DELETE", f"/images/{made[1]}") == [{"Deleted": made[1]}, {"Deleted": made[0]}]
    assert room.is_empty()


async def test_new_documents_say_what_they_are(call: Call, room: Room) -> None:
    """OCI 1.1: `mediaType` in the manifests that we make and in the layout's index."""
    image = (await call("POST", "/images/create", BASE, fromSrc="-", repo="made"))[-1]["status"]
    manifest = json.loads(room.content.read(image, 1 << 20))
    assert manifest["mediaType"] == documents.OCI_MANIFEST
    assert manifest["config"]["mediaType"] == documents.OCI_CONFIG
    index = json.loads((room.root / "content/index.json").read_bytes())
    assert index["mediaType"] == documents.OCI_INDEX
    assert [part["digest"] for part in index["manifests"]] == [image]


async def test_the_same_content_is_the_same_image(room: Room) -> None:
    when = "2024-01-01T00:00:00Z"
    first = await room.images.add(ContainerConfig(user="u"), [], [], platform=Platform.host(), created=when)
    again = await room.images.add(ContainerConfig(user="u"), [], [], platform=Platform.host(), created=when)
    assert first.id == again.id


async def test_prune(call: Call, room: Room) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    await load(call, docker_archive([TOP], "a:1", config={"Labels": {"keep": "me"}}))
    await load(call, docker_archive([tar(member("f", b"x" * 9))], "used:1"))
    used = (await room.images.get("used:1")).id
    room.images.containers_using = lambda image_id: [("c" * 64, False)] if image_id == used else []
    answer = await call("POST", "/images/prune")
    assert len(answer["ImagesDeleted"]) == 2
    assert answer["SpaceReclaimed"] > len(BASE)
    assert room.actions()[-1] == ("prune", "")
    answer = await call("POST", "/images/prune", filters=filters(dangling=["false"], label_not=["keep"]))
    assert answer == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    answer = await call("POST", "/images/prune", filters=filters(dangling=["false"]))
    assert answer["ImagesDeleted"][0] == {"Untagged": "a:1"}
    assert [image["Id"] for image in await call("GET", "/images/json")] == [used]
    assert await call("POST", "/images/prune", status=400, filters=filters(foo=["x"])) == {
        "message": "invalid filter 'foo'"
    }


# ----------------------------------------------------------------------------------- crashes, garbage


async def test_a_restart_finds_the_images_and_clears_the_rest(call: Call, room: Room, tmp_path: Path) -> None:
    await load(call, docker_archive([BASE], "a:1"))
    before = room.contents()
    with room.content.writer() as writer:
        writer.write(b"of a load that was killed")
        writer.commit()
    room.snapshots.prepare("extract-killed", "")
    room.snapshots.prepare("making", "")
    room.snapshots.commit(sha256(b"orphan"), "making")
    room.state.close()
    again = Room(tmp_path)
    await again.images.start()
    assert again.contents() == before
    assert (await again.images.get("a:1")).repo_tags == ("a:1",)
    index = json.loads((tmp_path / "content/index.json").read_bytes())
    assert index["manifests"][0]["annotations"] == {"org.opencontainers.image.ref.name": "docker.io/library/a:1"}
    again.state.close()


async def test_the_collector_leaves_what_a_lease_or_a_root_names(room: Room) -> None:
    layer = room.images._import_layer(io.BytesIO(BASE))
    with room.images._leases.lease(layer.digest):
        assert room.images.collector.collect(grace=0).blobs == ()
    room.images.collector.roots.append(lambda: [layer.digest])
    assert room.images.collector.collect(grace=0).blobs == ()
    room.images.collector.roots.clear()
    assert room.images.collector.collect().blobs == ()  # young: somebody may be making something of it
    assert room.images.collector.collect(grace=0).blobs == (layer.digest,)
