"""Overlay snapshots: a directory per layer, stacked by overlayfs (containerd's snapshot model).

`snapshots/<number>/fs` holds a layer's or container's own files, `snapshots/<number>/work` is overlay's. Numbers keep
the `lowerdir` option short. A record is written before its directory is made and deleted after it is gone.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gantry.errors import Conflict, NotFound
from gantry.model import timestamp
from gantry.model.task import Mount
from gantry.ports import SnapshotInfo, State, Table


class _Record(msgspec.Struct, frozen=True):
    key: str
    kind: str
    parent: str
    number: int
    created_at: int
    ready: bool = False


_SNAPSHOTS = Table("snapshot", _Record)


class OverlaySnapshotter:
    """Implements `ports.Snapshotter`. All methods block for short disk operations."""

    def __init__(self, root: Path, state: State) -> None:
        self._root = root / "snapshots"
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o711)
        self._state = state
        self._lock = threading.Lock()
        with state.view() as tx:
            self._records: dict[str, _Record] = {record.key: record for record in tx.list(_SNAPSHOTS)}
        self._next = 1 + max((record.number for record in self._records.values()), default=0)
        self._clean()

    def _clean(self) -> None:
        """Undo what a killed daemon left half made: records without a directory, directories without a record."""
        for record in [record for record in self._records.values() if not record.ready]:
            self._forget(record)
        known = {str(record.number) for record in self._records.values()}
        for directory in self._root.iterdir():
            if directory.name not in known:
                shutil.rmtree(directory)

    def prepare(self, key: str, parent: str) -> tuple[Mount, ...]:
        return self._make(key, parent, "active")

    def view(self, key: str, parent: str) -> tuple[Mount, ...]:
        return self._make(key, parent, "view")

    def _make(self, key: str, parent: str, kind: str) -> tuple[Mount, ...]:
        with self._lock:
            if key in self._records:
                raise Conflict(f"snapshot {key!r}: already exists")
            above = self._records.get(parent)
            if parent and (above is None or above.kind != "committed"):
                raise NotFound(f"parent snapshot {parent} does not exist: not found")
            record = _Record(key, kind, parent, self._next, timestamp.now())
            self._next += 1
            self._records[key] = record
        try:
            self._store(record)
            directory = self._root / str(record.number)
            (directory / "fs").mkdir(parents=True, mode=0o755)
            directory.chmod(0o711)
            (directory / "work").mkdir(mode=0o711)
            if parent:
                # The root directory itself looks as the layer below has it.
                below = self._fs(self._records[parent])
                shutil.copystat(below, directory / "fs")
                status = below.stat()
                (directory / "fs").chmod(status.st_mode & 0o7777)
                os.chown(directory / "fs", status.st_uid, status.st_gid)
            record = msgspec.structs.replace(record, ready=True)
            self._store(record)
        except BaseException:
            self._forget(record)
            raise
        return self._mounts(record)

    def mounts(self, key: str) -> tuple[Mount, ...]:
        return self._mounts(self._get(key))

    def commit(self, name: str, key: str) -> None:
        with self._lock:
            record = self._get(key)
            if name in self._records:
                raise Conflict(f"snapshot {name!r}: already exists")
            if record.kind != "active":
                raise Conflict(f"snapshot {key!r} is not active")
            made = msgspec.structs.replace(record, key=name, kind="committed")
            with self._state.update() as tx:
                tx.put(_SNAPSHOTS, name, made)
                tx.delete(_SNAPSHOTS, key)
            self._records[name] = made
            del self._records[key]

    def remove(self, key: str) -> None:
        with self._lock:
            record = self._records.get(key)
            if record is None:
                return
            if any(other.parent == key for other in self._records.values()):
                raise Conflict(f"cannot remove snapshot {key} with child: failed precondition")
        self._forget(record)

    def stat(self, key: str) -> SnapshotInfo:
        record = self._get(key)
        return SnapshotInfo(record.key, record.kind, record.parent, record.created_at)

    def walk(self) -> Iterator[SnapshotInfo]:
        for record in list(self._records.values()):
            yield SnapshotInfo(record.key, record.kind, record.parent, record.created_at)

    def usage(self, key: str) -> int:
        total = 0
        seen: set[int] = set()
        for directory, _, files in os.walk(self._fs(self._get(key))):
            for name in files:
                status = os.lstat(f"{directory}/{name}")
                if status.st_ino not in seen:
                    seen.add(status.st_ino)
                    total += status.st_blocks * 512
        return total

    def upper(self, key: str) -> Path:
        return self._fs(self._get(key))

    def layers(self, key: str) -> list[Path]:
        """The directories of a snapshot's stack, its own first."""
        found = []
        record: _Record | None = self._get(key)
        while record is not None:
            found.append(self._fs(record))
            record = self._records.get(record.parent) if record.parent else None
        return found

    def _get(self, key: str) -> _Record:
        record = self._records.get(key)
        if record is None:
            raise NotFound(f"snapshot {key} does not exist: not found")
        return record

    def _fs(self, record: _Record) -> Path:
        return self._root / str(record.number) / "fs"

    def _store(self, record: _Record) -> None:
        with self._state.update() as tx:
            tx.put(_SNAPSHOTS, record.key, record)
        self._records[record.key] = record

    def _forget(self, record: _Record) -> None:
        directory = self._root / str(record.number)
        if directory.exists():
            shutil.rmtree(directory)
        with self._state.update() as tx:
            tx.delete(_SNAPSHOTS, record.key)
        self._records.pop(record.key, None)

    def _mounts(self, record: _Record) -> tuple[Mount, ...]:
        stack = self.layers(record.key)
        own, lower = stack[0], stack[1:]
        if record.kind == "active":
            if not lower:
                return (Mount("bind", str(own), options=("rw", "rbind")),)
            return (
                Mount(
                    "overlay", "overlay",
                    options=(
                        f"lowerdir={':'.join(map(str, lower))}", f"upperdir={own}", f"workdir={own.parent / 'work'}",
                    ),
                ),
            )  # fmt: skip
        if record.kind == "view":
            stack = lower
        if len(stack) == 1:
            return (Mount("bind", str(stack[0]), options=("ro", "rbind")),)
        return (Mount("overlay", "overlay", options=("ro", f"lowerdir={':'.join(map(str, stack))}")),)
