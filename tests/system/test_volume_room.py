"""Volumes whose driver options are mounted, on the real kernel."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gantry.errors import Internal
from gantry.linux.mount import is_mounted, unmount
from gantry.model.instance import Instance
from gantry.store.state import SQLiteState
from gantry.volumes.local import LocalVolumes


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = SQLiteState(root / "state.db")
        self.containers: dict[str, list[str]] = {}

    async def daemon(self) -> LocalVolumes:
        made = LocalVolumes(
            Instance.of(self.root, self.root / "run"),
            self.state,
            lambda name: [key for key, names in self.containers.items() if name in names],
        )
        await made.start()
        return made


@pytest.fixture
async def host(scratch: Path) -> AsyncIterator[Host]:
    made = Host(scratch)
    yield made
    made.state.close()
    for left in (scratch / "volumes").glob("*/_data"):
        assert not is_mounted(left)


async def test_options_are_mounted_while_somebody_uses_the_volume(host: Host) -> None:
    volumes = await host.daemon()
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,noexec"}
    volume = await volumes.create("fast", "", options, {})
    assert volume.options == options
    path = Path(volume.mountpoint)
    assert not is_mounted(path)
    for container in ("c1", "c2", "c2"):
        assert await volumes.mount("fast", container) == str(path)
    assert path.stat().st_uid == 1000
    (path / "file").write_text("x")
    await volumes.unmount("fast", "c1")
    assert (path / "file").exists()
    await volumes.unmount("fast", "c2")
    await volumes.unmount("fast", "c2")
    assert not is_mounted(path)
    await volumes.remove("fast")


async def test_the_count_survives_a_restart(host: Host) -> None:
    first = await host.daemon()
    path = Path((await first.create("fast", "", {"type": "tmpfs", "device": "tmpfs"}, {})).mountpoint)
    await first.mount("fast", "c1")
    await first.mount("fast", "c2")
    again = await host.daemon()
    await again.unmount("fast", "c1")
    assert is_mounted(path)
    unmount(path)  # the mount namespace of the old daemon is gone, the containers start again
    await again.mount("fast", "c2")
    assert is_mounted(path)
    await again.unmount("fast", "c2")
    assert not is_mounted(path)


async def test_a_container_that_was_killed_with_its_daemon_does_not_hold_the_volume(host: Host) -> None:
    volumes = await host.daemon()
    await volumes.create("fast", "", {"type": "tmpfs", "device": "tmpfs"}, {})
    await volumes.mount("fast", "gone")
    again = await host.daemon()
    await again.remove("fast")
    assert list((host.root / "volumes").iterdir()) == []


async def test_a_bind_volume_shows_a_directory_and_leaves_it_there(host: Host) -> None:
    shared = host.root / "shared"
    shared.mkdir()
    (shared / "file").write_text("mine")
    volumes = await host.daemon()
    path = Path(
        (await volumes.create("bound", "", {"type": "none", "o": "bind", "device": str(shared)}, {})).mountpoint
    )
    await volumes.mount("bound", "c1")
    assert (path / "file").read_text() == "mine"
    await volumes.unmount("bound", "c1")
    await volumes.remove("bound")
    assert (shared / "file").read_text() == "mine"


async def test_a_mount_that_fails_says_what_was_tried(host: Host) -> None:
    volumes = await host.daemon()
    path = (await volumes.create("bad", "", {"type": "none", "o": "bind", "device": "/nonex"}, {})).mountpoint
    with pytest.raises(Internal) as caught:
        await volumes.mount("bad", "c1")
    assert caught.value.message == (
        f"error while mounting volume '{path}': failed to mount local volume: mount /nonex:{path}, flags: 0x1000:"
        " no such file or directory"
    )
    await volumes.remove("bad")


async def test_what_a_container_left_in_a_volume_cannot_lead_its_removal_out(host: Host) -> None:
    volumes = await host.daemon()
    path = Path((await volumes.create("trap", "", {}, {})).mountpoint)
    outside = host.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (path / "way-out").symlink_to(outside)
    (path / "d").mkdir()
    (path / "d" / "way-out").symlink_to("../../../../outside")
    await volumes.remove("trap")
    assert (outside / "precious").read_text() == "x"
