"""Tiny rooms for the builder's tests: snapshots are directories, layers are listings, processes are functions."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gantry.build.builder import Builder
from gantry.errors import Conflict, NotFound
from gantry.model.container import Container, ContainerConfig
from gantry.model.image import HistoryEntry, Image
from gantry.model.instance import Instance
from gantry.model.network import Endpoint, Network, Sandbox
from gantry.model.platform import Platform
from gantry.model.task import ExitStatus, Mount, TaskSpec, TaskState
from gantry.oci.documents import chain_ids
from gantry.ports import LayerInfo, SnapshotInfo, Table

Command = Callable[[Path, dict[str, str], list[str]], "tuple[int, bytes, bytes]"]


class FakeState:
    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Any] = {}

    @contextmanager
    def view(self) -> Iterator["FakeState"]:
        yield self

    update = view

    def get(self, table: Table, key: str) -> Any:
        return self.records.get((table.name, key))

    def list(self, table: Table) -> list[Any]:
        return [record for (name, _), record in sorted(self.records.items()) if name == table.name]

    def put(self, table: Table, key: str, record: Any) -> None:
        self.records[table.name, key] = record

    def delete(self, table: Table, key: str) -> None:
        self.records.pop((table.name, key), None)


def listing(root: Path) -> dict[str, str]:
    """Every path below `root` with what it is."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory) / name
            status = path.lstat()
            kind = str(path.readlink()) if path.is_symlink() else path.read_bytes().hex() if path.is_file() else "/"
            found[str(path.relative_to(root))] = f"{status.st_mode:o} {kind}"
    return found


