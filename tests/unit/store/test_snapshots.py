"""Overlay snapshots after a crash, and their mount options."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gantry.ports import State
from gantry.store import snapshots as module
from gantry.store.snapshots import OverlaySnapshotter
from gantry.store.state import SQLiteState

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = SQLiteState(tmp_path / "state.db")
    yield state
    state.close()


def test_a_record_without_its_directory_goes(state: State, tmp_path: Path) -> None:
    first = OverlaySnapshotter(tmp_path / "s", state)
    first.prepare("killed", "")
    (first.upper("killed").parent / "work").rmdir()
    again = OverlaySnapshotter(tmp_path / "s", state)
    assert list(again.walk()) == []
    assert list((tmp_path / "s").iterdir()) == []


def test_a_directory_without_a_record_goes(state: State, tmp_path: Path) -> None:
    first = OverlaySnapshotter(tmp_path / "s", state)
    first.prepare("kept", "")
    (tmp_path / "s" / "99" / "fs" / "x").mkdir(parents=True)
    again = OverlaySnapshotter(tmp_path / "s", state)
    again.prepare("new", "")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["1", "100"]


def test_after_a_power_cut_what_may_be_half_written_goes(state: State, tmp_path: Path) -> None:
    first = OverlaySnapshotter(tmp_path / "s", state)
    for name, parent in (("synced", ""), ("lost", "synced"), ("used", "synced")):
        first.prepare("making", parent)
        first.commit(name, "making")
        if name == "synced":
            first.sync()
    first.prepare("container", "used")
    with state.update() as tx:
        for record in tx.list(module._SNAPSHOTS):
            if record.boot:
                tx.put(module._SNAPSHOTS, record.key, msgspec.structs.replace(record, boot="another"))
    again = OverlaySnapshotter(tmp_path / "s", state)
    assert {info.key for info in again.walk()} == {"synced", "used", "container"}


def test_special_characters_in_the_path(state: State, tmp_path: Path) -> None:
    odd = OverlaySnapshotter(tmp_path / "a:b,c\\d", state)
    odd.prepare("making", "")
    (odd.upper("making") / "f").write_text("1")
    odd.commit("one", "making")
    mounts = odd.prepare("top", "one")
    assert "a\\:b\\,c\\\\d" in mounts[0].options[0]
    from gantry.linux import mount

    target = tmp_path / "m"
    target.mkdir()
    mount.mount(mounts[0], target)
    try:
        assert (target / "f").read_text() == "1"
    finally:
        mount.unmount(target)
