"""COPY's files: selection, digest, and copying into trees that mean harm."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gantry.build.copy_files import Rules, Target, copy_path, parse_chmod, write_file
from gantry.build.digest import source_digest
from gantry.build.errors import StepFailed
from gantry.build.owner import resolve_owner
from gantry.build.selection import select
from unit.build.conftest import Bench
from unit.build.fakes import Workshop

OWN = Rules(owner=(os.geteuid(), os.getegid()))


class Trees:
    """A source and a target, both below a directory with something that nothing may touch."""

    def __init__(self, base: Path) -> None:
        self.outside = base / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        self.source, self.target = base / "source", base / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.from_root = os.open(self.source, os.O_PATH | os.O_DIRECTORY)
        self.to_root = os.open(self.target, os.O_PATH | os.O_DIRECTORY)

    def copy(self, path: str, destination: str, rules: Rules = OWN, *, into: bool = False) -> None:
        copy_path(self.from_root, path, Target(self.to_root), destination, rules, into=into)

    def digest(self, *paths: str, owners: bool = False) -> str:
        return source_digest(self.from_root, paths, owners=owners)[1]


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[Trees]:
    made = Trees(tmp_path)
    yield made
    os.close(made.from_root)
    os.close(made.to_root)
    assert sorted(path.name for path in made.outside.iterdir()) == ["secret"]
    assert (made.outside / "secret").read_text() == "secret"


def test_patterns(trees: Trees) -> None:
    for name in ("a.txt", "b.txt", "c", "d/e.txt", "d/f", "[x]"):
        path = trees.source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    chosen = lambda pattern: select(trees.from_root, pattern)  # noqa: E731
    assert chosen("*.txt") == ["a.txt", "b.txt"]
    assert chosen("?") == ["c", "d"]
    assert chosen("d/*") == ["d/e.txt", "d/f"]
    assert chosen("*/f") == ["d/f"]
    assert chosen("[ab].txt") == ["a.txt", "b.txt"]
    assert chosen("[^a].txt") == ["b.txt"]
    assert chosen("\\[x\\]") == ["[x]"]
    assert chosen("nope*") == []
    assert chosen("/./d/../c") == ["c"]
    assert chosen(".") == [""]
    with pytest.raises(FileNotFoundError):
        chosen("nope")
    with pytest.raises(StepFailed, match="syntax error in pattern"):
        chosen("[a")


def test_a_directory_copies_its_contents(trees: Trees) -> None:
    (trees.source / "d" / "sub").mkdir(parents=True)
    (trees.source / "d").chmod(0o751)
    (trees.source / "d" / "sub").chmod(0o700)
    (trees.source / "d" / "sub" / "f").write_text("f")
    (trees.source / "d" / "sub" / "f").chmod(0o4755)
    os.utime(trees.source / "d" / "sub" / "f", (1, 2))
    (trees.source / "d" / "l").symlink_to("sub/f")
    trees.copy("d", "/new/deep")
    made = trees.target / "new" / "deep"
    assert stat.S_IMODE(made.stat().st_mode) == 0o755
    assert stat.S_IMODE((made / "sub").stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "sub" / "f").stat().st_mode) == 0o4755
    assert (made / "sub" / "f").stat().st_mtime == 2
    assert str((made / "l").readlink()) == "sub/f"
    (trees.target / "old").mkdir(mode=0o777)
    (trees.target / "old").chmod(0o777)
    trees.copy("d", "/old")
    assert stat.S_IMODE((trees.target / "old").stat().st_mode) == 0o777


def test_a_file_goes_where_the_destination_says(trees: Trees) -> None:
    (trees.source / "f").write_text("new")
    (trees.target / "dir").mkdir()
    (trees.target / "file").write_text("old")
    (trees.target / "other").hardlink_to(trees.target / "file")
    trees.copy("f", "/dir")
    trees.copy("f", "/dir2/")
    trees.copy("f", "/file")
    trees.copy("f", "/x/y/z")
    for name in ("dir/f", "dir2/f", "file", "x/y/z"):
        assert (trees.target / name).read_text() == "new"
    assert (trees.target / "other").read_text() == "old"
    with pytest.raises(StepFailed, match="not a directory"):
        trees.copy("f", "/file/x")
    (trees.source / "d").mkdir()
    with pytest.raises(StepFailed, match="not a directory"):
        trees.copy("d", "/file")


def test_directories_and_files_do_not_replace_each_other(trees: Trees) -> None:
    (trees.source / "one" / "x").mkdir(parents=True)
    (trees.target / "x").write_text("file")
    with pytest.raises(StepFailed, match="cannot copy to non-directory: /x"):
        trees.copy("one", "/")
    (trees.source / "two").mkdir()
    (trees.source / "two" / "y").write_text("file")
    (trees.target / "y").mkdir()
    with pytest.raises(StepFailed, match="cannot replace to directory y with file"):
        trees.copy("two", "/")


def test_links_of_the_target_stay_inside(trees: Trees) -> None:
    (trees.source / "f").write_text("new")
    (trees.source / "d").mkdir()
    (trees.source / "d" / "secret").write_text("new")
    (trees.target / "abs").symlink_to(trees.outside)
    (trees.target / "up").symlink_to("../../../../../.." + str(trees.outside))
    (trees.target / "file").symlink_to(trees.outside / "secret")
    (trees.target / "loop").symlink_to("loop")
    Path(str(trees.target) + str(trees.outside)).mkdir(parents=True)
    for destination in ("/abs/", "/up/", "/file"):
        trees.copy("f", destination)
    trees.copy("d", "/abs")
    inside = Path(str(trees.target) + str(trees.outside))
    assert sorted(path.name for path in inside.iterdir()) == ["f", "secret"]
    with pytest.raises(StepFailed, match="symbolic links"):
        trees.copy("f", "/loop")
    (trees.target / "nested").mkdir()
    (trees.target / "nested" / "sub").symlink_to(trees.outside)
    (trees.source / "n" / "sub").mkdir(parents=True)
    with pytest.raises(StepFailed, match="cannot copy to non-directory"):
        trees.copy("n", "/nested")


def test_links_of_the_source_stay_inside(trees: Trees) -> None:
    (trees.source / "link").symlink_to(trees.outside / "secret")
    (trees.source / "dirlink").symlink_to(trees.outside)
    for name in ("link", "dirlink", "dirlink/secret"):
        with pytest.raises(FileNotFoundError):
            select(trees.from_root, name)
    assert select(trees.from_root, "dirlink/*") == []
    (trees.source / "real").mkdir()
    (trees.source / "real" / "f").write_text("in")
    (trees.source / "good").symlink_to("/real")
    trees.copy("good", "/out")
    assert (trees.target / "out" / "f").read_text() == "in"


def test_special_files_are_left_out_of_a_context(trees: Trees) -> None:
    (trees.source / "d").mkdir()
    os.mkfifo(trees.source / "d" / "pipe")
    trees.copy("d", "/a")
    assert list((trees.target / "a").iterdir()) == []
    trees.copy("d", "/b", Rules(owner=OWN.owner, nodes=True))
    assert stat.S_ISFIFO((trees.target / "b" / "pipe").stat().st_mode)


def test_what_a_digest_sees(trees: Trees) -> None:
    directory = trees.source / "d"
    directory.mkdir()
    (directory / "f").write_text("1")
    (directory / "l").symlink_to("f")
    seen = {trees.digest("d")}
    os.utime(directory / "f", (5, 5))
    assert trees.digest("d") in seen

    def changed() -> None:
        now = trees.digest("d")
        assert now not in seen
        seen.add(now)

    (directory / "f").write_text("2")
    changed()
    (directory / "f").chmod(0o600)
    changed()
    (directory / "f").rename(directory / "g")
    changed()
    (directory / "l").unlink()
    (directory / "l").symlink_to("g")
    changed()
    (directory / "empty").mkdir()
    changed()
    os.mkfifo(directory / "p")
    changed()
    assert trees.digest("d/g") != trees.digest("d")
    assert source_digest(trees.from_root, ["d/g"], owners=False)[0] == "file"
    assert source_digest(trees.from_root, ["d"], owners=False)[0] == "dir"
    assert source_digest(trees.from_root, ["d", "d/g"], owners=False)[0] == "multi"
    assert trees.digest("d", owners=True) != trees.digest("d")


def test_deep_trees(trees: Trees) -> None:
    path = trees.source / "d"
    for _ in range(600):
        path = path / "x"
    path.mkdir(parents=True)
    trees.copy("d", "/d")
    assert (trees.target / path.relative_to(trees.source)).is_dir()
    assert trees.digest("d")


def test_exclusion(trees: Trees) -> None:
    (trees.source / "d" / "skip").mkdir(parents=True)
    (trees.source / "d" / "skip" / "f").touch()
    (trees.source / "d" / "keep").touch()
    trees.copy("d", "/d", Rules(owner=OWN.owner, excluded=lambda path: path == "skip"))
    assert [path.name for path in (trees.target / "d").iterdir()] == ["keep"]


def test_documents(trees: Trees) -> None:
    write_file(b"text", Target(trees.to_root), "/a/b", OWN, mode=0o640)
    assert (trees.target / "a" / "b").read_bytes() == b"text"
    assert stat.S_IMODE((trees.target / "a" / "b").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("text", "before", "directory", "after"),
    [
        ("755", 0o600, False, 0o755), ("0640", 0o777, True, 0o640), ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, True, 0o755), ("u=rwX,go=rX", 0o700, False, 0o755), ("+x", 0o644, False, 0o755),
        ("a-w", 0o666, False, 0o444), ("u+s,g-r", 0o755, False, 0o4715), ("+t", 0o777, True, 0o1777),
    ],
)  # fmt: skip
def test_modes(text: str, before: int, directory: bool, after: int) -> None:
    assert oct(parse_chmod(text)(before, directory)) == oct(after)


@pytest.mark.parametrize("text", ["888", "u=q", "x", "100000", "+x;", ""])
def test_modes_that_make_no_sense(text: str) -> None:
    with pytest.raises(StepFailed, match="invalid chmod parameter"):
        parse_chmod(text)


def test_owners(trees: Trees) -> None:
    (trees.target / "etc").mkdir()
    (trees.target / "etc" / "passwd").write_text("broken\napp:x:5:6::/:/bin/sh\nbad:x:y:z\n")
    (trees.target / "etc" / "group").symlink_to(trees.outside / "secret")
    assert resolve_owner(trees.to_root, "app") == (5, 6)
    assert resolve_owner(trees.to_root, "app:9") == (5, 9)
    assert resolve_owner(trees.to_root, "7") == (7, 7)
    assert resolve_owner(trees.to_root, "7:8") == (7, 8)
    for text, words in (
        ("who", "can't find uid for user who: no such user: who"), ("bad", "no such user"),
        ("app:staff", "no such group"),
        (":", "invalid chown string"), ("a:b:c", "invalid chown string"), ("99999999999", "must be in range"),
    ):  # fmt: skip
        with pytest.raises(StepFailed, match=words):
            resolve_owner(trees.to_root, text)


async def test_parents_are_kept(shop: Workshop, build: Bench) -> None:
    files = {"x/": "", "x/a.txt": "xa", "y/": "", "y/b/": "", "y/b/c.txt": "ybc", "y/b/d": "ybd"}
    image = await build(
        "FROM scratch\nCOPY --parents x/a.txt y/b/c.txt /p/\nCOPY --parents ./y/./b/*.txt /q/\nCOPY --parents y /r/\n",
        files,
    )
    root = shop.files(image)
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert found == ["p/x/a.txt", "p/y/b/c.txt", "q/b/c.txt", "r/y/b/c.txt", "r/y/b/d"]