class FakeSnapshots:
    """Each snapshot is a whole copy of its parent. Also stands for `Layers`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, SnapshotInfo] = {}
        self.mounted_now = 0

    def directory(self, key: str) -> Path:
        return self.root / hashlib.sha256(key.encode()).hexdigest()[:16]

    def prepare(self, key: str, parent: str, kind: str = "active", *, volatile: bool = False) -> tuple[Mount, ...]:
        if key in self.known:
            raise Conflict(f"snapshot {key}: already exists")
        if parent and parent not in self.known:
            raise NotFound(f"parent snapshot {parent} does not exist")
        if parent:
            shutil.copytree(self.directory(parent), self.directory(key), symlinks=True)
        else:
            self.directory(key).mkdir(parents=True)
        self.known[key] = SnapshotInfo(key, kind, parent, 0)
        return (Mount("bind", str(self.directory(key))),)

    def view(self, key: str, parent: str) -> tuple[Mount, ...]:
        return self.prepare(key, parent, "view")

    def stat(self, key: str) -> SnapshotInfo:
        if key not in self.known:
            raise NotFound(key)
        return self.known[key]

    def walk(self) -> Iterator[SnapshotInfo]:
        yield from list(self.known.values())

    def commit(self, name: str, key: str) -> None:
        if name in self.known:
            raise Conflict(name)
        self.known[name] = SnapshotInfo(name, "committed", self.known.pop(key).parent, 0)
        self.directory(key).rename(self.directory(name))

    def remove(self, key: str) -> None:
        if self.known.pop(key, None):
            shutil.rmtree(self.directory(key))

    def upper(self, key: str) -> Path:
        path = self.root / "upper" / self.directory(key).name  # two steps may be looked at at once
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        if self.changes(key):
            (path / "changed").touch()
        return path

    def changes(self, key: str) -> list[tuple[int, str]]:
        parent = self.known[key].parent
        before = listing(self.directory(parent)) if parent else {}
        now = listing(self.directory(key))
        return [(0, path) for path in sorted(before.keys() | now.keys()) if before.get(path) != now.get(path)]

    def capture(self, key: str) -> LayerInfo:
        text = repr([(path, listing(self.directory(key)).get(path)) for _, path in self.changes(key)])
        digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        return LayerInfo(digest, digest, len(text), len(text), "tar")

    @contextmanager
    def mounted(self, mounts: Sequence[Mount], *, shifted: bool = False) -> Iterator[Path]:
        self.mounted_now += 1
        try:
            yield Path(mounts[0].source)
        finally:
            self.mounted_now -= 1


class FakeImages:
    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.layers: dict[str, tuple[LayerInfo, ...]] = {}
        self.names: dict[str, str] = {}
        self.pulled: list[str] = []

    async def get(self, reference: str, platform: Platform | None = None) -> Image:
        found = self.images.get(self.names.get(reference, reference))
        if found is None:
            raise NotFound(f"No such image: {reference}")
        return found

    async def ensure_unpacked(self, image: Image) -> str:
        return image.chain_id

    async def add(
        self, config: ContainerConfig, layers: Sequence[LayerInfo], history: Sequence[HistoryEntry], *,
        platform: Platform, parent: str = "", author: str = "", comment: str = "", created: str = "",
        extra: dict[str, Any] | None = None,
    ) -> Image:  # fmt: skip
        image_id = "sha256:" + hashlib.sha256(repr((config, layers, history, author)).encode()).hexdigest()
        diff_ids = [layer.diff_id for layer in layers]
        self.layers[image_id] = tuple(layers)
        self.images[image_id] = Image(
            image_id, image_id, image_id, "", platform.os, platform.architecture, platform.variant, created, author,
            comment, "", config, tuple(layer.digest for layer in layers), tuple(diff_ids),
            chain_ids(diff_ids)[-1] if diff_ids else "", tuple(history), 0, parent=parent,
        )  # fmt: skip
        return self.images[image_id]

    async def tag(self, image_id: str, reference: str) -> None:
        self.names[reference] = image_id

    async def pull(self, reference: str, platform: Platform | None, progress: Any, auth: str = "") -> Image:
        self.pulled.append(reference)
        progress({"status": f"Pulling {reference}", "id": reference})
        if reference not in self.names:
            raise NotFound(f"pull access denied for {reference}")
        return await self.get(reference)

    async def layer_infos(self, image: Image) -> tuple[LayerInfo, ...]:
        return self.layers[image.id]


class FakeEvents:
    def __init__(self) -> None:
        self.published: list[tuple[str, str]] = []

    def publish(
        self,
        type: str,  # noqa: A002
        action: str,
        actor_id: str,
        attributes: dict[str, str],
    ) -> None:
        self.published.append((type, action))


class FakeOutput:
    def __init__(self, frames: Sequence[tuple[int, bytes]], ended: asyncio.Event) -> None:
        self._frames = frames
        self._ended = ended

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        await self._ended.wait()
        for frame in self._frames:
            yield frame

    async def close(self) -> None:
        pass


class FakeRuntime:
    """`commands` answers for the last word of a command; it gets root directory, environment and words.

    Also stands for streams and networks. `alive` are the tasks that exist.
    """

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.specs: list[TaskSpec] = []
        self.alive: dict[str, TaskSpec] = {}
        self.sandboxes: set[str] = set()
        self.attached: list[str] = []
        self.hang: asyncio.Event | None = None
        self.running = 0
        self.most_running = 0
        self.together = 1  # how many commands are to be seen at once before any of them ends
        self._met = asyncio.Event()
        self._frames: dict[str, list[tuple[int, bytes]]] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._codes: dict[str, int] = {}

    async def create(self, spec: TaskSpec) -> TaskState:
        self.specs.append(spec)
        self.alive[spec.id] = spec
        self._frames[spec.id] = []
        self._ended[spec.id] = asyncio.Event()
        return TaskState("created", 1)

    async def start(self, container_id: str) -> None:
        spec = self.alive[container_id]
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        command = self.commands.get(spec.process.args[-1], lambda root, env, args: (0, b"", b""))
        env = {name: value for name, _, value in (item.partition("=") for item in spec.process.env)}
        code, out, err = command(Path(spec.rootfs[0].source), env, list(spec.process.args))
        self._frames[container_id] += [(number, data) for number, data in ((1, out), (2, err)) if data]
        self._codes[container_id] = code
        if self.hang is not None:
            await self.hang.wait()
        if self.running >= self.together:
            self._met.set()
        async with asyncio.timeout(20):
            await self._met.wait()
        self.running -= 1
        self._ended[container_id].set()

    async def attach(self, target: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(target, Container):  # the network's
            self.attached.append(arguments[0].name)
            return Endpoint(target.id, arguments[0].id, "e")
        return FakeOutput(self._frames[target], self._ended[target])

    async def kill(self, container_id: str, signal: int, exec_id: str = "") -> None:
        if container_id not in self.alive or self._ended[container_id].is_set():
            raise Conflict("is not running")
        self._codes[container_id] = 128 + signal
        self._ended[container_id].set()

    async def wait(self, container_id: str, exec_id: str = "") -> ExitStatus:
        await self._ended[container_id].wait()
        return ExitStatus(self._codes[container_id], 0)

    async def delete(self, container_id: str) -> None:
        self.alive.pop(container_id, None)

    async def open_sandbox(self, container: Container, *, host: bool) -> Sandbox:
        self.sandboxes.add(container.id)
        return Sandbox(container.id, "" if host else f"/netns/{container.id}")

    async def close_sandbox(self, container_id: str) -> None:
        self.sandboxes.discard(container_id)

    async def get(self, name: str) -> Network:
        if name not in ("bridge", "mine"):
            raise NotFound(f"network {name} not found")
        return Network(name, name, "")


class FakeLeases:
    @contextmanager
    def lease(self, *resources: str) -> Iterator["FakeLeases"]:
        yield self

    def add(self, *resources: str) -> None:
        pass


class Workshop:
    """A builder on fake rooms, with a `busybox` image that has /bin and /etc/passwd."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = FakeState()
        self.images = FakeImages()
        self.snapshots = FakeSnapshots(root / "snapshots")
        self.runtime = FakeRuntime()
        self.events = FakeEvents()
        self.builder = Builder(
            Instance.of(root / "data", root / "run"), self.state, self.images, self.snapshots,  # type: ignore[arg-type]
            self.snapshots, FakeLeases(), self.runtime, self.runtime, self.runtime, self.events,  # type: ignore[arg-type]
            ca_bundle="/host/ca.crt",
        )  # fmt: skip

    async def base(self, name: str = "busybox", **config: Any) -> Image:
        self.snapshots.prepare("new", "")
        directory = self.snapshots.directory("new")
        (directory / "bin").mkdir()
        (directory / "etc").mkdir()
        (directory / "bin" / "sh").write_text(name)
        (directory / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:5:6::/:/bin/sh\n")
        (directory / "etc" / "group").write_text("root:x:0:\nstaff:x:7:\n")
        layer = self.snapshots.capture("new")
        self.snapshots.commit(layer.diff_id, "new")
        image = await self.images.add(
            ContainerConfig(cmd=["sh"], **config), [layer], [HistoryEntry(created="c", created_by=name)],
            platform=Platform.host(),
        )  # fmt: skip
        self.images.names[name] = image.id
        return image

    def files(self, image: Image) -> Path:
        return self.snapshots.directory(image.chain_id)

    async def settled(self) -> None:
        """Wait until what a build that ended by itself left has been cleaned up."""
        async with asyncio.timeout(20):
            while self.runtime.alive or self.runtime.sandboxes or list((self.root / "data/build/tmp").glob("*")):
                await asyncio.sleep(0.01)

    def nothing_left(self) -> None:
        assert not [key for key in self.snapshots.known if key.startswith("build-")]
        assert not self.runtime.alive
        assert not self.runtime.sandboxes
        assert self.snapshots.mounted_now == 0
        assert not list((self.root / "data" / "build" / "tmp").glob("*"))
