"""Copying an image's content into a volume: everything is kept, nothing leads out."""

import os
import stat
from pathlib import Path

import pytest

from gantry.volumes.tree import copy_into, size_of

ROOT = os.geteuid() == 0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def test_modes_times_and_links_are_kept(source: Path, target: Path) -> None:
    (source / "d" / "e").mkdir(parents=True)
    (source / "d" / "file").write_text("content")
    (source / "d" / "file").chmod(0o4751)
    (source / "d").chmod(0o1770)
    (source / "link").symlink_to("/etc/shadow")
    (source / "broken").symlink_to("nowhere")
    os.link(source / "d" / "file", source / "hard")
    os.mkfifo(source / "pipe", 0o640)
    os.utime(source / "d" / "file", ns=(1_000, 2_000_000_001))
    os.utime(source / "d", ns=(1_000, 3_000_000_001))
    source.chmod(0o2755)
    copy_into(source, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o2755
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o1770
    assert (target / "d" / "file").read_text() == "content"
    assert stat.S_IMODE((target / "d" / "file").stat().st_mode) == 0o4751
    assert (target / "d" / "file").stat().st_mtime_ns == 2_000_000_001
    assert (target / "d").stat().st_mtime_ns == 3_000_000_001
    assert str((target / "link").readlink()) == "/etc/shadow"
    assert str((target / "broken").readlink()) == "nowhere"
    assert (target / "hard").samefile(target / "d" / "file")
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
    assert stat.S_IMODE((target / "pipe").stat().st_mode) == 0o640
    assert (target / "d" / "e").is_dir()


@pytest.mark.skipif(not ROOT, reason="needs root: owners and attributes")
def test_owners_and_attributes_are_kept(source: Path, target: Path) -> None:
    (source / "file").write_text("x")
    os.setxattr(source / "file", "user.note", b"kept")
    (source / "link").symlink_to("file")
    os.chown(source / "file", 1000, 1001)
    os.chown(source / "link", 1002, 1003, follow_symlinks=False)
    os.chown(source, 33, 34)
    copy_into(source, target)
    assert (target.stat().st_uid, target.stat().st_gid) == (33, 34)
    assert ((target / "file").stat().st_uid, (target / "file").stat().st_gid) == (1000, 1001)
    assert ((target / "link").lstat().st_uid, (target / "link").lstat().st_gid) == (1002, 1003)
    assert os.getxattr(target / "file", "user.note") == b"kept"


def test_holes_stay_holes(source: Path, target: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(64 << 20)
        file.write(b"end")
        file.truncate(80 << 20)
    copy_into(source, target)
    copied = target / "sparse"
    assert copied.stat().st_size == 80 << 20
    assert copied.stat().st_blocks * 512 < 1 << 20
    with copied.open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(64 << 20)
        assert file.read(4) == b"end\0"


def test_a_volume_with_content_is_left_alone(source: Path, target: Path) -> None:
    (source / "new").write_text("new")
    (target / "old").write_text("old")
    copy_into(source, target)
    assert [path.name for path in target.iterdir()] == ["old"]


def test_a_source_that_is_a_link_is_refused(tmp_path: Path, source: Path, target: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        copy_into(tmp_path / "link", target)


def test_a_failure_leaves_nothing(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "a").mkdir()
    for name in ("a/one", "a/two", "three"):
        (source / name).write_text("x")
    copied: list[int] = []

    def full(out: int, into: int, offset: int, count: int) -> int:
        copied.append(into)
        if len(copied) == 2:
            raise OSError(28, "No space left on device")
        os.write(out, b"x")
        return 1

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(OSError, match="No space left"):
        copy_into(source, target)
    assert list(target.iterdir()) == []


def test_deep_trees_end_with_an_error_not_with_the_stack(source: Path, target: Path) -> None:
    current = os.open(source, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=current)
        below = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    with pytest.raises(OSError, match=r"nested too deep|Too many open files"):
        copy_into(source, target)


def test_size_counts_each_file_once(source: Path) -> None:
    (source / "one").write_bytes(b"x" * 1000)
    os.link(source / "one", source / "two")
    (source / "link").symlink_to("one")
    (source / "d").mkdir()
    (source / "d" / "three").write_bytes(b"x" * 10)
    assert size_of(source) == 1000 + len("one") + 10
