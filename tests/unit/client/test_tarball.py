import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from gantry.client.tarball import ArchiveError, BlockReader, pack, rename, unpack


def keep(name: str) -> str:
    return name


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> BlockReader:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    text = out.getvalue()
    return BlockReader(text[at : at + 700] for at in range(0, len(text), 700))


def info(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def test_round_trip(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub" / "empty").mkdir(parents=True)
    (source / "a").write_bytes(b"x" * 100_000)
    (source / "sub" / "run").write_text("#!")
    (source / "sub" / "run").chmod(0o4755)
    (source / "link").symlink_to("../a")
    os.link(source / "a", source / "hard")
    os.mkfifo(source / "fifo")
    os.utime(source / "a", (1, 1_500_000_000))
    os.utime(source / "sub", (1, 1_400_000_000))
    target = tmp_path / "target"
    target.mkdir()
    unpack(BlockReader(pack(str(tmp_path), "source", "new")), str(target), keep)
    new = target / "new"
    assert (new / "a").read_bytes() == b"x" * 100_000
    assert (new / "a").stat().st_mtime == 1_500_000_000
    assert (new / "sub").stat().st_mtime == 1_400_000_000
    assert (new / "sub" / "run").stat().st_mode & 0o7777 == 0o4755
    assert str((new / "link").readlink()) == "../a"
    assert (new / "hard").stat().st_ino == (new / "a").stat().st_ino
    assert stat.S_ISFIFO((new / "fifo").stat().st_mode)
    assert (new / "sub" / "empty").is_dir()


def test_pack_contents_only(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("1")
    data = b"".join(pack(str(tmp_path / "d"), ".", "."))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [os.path.normpath(name) for name in tar.getnames()] == [".", "x"]


def test_pack_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no such file or directory"):
        list(pack(str(tmp_path), "none", "none"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/b/../../../x"])
def test_no_way_out_by_dots(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(ArchiveError, match="invalid name"):
        unpack(archive((info(name), b"evil")), str(inside), keep)
    assert list(tmp_path.iterdir()) == [inside]


def test_absolute_names_stay_inside(tmp_path: Path) -> None:
    unpack(archive((info("/etc/x"), b"1")), str(tmp_path), keep)
    assert (tmp_path / "etc" / "x").read_text() == "1"


def test_no_way_out_by_a_link_of_the_archive(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    hostile = archive((info("door", tarfile.SYMTYPE, link=str(outside)), b""), (info("door/x"), b"evil"))
    with pytest.raises(ArchiveError):
        unpack(hostile, str(inside), keep)
    assert list(outside.iterdir()) == []


def test_a_link_is_replaced_not_written_through(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.write_text("mine")
    (inside / "f").symlink_to(outside)
    unpack(archive((info("f"), b"theirs")), str(inside), keep)
    assert outside.read_text() == "mine"
    assert (inside / "f").read_text() == "theirs"


def test_hard_links_reach_only_inside(tmp_path: Path) -> None:
    inside, secret = tmp_path / "in", tmp_path / "secret"
    inside.mkdir()
    secret.write_text("s")
    with pytest.raises(ArchiveError):
        unpack(archive((info("l", tarfile.LNKTYPE, link="../secret"), b"")), str(inside), keep)
    (inside / "door").symlink_to(tmp_path)
    with pytest.raises(ArchiveError):
        unpack(archive((info("l", tarfile.LNKTYPE, link="door/secret"), b"")), str(inside), keep)


def test_directories_and_files_do_not_replace_each_other(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("")
    with pytest.raises(ArchiveError, match="cannot overwrite directory 'd' with non-directory"):
        unpack(archive((info("d"), b"x")), str(tmp_path), keep)
    with pytest.raises(ArchiveError, match="cannot overwrite non-directory 'f' with directory"):
        unpack(archive((info("f", tarfile.DIRTYPE, mode=0o755), b"")), str(tmp_path), keep)


@pytest.mark.parametrize("cut", [100, 600, 1100])
def test_damaged_archives(tmp_path: Path, cut: int) -> None:
    whole = archive((info("f"), b"y" * 2000)).read()
    with pytest.raises(ArchiveError):
        unpack(BlockReader([whole[:cut]]), str(tmp_path), keep)


def test_rename() -> None:
    assert [rename("a", "b")(name) for name in ("a", "a/x", "ab", "c/a")] == ["b", "b/x", "ab", "c/a"]
    assert [rename(".", "b")(name) for name in (".", "x/y")] == ["b", "b/x/y"]
