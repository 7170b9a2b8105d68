"""`RUN --mount`: what is asked for, and what a step sees and leaves."""

import contextlib
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.build.errors import DockerfileError, StepFailed
from gantry.build.mount_points import Stubs
from gantry.build.run_mounts import MountRequest, origin_of, parse_mount
from gantry.errors import InvalidArgument
from unit.build.conftest import Bench
from unit.build.fakes import Workshop

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1)


def read(text: str) -> MountRequest:
    return parse_mount(text, lambda word: word.replace("$X", "/from-x"), 7)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("target=/x", MountRequest(target="/x", read_only=True)),
        ("type=bind,dst=/x,rw", MountRequest(target="/x")),
        ("destination=$X,src=a,from=s,ro=false", MountRequest(target="/from-x", source="a", origin="s")),
        ("type=cache,target=/c/", MountRequest(kind="cache", target="/c/", id="/c")),
        (
            "type=cache,target=/c,id=i,sharing=locked,mode=0700,uid=1,gid=2,readonly",
            MountRequest(kind="cache", target="/c", id="i", sharing="locked", mode=0o700, uid=1, gid=2, read_only=True),
        ),
        ("type=tmpfs,target=/t,size=10m", MountRequest(kind="tmpfs", target="/t", size=10 << 20)),
        ("type=secret,id=s", MountRequest(kind="secret", target="/run/secrets/s", id="s")),
        ("type=secret,target=/a/b", MountRequest(kind="secret", target="/a/b", id="b")),
        ("type=secret,id=s,env=S,required", MountRequest(kind="secret", id="s", variable="S", required=True)),
        ("type=ssh", MountRequest(kind="ssh", id="default")),
        ('"target=/a,b"', MountRequest(target="/a,b", read_only=True)),
    ],
)
def test_what_is_asked_for(text: str, wanted: MountRequest) -> None:
    assert read(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=foo,target=/x", 'unsupported mount type "foo"'),
        ("type=bnd,target=/x", 'unsupported mount type "bnd" (did you mean bind?)'),
        ("type=cache", 'invalid mount target "/"'),
        ("target=/", 'invalid mount target "/"'),
        ("type=cache,target=/x,sharing=foo", 'unsupported sharing value "foo"'),
        ("type=cache,target=/x,bar=1", "unexpected key 'bar' in 'bar=1'"),
        ("type=cache,target=/x,bar", "invalid field 'bar' must be a key=value pair"),
        ("type=cache,target=/x,ro=maybe", "invalid value for ro: maybe"),
        ("type=bind,target=/x,uid=3", 'uid not allowed for "bind" type mounts'),
        ("type=cache,target=/x,uid=a", "invalid value a for uid"),
        ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=tmpfs,target=/x,size=abc", "invalid value for size: abc"),
        ("target=/x,required", "unexpected key 'required' for mount type 'bind'"),
        ("", "dockerfile parse error on line 7: failed to parse csv mounts: EOF"),
    ],
)
def test_mistakes_in_a_mount(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        read(text)
    assert caught.value.message == message
    assert caught.value.line == 7


@given(st.text(max_size=60))
def test_any_text_is_a_mount_or_a_mistake(text: str) -> None:
    with contextlib.suppress(DockerfileError):
        read(text)
    origin_of(text)


@given(TEXTS, st.booleans())
def test_targets_are_kept_to_the_letter(name: str, rw: bool) -> None:
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow([f"target=/{name}", "rw" if rw else "ro"])
    if name.strip("/") and "$X" not in name:
        assert read(row.getvalue()) == MountRequest(target=f"/{name}", read_only=not rw)


async def test_a_step_sees_context_stage_and_image(shop: Workshop, build: Bench) -> None:
    await shop.base("other")

    def one(root: Path, env: dict[str, str], args: list[str]) -> tuple[int, bytes, bytes]:
        (root / "made").write_text("1")
        return 0, b"", b""

    shop.runtime.commands["one"] = one
    await build(
        "FROM busybox AS first\nRUN one\nFROM busybox\n"
        "RUN --mount=target=/ctx,source=d --mount=from=first,source=made,target=/m --mount=from=other,target=o two\n",
        {"d/": "", "d/f": "hello"},
    )
    seen = {point.destination: point for point in shop.runtime.specs[-1].mounts}
    assert sorted(seen) == ["/ctx", "/m", "/o"]
    assert not any(point.read_write for point in seen.values())
    assert seen["/ctx"].source.endswith("/context/d")


async def test_the_content_of_a_mount_is_part_of_the_key(shop: Workshop, build: Bench) -> None:
    text = "FROM busybox\nRUN --mount=target=/c,source=d x\n"
    await build(text, {"d/": "", "d/f": "1", "other": "1"})
    await build(text, {"d/": "", "d/f": "1", "other": "2"})
    assert len(shop.runtime.specs) == 1
    await build(text, {"d/": "", "d/f": "2", "other": "2"})
    assert len(shop.runtime.specs) == 2
    with pytest.raises(StepFailed, match='"/d": not found'):
        await build(text, {"other": "2"})


async def test_caches_stay_and_are_no_part_of_the_key(shop: Workshop, build: Bench) -> None:
    places = []

    def fill(root: Path, env: dict[str, str], args: list[str]) -> tuple[int, bytes, bytes]:
        place = Path(shop.runtime.specs[-1].mounts[0].source)
        places.append(place)
        before = (place / "n").read_text() if (place / "n").exists() else ""
        (place / "n").write_text(before + "x")
        return 0, b"", b""

    shop.runtime.commands["fill"] = fill
    for number in range(3):
        await build(f"FROM busybox\nENV N={number}\nRUN --mount=type=cache,target=/c,mode=0750 fill\n")
    assert len(set(places)) == 1
    assert (places[0] / "n").read_text() == "xxx"
    assert places[0].stat().st_mode & 0o7777 == 0o750
    await build("FROM busybox\nENV N=1\nRUN --mount=type=cache,target=/c,mode=0750 fill\n")
    assert len(places) == 3, "the step is remembered, whatever the cache holds by now"


async def test_secrets_are_lent_and_forgotten(shop: Workshop, build: Bench) -> None:
    told: dict[str, object] = {}

    def look(root: Path, env: dict[str, str], args: list[str]) -> tuple[int, bytes, bytes]:
        (point,) = shop.runtime.specs[-1].mounts
        path = Path(point.source)
        told.update(env, content=path.read_text(), mode=path.stat().st_mode & 0o7777, path=path)
        return 0, b"", b""

    shop.runtime.commands["look"] = look
    text = "FROM busybox\nRUN --mount=type=secret,id=a,env=A,target=/run/a --mount=type=secret,id=none,target=/n look\n"
    await build(text, secrets={"a": b"hush"})
    assert (told["content"], told["A"], told["mode"]) == ("hush", "hush", 0o400)
    assert isinstance(told["path"], Path)
    assert not told["path"].exists()
    await build(text, secrets={"a": b"other"})
    assert len(shop.runtime.specs) == 1, "a secret is no part of the key"
    with pytest.raises(StepFailed, match="secret a: not found"):
        await build("FROM busybox\nRUN --mount=type=secret,id=a,required look\n")


async def test_named_contexts(shop: Workshop, build: Bench) -> None:
    await shop.base("other")
    files = {".gantry-context-0/": "", ".gantry-context-0/f": "named", "f": "main"}
    image = await build(
        "FROM img\nCOPY --from=dir f /a\nCOPY f /b\nRUN --mount=from=dir,target=/d look\n", files,
        contexts={"dir": "context:0", "img": "docker-image://other"},
    )  # fmt: skip
    assert (shop.files(image) / "a").read_text() == "named"
    assert (shop.files(image) / "b").read_text() == "main"
    assert (shop.files(image) / "bin/sh").read_text() == "other"
    image = await build("FROM dir\nCOPY f /c\n", files, contexts={"dir": "context:0"})
    assert sorted(path.name for path in shop.files(image).iterdir()) == ["c", "f"]
    for hostile in ({".gantry-context-0": "-> /etc"}, {".gantry-context-0": "x"}, {}):
        with pytest.raises(InvalidArgument, match="announced and not sent"):
            await build("FROM busybox\nCOPY --from=dir passwd /p\n", hostile, contexts={"dir": "context:0"})


def test_stubs_go_where_they_are_empty(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("/nowhere")
    (tmp_path / "in").symlink_to("there")
    before = (tmp_path / "there").stat().st_mtime_ns
    stubs = Stubs(tmp_path, ["/there", "/there/x/y", "/a/b/c", "/full/d", "/link/z", "/in/w"])
    for directory in ("there/x/y", "a/b/c", "full/d", "there/w"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "full" / "kept").write_text("1")
    stubs.remove(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["full", "full/kept", "in", "link", "there"]
    assert (tmp_path / "there").stat().st_mtime_ns == before


def test_stubs_are_never_removed_through_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    (outside / "b").mkdir(parents=True)
    stubs = Stubs(root, ["/a/b"])
    (root / "a").symlink_to(outside)  # the step put it there
    stubs.remove(root)
    assert (outside / "b").is_dir()
