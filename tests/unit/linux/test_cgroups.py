"""Reading cgroup files and finding groups, on plain directories in the place of cgroup file systems."""

from pathlib import Path

import pytest

from gantry.linux import cgroups
from gantry.linux.cgroups import Hierarchies, Mode


@pytest.fixture
def legacy(tmp_path: Path) -> Hierarchies:
    mounts = {name: tmp_path / name for name in ("memory", "pids", "freezer")}
    for path in mounts.values():
        (path / "g" / "one").mkdir(parents=True)
    return Hierarchies(Mode.LEGACY, mounts)


@pytest.fixture
def unified(tmp_path: Path) -> Hierarchies:
    (tmp_path / "g" / "one" / "sub").mkdir(parents=True)
    return Hierarchies(Mode.UNIFIED, {"": tmp_path})


def test_directories(legacy: Hierarchies, unified: Hierarchies) -> None:
    assert legacy.directory("/g/one", "memory") == legacy.mounts["memory"] / "g/one"
    assert legacy.directory("/g/one", "hugetlb") is None
    assert unified.directory("/g/one", "hugetlb") == unified.mounts[""] / "g/one"
    assert set(legacy.directories("/g/one")) == {path / "g/one" for path in legacy.mounts.values()}
    assert list(legacy.directories("/g/two")) == []


def test_pids_of_the_group_and_below(unified: Hierarchies) -> None:
    base = unified.mounts[""] / "g/one"
    (base / "cgroup.procs").write_text("30\n10\n")
    (base / "sub" / "cgroup.procs").write_text("20\n0\n")
    assert unified.pids("/g/one") == [10, 20, 30]
    assert unified.pids("/g/absent") == []


def test_remove_takes_what_is_below(legacy: Hierarchies) -> None:
    for path in legacy.mounts.values():
        (path / "g" / "one" / "deep" / "er").mkdir(parents=True)
    legacy.remove("/g/one")
    legacy.remove("/g/one")
    assert [list((path / "g").iterdir()) for path in legacy.mounts.values()] == [[], [], []]


def test_remove_empty_keeps_a_group_in_use(legacy: Hierarchies) -> None:
    (legacy.mounts["pids"] / "g" / "one" / "cgroup.procs").write_text("1\n")
    legacy.remove_empty("/g")
    assert (legacy.mounts["pids"] / "g" / "one").is_dir()


def test_remove_unused_is_for_empty_groups(legacy: Hierarchies) -> None:
    legacy.remove_unused("/g")
    assert (legacy.mounts["pids"] / "g" / "one").is_dir()
    legacy.remove_unused("/g/one")
    legacy.remove_unused("/g")
    assert not (legacy.mounts["pids"] / "g").exists()


def test_oom_kills(legacy: Hierarchies, unified: Hierarchies) -> None:
    assert not legacy.oom_killed("/g/one")
    (legacy.mounts["memory"] / "g/one/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert legacy.oom_killed("/g/one")
    (unified.mounts[""] / "g/one/memory.events").write_text("low 0\noom 1\noom_kill 0\n")
    assert not unified.oom_killed("/g/one")
    (unified.mounts[""] / "g/one/memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert unified.oom_killed("/g/one")


def test_readers(tmp_path: Path) -> None:
    (tmp_path / "n").write_text("42\n")
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "t").write_text("a 1\nb x\nc 3\n")
    assert cgroups.read_number(tmp_path / "n") == 42
    assert cgroups.read_number(tmp_path / "max", 7) == 7
    assert cgroups.read_number(tmp_path / "absent") == 0
    assert cgroups.read_table(tmp_path / "t") == {"a": 1, "c": 3}


def test_the_running_kernel_has_cgroups() -> None:
    found = Hierarchies.find()
    assert found.unified == (found.mode is Mode.UNIFIED)
    assert all(path.is_dir() for path in found.mounts.values())
