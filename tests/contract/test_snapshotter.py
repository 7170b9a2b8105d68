"""What every Snapshotter must do; the cases follow containerd's snapshot test suite."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gantry.errors import Conflict, NotFound
from gantry.linux import mount
from gantry.model.task import Mount
from gantry.ports import Snapshotter, State
from gantry.store.snapshots import OverlaySnapshotter
from gantry.store.state import SQLiteState

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

Make = Callable[[Path, State], Snapshotter]


@pytest.fixture(params=[OverlaySnapshotter], ids=["overlay"])
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = SQLiteState(tmp_path / "state.db")
    yield state
    state.close()


@pytest.fixture
def snapshots(make: Make, tmp_path: Path, state: State) -> Snapshotter:
    return make(tmp_path / "snap", state)


@contextmanager
def mounted(mounts: tuple[Mount, ...], target: Path) -> Iterator[Path]:
    target.mkdir(exist_ok=True)
    for request in mounts:
        mount.mount(request, target)
    try:
        yield target
    finally:
        mount.unmount(target)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def layer(snapshots: Snapshotter, name: str, parent: str, target: Path, **files: str) -> None:
    with mounted(snapshots.prepare(f"making-{name}", parent), target) as root:
        for path, text in files.items():
            (root / path).write_text(text)
    snapshots.commit(name, f"making-{name}")


def test_layers_stack(snapshots: Snapshotter, tmp_path: Path) -> None:
    target = tmp_path / "m"
    layer(snapshots, "one", "", target, a="1", b="1")
    layer(snapshots, "two", "one", target, b="2", c="2")
    with mounted(snapshots.prepare("top", "two"), target) as root:
        assert {path.name: path.read_text() for path in root.iterdir()} == {"a": "1", "b": "2", "c": "2"}
        (root / "a").unlink()
        (root / "d").write_text("3")
        assert names(snapshots.upper("top")) == ["a", "d"]
    with mounted(snapshots.mounts("top"), target) as root:
        assert names(root) == ["b", "c", "d"]
    with mounted(snapshots.view("look", "two"), target) as root:
        assert names(root) == ["a", "b", "c"]
        with pytest.raises(OSError, match="Read-only"):
            (root / "x").write_text("")


def test_a_view_of_one_layer_is_read_only(snapshots: Snapshotter, tmp_path: Path) -> None:
    layer(snapshots, "one", "", tmp_path / "m", a="1")
    with mounted(snapshots.view("look", "one"), tmp_path / "m") as root:
        assert (root / "a").read_text() == "1"
        with pytest.raises(OSError, match="Read-only"):
            (root / "x").write_text("")


def test_the_root_directory_looks_as_below(snapshots: Snapshotter, tmp_path: Path) -> None:
    with mounted(snapshots.prepare("making", ""), tmp_path / "m") as root:
        root.chmod(0o1777)
        os.chown(root, 5, 6)
    snapshots.commit("one", "making")
    with mounted(snapshots.prepare("top", "one"), tmp_path / "m") as root:
        status = root.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1777, 5, 6)


def test_stat_and_walk(snapshots: Snapshotter, tmp_path: Path) -> None:
    layer(snapshots, "one", "", tmp_path / "m", a="1")
    snapshots.prepare("top", "one")
    snapshots.view("look", "one")
    found = {info.key: (info.kind, info.parent) for info in snapshots.walk()}
    assert found == {"one": ("committed", ""), "top": ("active", "one"), "look": ("view", "one")}
    assert snapshots.stat("top").created_at > 0
    with pytest.raises(NotFound):
        snapshots.stat("making-one")


def test_a_key_or_name_that_is_taken(snapshots: Snapshotter, tmp_path: Path) -> None:
    layer(snapshots, "one", "", tmp_path / "m")
    snapshots.prepare("top", "one")
    with pytest.raises(Conflict):
        snapshots.prepare("top", "one")
    with pytest.raises(Conflict):
        snapshots.commit("one", "top")
    assert snapshots.stat("top").kind == "active"


def test_only_a_committed_snapshot_is_a_parent(snapshots: Snapshotter) -> None:
    snapshots.prepare("active", "")
    for parent in ("active", "missing"):
        with pytest.raises(NotFound):
            snapshots.prepare("top", parent)
    with pytest.raises(NotFound):
        snapshots.stat("top")


def test_a_parent_stays_as_long_as_it_has_children(snapshots: Snapshotter, tmp_path: Path) -> None:
    layer(snapshots, "one", "", tmp_path / "m", a="1")
    snapshots.prepare("top", "one")
    with pytest.raises(Conflict):
        snapshots.remove("one")
    snapshots.remove("top")
    snapshots.remove("top")
    snapshots.remove("one")
    assert list(snapshots.walk()) == []
    with pytest.raises(NotFound):
        snapshots.mounts("top")


def test_usage_counts_the_snapshots_own_files(snapshots: Snapshotter, tmp_path: Path) -> None:
    layer(snapshots, "one", "", tmp_path / "m", a="x" * 1000)
    snapshots.prepare("top", "one")
    assert snapshots.usage("one") == 1000
    assert snapshots.usage("top") == 0
    upper = snapshots.upper("top")
    (upper / "f").write_bytes(b"12345")
    os.link(upper / "f", upper / "g")
    assert snapshots.usage("top") == 5


def test_a_tree_deeper_than_any_path_is_counted_and_removed(snapshots: Snapshotter) -> None:
    snapshots.prepare("deep", "")
    current = os.open(snapshots.upper("deep"), os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(1500):
        os.mkdir("directory", dir_fd=current)
        following = os.open("directory", os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = following
    os.close(current)
    assert snapshots.usage("deep") == 0
    parent = snapshots.upper("deep").parent.parent
    snapshots.remove("deep")
    assert names(parent) == []


def test_the_same_key_from_many_threads_goes_to_one(snapshots: Snapshotter) -> None:
    results: list[str] = []

    def prepare() -> None:
        try:
            snapshots.prepare("top", "")
            results.append("made")
        except Conflict:
            results.append("taken")

    threads = [threading.Thread(target=prepare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["made"] + ["taken"] * 7


def test_a_hundred_and_twenty_seven_layers(snapshots: Snapshotter, tmp_path: Path) -> None:
    parent = ""
    for number in range(127):
        snapshots.prepare("making", parent)
        (snapshots.upper("making") / f"f{number}").write_text(str(number))
        snapshots.commit(f"layer{number}", "making")
        parent = f"layer{number}"
    with mounted(snapshots.prepare("top", parent), tmp_path / "m") as root:
        assert len(names(root)) == 127
        (root / "new").write_text("")


def test_a_restart_finds_what_was_there(make: Make, snapshots: Snapshotter, state: State, tmp_path: Path) -> None:
    layer(snapshots, "one", "", tmp_path / "m", a="1")
    before = snapshots.prepare("top", "one")
    again = make(tmp_path / "snap", state)
    assert again.mounts("top") == before
    assert {info.key for info in again.walk()} == {"one", "top"}
    again.prepare("more", "one")
    assert again.upper("more") != again.upper("top")
