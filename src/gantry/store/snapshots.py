"""Overlay snapshots: a directory per layer, stacked by overlayfs (containerd's snapshot model).

`<number>/fs` holds a layer's or container's own files, `<number>/work` is overlay's. Numbers keep the `lowerdir` option
short. A record is written before its directory is made and deleted before its directory is removed: at the next start,
a directory without a record is rubbish, and a record without its directory was never used.

A committed snapshot's files reach the disk behind its back: its record carries the boot in which it was made until
they have (`sync`). After a power cut, what was made in an earlier boot and not synced is made again from its blob.
"""

import ctypes
import errno
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gantry import faults
from gantry.errors import Conflict, GantryError, Internal, NotFound
from gantry.linux.inode_flags import spread
from gantry.linux.mount import VOLATILE
from gantry.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2, remove_tree
from gantry.model import timestamp
from gantry.model.task import Mount
from gantry.ports import SnapshotInfo, State, Table

log = logging.getLogger(__name__)

_SYNC_DELAY = 3.0  # seconds
_libc = ctypes.CDLL(None, use_errno=True)


class _Record(msgspec.Struct, frozen=True):
    """`size` is -1 until it is counted; `boot` is "" once the files are on the disk for sure."""

    key: str
    kind: str
    parent: str
    number: int
    created_at: int
    size: int = -1
    boot: str = ""


_SNAPSHOTS = Table("snapshot", _Record)
_SHARED = ("index=off", "redirect_dir=nofollow", "metacopy=off")  # layers are plain directories, whole files


