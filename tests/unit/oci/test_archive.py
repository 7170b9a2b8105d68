"""Archives of paths in a root that is not ours to trust."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from gantry.errors import InvalidArgument, NotFound
from gantry.oci import archive
from lib.archives import Member, directory, hardlink, member, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")

DIRECTORY, LINK = 1 << 31, 1 << 27


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The tree that was looked at on a real Docker, whose answers are the expectations below."""
    root = tmp_path / "root"
    (root / "d/sub").mkdir(parents=True)
    (root / "d/f").write_text("hi\n")
    (root / "d/h").hardlink_to(root / "d/f")
    (root / "ld").symlink_to("d")
    (root / "lf").symlink_to("/d/f")
    (root / "dang").symlink_to("/nowhere")
    (root / "d/sub/back").symlink_to("/d")
    (root / "out").symlink_to("../../../../etc")
    return root


def packed(root: Path, path: str, **options: object) -> list[str]:
    out = io.BytesIO()
    archive.pack(root, path, out, **options)  # type: ignore[arg-type]
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as made:
        return [info.name for info in made]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/d", ["d", "d/f", "d/h", "d/sub", "d/sub/back"]),
        ("/d/", ["d", "d/f", "d/h", "d/sub", "d/sub/back"]),
        ("/d/.", [".", "./f", "./h", "./sub", "./sub/back"]),
        ("/ld", ["ld"]),
        ("/ld/", ["ld", "ld/f", "ld/h", "ld/sub", "ld/sub/back"]),
        ("/d/sub/back/f", ["f"]),
        ("/d/f", ["f"]),
    ],
)
def test_names_in_an_archive(root: Path, path: str, names: list[str]) -> None:
    assert packed(root, path) == names


def test_a_name_of_the_callers_choice(root: Path) -> None:
    assert packed(root, "/d/f", name="other") == ["other"]
    assert packed(root, "/d/sub", name="x") == ["x", "x/back"]
    assert packed(root, "/d", name="") == ["f", "h", "sub", "sub/back"]
    assert packed(root, "/lf", name="content", follow_final=True) == ["content"]


def test_the_whole_root(root: Path) -> None:
    out = io.BytesIO()
    archive.pack(root, "/", out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as made:
        assert made.getmembers()[0].isdir()
        assert "/d/f" in made.getnames()


@pytest.mark.parametrize(
    ("path", "name", "size", "mode", "target"),
    [
        ("/d", "d", None, DIRECTORY | 0o755, ""),
        ("/d/.", ".", None, DIRECTORY | 0o755, ""),
        ("/", "/", None, DIRECTORY | 0o755, ""),
        ("/d/f", "f", 3, 0o644, ""),
        ("/ld", "ld", 1, LINK | 0o777, "/d"),
        ("/lf", "lf", 4, LINK | 0o777, "/d/f"),
        ("/dang", "dang", 8, LINK | 0o777, "/nowhere"),
        ("/ld/f", "f", 3, 0o644, ""),
        ("/ld/", "ld", None, DIRECTORY | 0o755, ""),
    ],
)
def test_stat(root: Path, path: str, name: str, size: int | None, mode: int, target: str) -> None:
    found = archive.stat(root, path)
    assert (found.name, found.mode, found.link_target) == (name, mode, target)
    if size is not None:
        assert found.size == size


def test_stat_of_what_is_not_there(root: Path) -> None:
    for path in ("/nosuch", "/nosuch/x", "/dang/"):
        with pytest.raises(NotFound):
            archive.stat(root, path)
    with pytest.raises(NotADirectoryError):
        archive.stat(root, "/d/f/")


def test_links_do_not_lead_out(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        archive.stat(root, "/out/passwd")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("inside")
    assert archive.stat(root, "/out/passwd").size == len("inside")
    assert packed(root, "/out/passwd") == ["passwd"]
    unpack(root, "/out", member("new", b"1"))
    assert (root / "etc/new").read_bytes() == b"1"


def unpack(root: Path, path: str, *members: Member, **options: object) -> None:
    archive.unpack(root, path, io.BytesIO(tar(*members)), **options)  # type: ignore[arg-type]


def test_unpack(root: Path) -> None:
    unpack(
        root,
        "/d",
        directory("n", uid=5),
        member("n/f", b"1", uid=5, gid=6),
        symlink("n/l", "f"),
        hardlink("n/h", "n/f"),
    )
    status = (root / "d/n/f").stat()
    assert (status.st_uid, status.st_gid, status.st_nlink) == (5, 6, 2)
    unpack(root, "/ld/n", member("g", b"2", uid=5), chown=(0, 7))
    assert ((root / "d/n/g").stat().st_uid, (root / "d/n/g").stat().st_gid) == (0, 7)


def test_unpack_follows_links_in_the_way_inside_the_root(root: Path) -> None:
    (root / "run").mkdir()
    (root / "var").mkdir()
    (root / "var/run").symlink_to("/run")
    unpack(root, "/", member("var/run/pid", b"1"))
    assert (root / "run/pid").read_bytes() == b"1"


def test_unpack_does_not_write_through_the_last_link(root: Path) -> None:
    unpack(root, "/", member("lf", b"new"))
    assert (root / "d/f").read_text() == "hi\n"
    assert not (root / "lf").is_symlink()


def test_unpack_keeps_directories_apart_from_files_on_request(root: Path) -> None:
    with pytest.raises(InvalidArgument, match='cannot overwrite directory "/d/sub" with non-directory "/d"'):
        unpack(root, "/d", member("sub", b""), no_overwrite_dir_non_dir=True)
    with pytest.raises(InvalidArgument, match='cannot overwrite non-directory "/d/f" with directory "/d"'):
        unpack(root, "/d", directory("f"), no_overwrite_dir_non_dir=True)
    unpack(root, "/d", member("sub", b"file"))
    assert (root / "d/sub").read_bytes() == b"file"


def test_unpack_into_what_is_not_there(root: Path) -> None:
    with pytest.raises(NotFound):
        unpack(root, "/nosuch", member("f", b""))


def test_a_fifo_does_not_block(root: Path) -> None:
    os.mkfifo(root / "p")
    assert packed(root, "/p") == ["p"]
    unpack(root, "/", member("p", b"file now"))
    assert (root / "p").read_bytes() == b"file now"
