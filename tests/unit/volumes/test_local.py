"""The local driver: names, options, use, removal, and restarts at bad moments."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from gantry.errors import Conflict, GantryError, InvalidArgument, NotFound, Unsupported
from gantry.model.instance import Instance
from gantry.store.state import SQLiteState
from gantry.volumes.local import LocalVolumes
from gantry.volumes.records import VOLUMES


class Host:
    """A data root with containers that are only names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = SQLiteState(root / "state.db")
        self.containers: dict[str, list[str]] = {}

    def users(self, name: str) -> Sequence[str]:
        return [container for container, volumes in self.containers.items() if name in volumes]

    async def daemon(self) -> LocalVolumes:
        volumes = LocalVolumes(Instance.of(self.root, self.root / "run"), self.state, self.users)
        await volumes.start()
        return volumes


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_create_is_idempotent(host: Host) -> None:
    volumes = await host.daemon()
    first = await volumes.create("data", "", {}, {"a": "b"})
    assert await volumes.create("data", "local", {"type": "tmpfs", "device": "tmpfs"}, {}) == first
    assert (first.driver, first.labels, first.options, first.anonymous) == ("local", {"a": "b"}, None, False)
    assert first.mountpoint == str(host.root / "volumes" / "data" / "_data")
    assert Path(first.mountpoint).stat().st_mode & 0o777 == 0o755
    assert (host.root / "volumes").stat().st_mode & 0o777 == 0o701
    assert await volumes.list() == [first]


async def test_no_name_means_anonymous(host: Host) -> None:
    volume = await (await host.daemon()).create("", "", {}, {})
    assert len(volume.name) == 64
    assert volume.anonymous
    assert volume.labels == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize(
    ("name", "driver", "options", "kind", "words"),
    [
        ("a", "", {}, InvalidArgument, "create a: volume name is too short, names should be at least two alphanumeric"),
        ("a b", "", {}, InvalidArgument, 'create a b: "a b" includes invalid characters for a local volume name'),
        ("../x", "", {}, InvalidArgument, "includes invalid characters"),
        (".removed-x", "", {}, InvalidArgument, "includes invalid characters"),
        ("x" * 256, "", {}, InvalidArgument, "too long"),
        ("vv", "nope", {}, NotFound, 'create vv: error looking up volume plugin nope: plugin "nope" not found'),
        ("vv", "", {"zz": "1"}, InvalidArgument, 'create vv: invalid option: "zz"'),
        ("vv", "", {"type": "tmpfs"}, InvalidArgument, 'create vv: missing required option: "device"'),
        ("vv", "", {"device": "tmpfs"}, InvalidArgument, 'create vv: missing required option: "type"'),
        ("vv", "", {"size": "1g"}, Unsupported, "quota size requested but no quota support"),
    ],
)
async def test_bad_requests(
    host: Host, name: str, driver: str, options: dict[str, str], kind: type[GantryError], words: str
) -> None:
    volumes = await host.daemon()
    with pytest.raises(kind, match=words):
        await volumes.create(name, driver, options, {})
    assert await volumes.list() == []
    assert not (host.root / "volumes" / name).exists() or name == "../x"


async def test_removal_waits_for_every_container(host: Host) -> None:
    volumes = await host.daemon()
    volume = await volumes.create("data", "", {}, {})
    Path(volume.mountpoint, "file").write_text("x")
    host.containers["stopped"] = ["data"]
    await volumes.mount("data", "running")
    for force in (False, True):
        with pytest.raises(Conflict, match=r"remove data: volume is in use - \[stopped, running\]"):
            await volumes.remove("data", force=force)
    await volumes.unmount("data", "running")
    await volumes.unmount("data", "running")
    del host.containers["stopped"]
    await volumes.remove("data")
    assert not (host.root / "volumes" / "data").exists()
    with pytest.raises(NotFound, match="get data: no such volume"):
        await volumes.remove("data")
    await volumes.remove("data", force=True)
    with pytest.raises(NotFound):
        await volumes.get("data")
    assert list((host.root / "volumes").iterdir()) == []


async def test_volumes_survive_a_restart(host: Host) -> None:
    volume = await (await host.daemon()).create("data", "", {}, {"a": "b"})
    Path(volume.mountpoint, "file").write_text("kept")
    again = await host.daemon()
    assert await again.get("data") == volume
    assert Path(volume.mountpoint, "file").read_text() == "kept"


async def test_a_removal_that_was_interrupted_is_finished(host: Host) -> None:
    volumes = await host.daemon()
    for name in ("going", "staying"):
        Path((await volumes.create(name, "", {}, {})).mountpoint, "file").write_text("x")
    with host.state.update() as transaction:
        record = transaction.get(VOLUMES, "going")
        transaction.put(VOLUMES, "going", msgspec.structs.replace(record, removing=True))
    (host.root / "volumes" / ".removed-000000000000").mkdir()
    again = await host.daemon()
    assert [volume.name for volume in await again.list()] == ["staying"]
    assert [path.name for path in (host.root / "volumes").iterdir()] == ["staying"]


async def test_a_creation_that_was_interrupted_is_finished(host: Host) -> None:
    volume = await (await host.daemon()).create("data", "", {}, {})
    Path(volume.mountpoint).rmdir()
    await host.daemon()
    assert Path(volume.mountpoint).is_dir()


async def test_copy_up_fills_an_empty_volume_only(host: Host) -> None:
    volumes = await host.daemon()
    volume = await volumes.create("data", "", {}, {})
    source = host.root / "image"
    source.mkdir()
    (source / "file").write_text("from the image")
    await volumes.copy_up("data", source, "part")
    assert list(Path(volume.mountpoint).iterdir()) == []
    await volumes.copy_up("data", source, "")
    (source / "file").write_text("newer")
    await volumes.copy_up("data", source, "")
    assert Path(volume.mountpoint, "file").read_text() == "from the image"
    assert await volumes.size("data") == len("from the image")