class OverlaySnapshotter:
    """Implements `ports.Snapshotter`. All methods block for short disk operations."""

    def __init__(self, root: Path, state: State) -> None:
        """`root` is a directory of its own; a short path leaves room for many layers."""
        self._root = root
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o711)
        spread(self._root)
        self._state = state
        self._lock = threading.Lock()
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        with state.view() as tx:
            self._records: dict[str, _Record] = {record.key: record for record in tx.list(_SNAPSHOTS)}
        numbers = [int(entry) for entry in os.listdir(root) if entry.isdecimal()]
        self._next = 1 + max((*numbers, *(record.number for record in self._records.values())), default=0)
        self._syncing: threading.Timer | None = None
        self._clean()
        if any(record.boot for record in self._records.values()):
            self._sync_soon()

    def _clean(self) -> None:
        """Undo what a killed daemon left half made, and what a power cut may have left half written."""
        for record in self._top_down():
            lost = record.boot not in ("", self._boot)
            if lost or not (self._directory(record) / "work").is_dir():
                try:
                    self.remove(record.key)
                except Conflict:
                    log.warning("snapshot %s may be incomplete after a power cut, and is in use", record.key)
        known = {str(record.number) for record in self._records.values()}
        for name in os.listdir(self._root):
            if name not in known:
                self._remove_directory(name)

    def _top_down(self) -> list[_Record]:
        """All records, children before their parents."""

        def depth(record: _Record | None) -> int:
            count = 0
            while record is not None:
                count, record = count + 1, self._records.get(record.parent)
            return count

        return sorted(self._records.values(), key=depth, reverse=True)

    def prepare(self, key: str, parent: str, *, volatile: bool = False) -> tuple[Mount, ...]:
        return self._make(key, parent, "active", volatile=volatile)

    def view(self, key: str, parent: str) -> tuple[Mount, ...]:
        return self._make(key, parent, "view")

    def _make(self, key: str, parent: str, kind: str, *, volatile: bool = False) -> tuple[Mount, ...]:
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
            with self._state.update() as tx:
                tx.put(_SNAPSHOTS, key, record)
            faults.point("snapshot.recorded")
            self._make_directory(record, self._fs(above) if above else None)
            faults.point("snapshot.made")
        except BaseException as error:
            self.remove(key)
            if isinstance(error, OSError):
                raise Internal(f"snapshot {key}: {os.strerror(error.errno or 0).lower()}") from error
            raise
        return self._mounts(record, volatile=volatile)

    def _make_directory(self, record: _Record, below: Path | None) -> None:
        directory = self._directory(record)
        directory.mkdir(mode=0o711)
        own = directory / "fs"
        own.mkdir(mode=0o755)
        own.chmod(0o755)
        if below is not None:  # the root directory itself looks as in the layer below
            status = below.stat()
            os.chown(own, status.st_uid, status.st_gid)
            own.chmod(status.st_mode & 0o7777)
            os.utime(own, ns=(status.st_mtime_ns, status.st_mtime_ns))
        (directory / "work").mkdir(mode=0o711)

    def mounts(self, key: str, *, volatile: bool = False) -> tuple[Mount, ...]:
        return self._mounts(self._get(key), volatile=volatile)

    def commit(self, name: str, key: str, size: int = -1, parent: str = "") -> None:
        """`size` spares counting the bytes where the caller knows them; `parent` puts a bottom one on top of it."""
        with self._lock:
            record = self._get(key)
            if name in self._records:
                raise Conflict(f"snapshot {name!r}: already exists")
            if record.kind != "active":
                raise Conflict(f"snapshot {key!r} is not active")
            above = self._records.get(parent)
            if parent and (record.parent not in ("", parent) or above is None or above.kind != "committed"):
                raise NotFound(f"parent snapshot {parent} does not exist: not found")
            made = msgspec.structs.replace(
                record, key=name, kind="committed", size=size, boot=self._boot, parent=parent or record.parent
            )
            with self._state.update() as tx:
                tx.put(_SNAPSHOTS, name, made)
                tx.delete(_SNAPSHOTS, key)
            faults.point("snapshot.committed")
            self._records[name] = made
            del self._records[key]
        self._sync_soon()

    def sync(self) -> None:
        """Wait until the files of all committed snapshots are on the disk, and note it."""
        waiting = [record.key for record in list(self._records.values()) if record.boot]
        if not waiting:
            return
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc.syncfs(root):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self._root))
        finally:
            os.close(root)
        self._change({key: {"boot": ""} for key in waiting})

    def _sync_soon(self) -> None:
        """Sync in a thread, a little later: the work that is going on now needs the disk more."""
        with self._lock:
            if self._syncing is not None and self._syncing.is_alive():
                return
            self._syncing = threading.Timer(_SYNC_DELAY, self._sync_quietly)
            self._syncing.daemon = True
            self._syncing.start()

    def _sync_quietly(self) -> None:
        try:
            self.sync()
        except (OSError, GantryError) as error:
            log.debug("snapshots are not known to be on the disk yet: %s", error)

    def _change(self, changes: dict[str, dict[str, str | int]]) -> None:
        """Replace fields of records that are still there."""
        with self._lock, self._state.update() as tx:
            for key, fields in changes.items():
                if (record := self._records.get(key)) is not None:
                    self._records[key] = record = msgspec.structs.replace(record, **fields)
                    tx.put(_SNAPSHOTS, key, record)

    def remove(self, key: str) -> None:
        with self._lock:
            record = self._records.get(key)
            if record is None:
                return
            if any(other.parent == key for other in self._records.values()):
                raise Conflict(f"cannot remove snapshot {key} with child: failed precondition")
            with self._state.update() as tx:
                tx.delete(_SNAPSHOTS, key)
            del self._records[key]
        faults.point("snapshot.forgotten")
        self._remove_directory(str(record.number))

    def _remove_directory(self, name: str) -> None:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(root, name)
        except OSError as error:
            log.warning("directory %s/%s could not be removed: %s", self._root, name, error)
        finally:
            os.close(root)

    def stat(self, key: str) -> SnapshotInfo:
        record = self._get(key)
        return SnapshotInfo(record.key, record.kind, record.parent, record.created_at)

    def walk(self) -> Iterator[SnapshotInfo]:
        for record in list(self._records.values()):
            yield SnapshotInfo(record.key, record.kind, record.parent, record.created_at)

    def usage(self, key: str) -> int:
        record = self._get(key)
        if record.size >= 0:
            return record.size
        total = _file_bytes(self._fs(record))
        if record.kind == "committed":
            self._change({key: {"size": total}})
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

    def _directory(self, record: _Record) -> Path:
        return self._root / str(record.number)

    def _fs(self, record: _Record) -> Path:
        return self._directory(record) / "fs"

    def _mounts(self, record: _Record, *, volatile: bool = False) -> tuple[Mount, ...]:
        stack = self.layers(record.key)
        own, lower = stack[0], stack[1:]
        if record.kind == "active":
            if not lower:
                return (Mount("bind", str(own), options=("rw", "rbind")),)
            upper = (f"upperdir={_escape(own)}", f"workdir={_escape(own.parent / 'work')}")
            kept = (VOLATILE,) if volatile else ()
            return (Mount("overlay", "overlay", options=(_lowerdir(lower), *upper, *_SHARED, *kept)),)
        if record.kind == "view" and lower:
            stack = lower
        if len(stack) == 1:
            return (Mount("bind", str(stack[0]), options=("ro", "rbind")),)
        return (Mount("overlay", "overlay", options=("ro", _lowerdir(stack), *_SHARED)),)


def _lowerdir(stack: list[Path]) -> str:
    return "lowerdir=" + ":".join(_escape(path).replace(":", "\\:") for path in stack)


def _escape(path: Path) -> str:
    """A path in overlay's options: a backslash stands before itself and before a comma."""
    return str(path).replace("\\", "\\\\").replace(",", "\\,")


def _file_bytes(root: Path) -> int:
    """The bytes of all files below a directory, each file once however many names it has; links are not followed."""
    total = 0
    seen: set[int] = set()
    waiting = ["."]
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while waiting:
            path = waiting.pop()
            try:
                opened = openat2(top, path, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                    continue  # a running container goes on changing its files
                raise
            try:
                for name in os.listdir(opened):
                    try:
                        status = os.stat(name, dir_fd=opened, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(f"{path}/{name}")
                    elif status.st_nlink == 1 or status.st_ino not in seen:
                        seen.add(status.st_ino)
                        total += status.st_size
            finally:
                os.close(opened)
    finally:
        os.close(top)
    return total
