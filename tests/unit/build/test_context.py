"""Build contexts: tars as they come, git references, the Dockerfile in them."""

import asyncio
import bz2
import contextlib
import gzip
import lzma
from pathlib import Path

import pytest

from gantry.build import context, git
from gantry.build.fetch import file_name, is_git
from gantry.errors import GantryError, InvalidArgument
from unit.build.conftest import context_tar


async def receive(data: bytes, directory: Path, piece: int = 1000) -> None:
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]

    async def read() -> bytes:
        return pieces.pop(0) if pieces else b""

    await context.receive(read, directory)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
async def test_tars(tmp_path: Path, pack: "type[bytes]") -> None:
    await receive(pack(context_tar({"a/": "", "a/f": "1", "l": "-> a/f"})), tmp_path)
    assert (tmp_path / "l").read_text() == "1"


@pytest.mark.parametrize("data", [b"garbage" * 200, gzip.compress(b"x" * 2000), context_tar({"f": "1" * 3000})[:1500]])
async def test_what_is_no_tar(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        await receive(data, tmp_path)


async def test_names_cannot_leave_the_context(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(InvalidArgument):
        await receive(context_tar({"../out": "x"}), inside)
    with contextlib.suppress(InvalidArgument):  # refused, or kept inside: never written outside
        await receive(context_tar({"l": f"-> {tmp_path}", "l/out": "x"}), inside)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


async def test_a_client_that_goes_away(tmp_path: Path) -> None:
    never = asyncio.Event()

    async def read() -> bytes:
        await never.wait()
        return b""

    async with asyncio.TaskGroup() as group:
        task = group.create_task(context.receive(read, tmp_path))
        await asyncio.sleep(0.05)
        task.cancel()
    assert task.cancelled()


@pytest.mark.parametrize(
    ("remote", "parts"),
    [
        ("https://h/r.git", ("https://h/r.git", "", "")),
        ("https://h/r.git#v1:sub/dir", ("https://h/r.git", "v1", "sub/dir")),
        ("github.com/a/b#:d", ("https://github.com/a/b", "", "d")),
    ],
)
def test_git_references(remote: str, parts: tuple[str, str, str]) -> None:
    found = git.parse_git(remote)
    assert (found.url, found.ref, found.subdirectory) == parts


def test_git_query_form() -> None:
    found = git.parse_git("https://h/r.git?branch=main&subdir=a/b&commit=abcdef12&keep-git-dir=1&submodules=false")
    assert found == git.GitSource("https://h/r.git", "main", "a/b", "abcdef12", keep_git_dir=True, submodules=False)
    for bad in ("?what=1", "?ref=a&tag=b", "?commit=zz", "?ref=-x"):
        with pytest.raises(InvalidArgument):
            git.parse_git("https://h/r.git" + bad)


@pytest.mark.parametrize("remote", ["https://h/r.git#--upload-pack=x", "https://h/r.git#a b", "-c"])
def test_git_references_that_are_options(remote: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid git reference"):
        git.parse_git(remote)


async def test_a_git_repository_on_our_disk_is_none(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(GantryError):
        await git.clone(git.parse_git("file:///etc"), tmp_path / "d", tmp_path)


def test_which_urls_are_git() -> None:
    assert is_git("git@github.com:a/b.git")
    assert is_git("https://h/r.git#main")
    assert not is_git("https://h/r.tar.gz")
    assert file_name("https://h/a/b%20c?x=1") == "b c"
    assert file_name("https://h/") == ""


def test_the_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "dockerfile").write_text("lower")
    assert context.read_dockerfile(tmp_path, "") == ("dockerfile", b"lower")
    (tmp_path / "Dockerfile").write_text("upper")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "D").symlink_to("/Dockerfile")
    assert context.read_dockerfile(tmp_path, "") == ("Dockerfile", b"upper")
    assert context.read_dockerfile(tmp_path, "sub/D")[1] == b"upper"
    (tmp_path / "out").symlink_to("/etc/passwd")
    for name, words in (
        ("../x", "forbidden path outside the build context: ../x"),
        ("nope", "Cannot locate specified Dockerfile: nope"),
        ("sub", "Cannot locate"), ("out", "Cannot locate"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match=words):
            context.read_dockerfile(tmp_path, name)


def test_ignored_dockerfiles_are_hidden(tmp_path: Path) -> None:
    for name in ("Dockerfile", "other"):
        (tmp_path / name).touch()
    (tmp_path / ".dockerignore").write_text("Docker*\nother\n")
    context.hide_ignored(tmp_path, "Dockerfile")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dockerignore", "other"]
    (tmp_path / ".dockerignore").write_text(".*\n")
    context.hide_ignored(tmp_path, "Dockerfile")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
