"""What is written down of a task, and what a later daemon makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gantry.errors import InvalidArgument, NotFound
from gantry.linux.pidfd import start_time
from gantry.model.instance import Instance
from gantry.runtime import rootfs
from gantry.runtime.bundle import Bundle, Bundles, Intent, Run, boot_id, find_conmon, surviving_pids

ID = "a" * 64


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance.of(tmp_path / "data", tmp_path / "exec")


@pytest.fixture
def bundle(instance: Instance) -> Bundle:
    found = Bundles(instance).get(ID)
    found.path.mkdir(parents=True)
    return found


def test_only_identifiers_become_paths(instance: Instance) -> None:
    for name in ("", "..", "../../etc", "A" * 64, "a" * 63, "a" * 64 + "/x"):
        with pytest.raises(NotFound):
            Bundles(instance).get(name)
    assert Bundles(instance).ids() == []


def test_a_linked_exec_root_is_resolved(tmp_path: Path) -> None:
    """The kernel lists mounts by their real paths."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = Bundles(Instance.of(tmp_path / "data", tmp_path / "link")).get(ID)
    assert found.path == tmp_path / "real" / "tasks" / ID


def test_ids(instance: Instance, bundle: Bundle) -> None:
    (bundle.path.parent / "something").mkdir()
    assert Bundles(instance).ids() == [ID]


def test_records(bundle: Bundle) -> None:
    assert bundle.read_intent() is None
    intent = Intent(ID, "crun", "/g/x", tty=True, mounts=("/m",))
    bundle.write("task.json", intent)
    assert bundle.read_intent() == intent
    (bundle.path / "task.json").write_text('{"id": ')
    assert bundle.read_intent() is None


def test_a_record_of_another_boot_says_nothing(bundle: Bundle) -> None:
    bundle.write("run.json", Run("earlier", 1, 2, 3, 4))
    assert bundle.read_run() is None
    bundle.write("run.json", Run(boot_id(), 1, 2, 3, 4))
    assert bundle.read_run() is not None


def test_exit_status(bundle: Bundle) -> None:
    assert bundle.exit_status() is None
    (bundle.path / ID).write_text("137")
    os.utime(bundle.path / ID, ns=(5, 1_000_000_007))
    status = bundle.exit_status()
    assert status is not None
    assert (status.code, status.at) == (137, 1_000_000_007)
    (bundle.path / ID).write_text("")
    assert bundle.exit_status() is None


def test_survivors_are_verified(instance: Instance, bundle: Bundle) -> None:
    assert surviving_pids(instance) == []
    bundle.write("run.json", Run(boot_id(), os.getpid(), start_time(os.getpid())))
    assert surviving_pids(instance) == [os.getpid()]
    bundle.write("run.json", Run(boot_id(), os.getpid(), start_time(os.getpid()) + 1))
    assert surviving_pids(instance) == []


def test_a_monitor_that_was_never_written_down_is_found(tmp_path: Path) -> None:
    script = tmp_path / "hang"
    script.write_text("import time; time.sleep(60)")
    child = subprocess.Popen(["/usr/bin/conmon", str(script), "-b", str(tmp_path)], executable=sys.executable)
    try:
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes():  # its arguments come a moment after its start
            assert child.poll() is None
        assert find_conmon(tmp_path) == child.pid
        assert find_conmon(tmp_path / "other") == 0
    finally:
        child.kill()
        child.wait()


def test_execs(bundle: Bundle) -> None:
    assert list(bundle.execs()) == []
    bundle.exec("b" * 64).path.mkdir(parents=True)
    assert list(bundle.execs()) == ["b" * 64]
    bundle.remove()
    bundle.remove()
    assert not bundle.path.exists()


def test_what_may_be_mounted_is_never_emptied(bundle: Bundle) -> None:
    bundle.rootfs.mkdir()
    (bundle.rootfs / "precious").touch()
    with pytest.raises(OSError, match="not empty"):
        bundle.remove()
    assert (bundle.rootfs / "precious").exists()


def test_marks_are_put_inside_and_follow_nothing(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "etc").mkdir(parents=True)
    outside.mkdir()
    rootfs.add_marks(root)
    rootfs.add_marks(root)
    assert (root / ".dockerenv").stat().st_size == 0
    assert (root / "etc" / "mtab").readlink() == Path("/proc/mounts")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / ".dockerenv").symlink_to(outside / "made")
    (hostile / "etc").symlink_to(outside)
    rootfs.add_marks(hostile)
    assert list(outside.iterdir()) == []


def test_directories_are_made_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "file").touch()
    (root / "link").symlink_to("/real")
    (root / "out").symlink_to("../../..")
    (root / "dangling").symlink_to("/nowhere")
    rootfs.make_directory(root, "/a/b/")
    rootfs.make_directory(root, "/link/c")
    rootfs.make_directory(root, "/out/d")
    assert (root / "a" / "b").is_dir()
    assert (root / "real" / "c").is_dir()
    assert (root / "d").is_dir()
    for path in ("/file", "/file/x", "/dangling/x"):
        with pytest.raises(InvalidArgument, match="is not a directory"):
            rootfs.make_directory(root, path)
