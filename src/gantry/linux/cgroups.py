"""Control groups, version 1, version 2 and both at once (cgroups(7)): find, read, kill, remove. No policy."""

import contextlib
import ctypes
import enum
import errno
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from gantry.linux.mount import mount_points

ROOT = Path("/sys/fs/cgroup")
_CGROUP2_MAGIC = 0x63677270
_libc = ctypes.CDLL(None, use_errno=True)


class Mode(enum.Enum):
    LEGACY = 1
    HYBRID = 3
    UNIFIED = 2


def detect_mode(root: Path = ROOT) -> Mode:
    """Which versions are mounted at `root`."""
    if _is_cgroup2(root):
        return Mode.UNIFIED
    unified = root / "unified"
    return Mode.HYBRID if unified.is_dir() and _is_cgroup2(unified) else Mode.LEGACY


def _is_cgroup2(path: Path) -> bool:
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with the type, a long
    if _libc.statfs(os.fsencode(path), buffer):
        return False
    return int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) == _CGROUP2_MAGIC


class Hierarchies(msgspec.Struct, frozen=True):
    """Where the controllers are: on version 2 one directory for all, on version 1 one for each.

    `mounts` maps a controller's name ("" for version 2) to its hierarchy's directory.
    """

    mode: Mode
    mounts: dict[str, Path]

    @classmethod
    def find(cls, root: Path = ROOT) -> "Hierarchies":
        mode = detect_mode(root)
        if mode is Mode.UNIFIED:
            return cls(mode, {"": root})
        mounts: dict[str, Path] = {}
        prefix = f"{root}/"
        for point in mount_points():
            if point.startswith(prefix) and "/" not in (name := point.removeprefix(prefix)):
                if name == "unified":
                    continue
                for controller in name.split(","):
                    mounts[controller] = Path(point)
        return cls(mode, mounts)

    @property
    def unified(self) -> bool:
        return self.mode is Mode.UNIFIED

    def directory(self, group: str, controller: str) -> Path | None:
        """The directory of `group` (absolute within the hierarchy), None where the controller is not mounted."""
        base = self.mounts.get("" if self.unified else controller)
        return None if base is None else base / group.lstrip("/")

    def directories(self, group: str) -> Iterator[Path]:
        """Every directory of `group` that exists, over all hierarchies."""
        for base in set(self.mounts.values()):
            path = base / group.lstrip("/")
            if path.is_dir():
                yield path

    def foreign_groups(self) -> tuple[str, ...]:
        """The controllers ("" for version 2) in which this process is not in the root group."""
        found = []
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            if path != "/":
                found += [name.removeprefix("name=") for name in names.split(",")]
        return tuple(name for name in found if name in self.mounts)

    def pids(self, group: str) -> list[int]:
        """Process ids in `group` and all below it."""
        for controller in ("", "pids", "memory", "systemd", "devices"):
            base = self.mounts.get(controller)
            if base is not None and (path := base / group.lstrip("/")).is_dir():
                return sorted(_pids_below(path))
        return []

    def kill(self, group: str, timeout: float = 10.0) -> bool:
        """SIGKILL every process in `group` and below and wait for their end (blocking); whether none is left."""
        deadline = time.monotonic() + timeout
        while True:
            found = set(self.pids(group))
            for path in self.directories(group):
                found |= _pids_below(path)
            if not found:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._thaw(group)
            if self.unified:
                with contextlib.suppress(FileNotFoundError):
                    (self.mounts[""] / group.lstrip("/") / "cgroup.kill").write_text("1")
            _kill_and_wait(found, left, lambda: set(self.pids(group)))

    def _thaw(self, group: str) -> None:
        """A frozen process does not die before it is thawed (version 1)."""
        if (freezer := None if self.unified else self.directory(group, "freezer")) is not None:
            with contextlib.suppress(FileNotFoundError):
                (freezer / "freezer.state").write_text("THAWED")

    def lift_pids(self, group: str) -> None:
        """Take the limit on processes away (blocking); raises OSError."""
        if (directory := self.directory(group, "pids")) is not None:
            (directory / "pids.max").write_text("max")

    def lift_quota(self, group: str) -> None:
        """Take the limit on processor time away (blocking); raises OSError."""
        if (directory := self.directory(group, "cpu")) is not None:
            file, value = ("cpu.max", "max") if self.unified else ("cpu.cfs_quota_us", "-1")
            (directory / file).write_text(value)

    def freeze(self, group: str, frozen: bool) -> None:
        """Stop or go on with all processes of `group`, and wait until it is so (blocking); raises OSError."""
        if self.unified:
            self._freeze_unified(group, frozen)
            return
        if (directory := self.directory(group, "freezer")) is None:
            raise OSError(errno.ENOENT, "the freezer controller is not mounted")
        file, wanted = directory / "freezer.state", "FROZEN" if frozen else "THAWED"
        for _ in range(1000):
            file.write_text(wanted)
            if file.read_text().strip() == wanted:
                return
            time.sleep(0.001)  # version 1 has no event for it
        file.write_text("THAWED")
        raise OSError(errno.EBUSY, "cannot freeze", os.fspath(directory))

    def _freeze_unified(self, group: str, frozen: bool) -> None:
        directory = self.mounts[""] / group.lstrip("/")
        with open(directory / "cgroup.events", "rb", buffering=0) as events:
            poller = select.poll()
            poller.register(events, select.POLLPRI)
            (directory / "cgroup.freeze").write_text("1" if frozen else "0")
            deadline = time.monotonic() + 10
            while True:
                events.seek(0)
                if b"frozen 1" in events.read() or not frozen:
                    return
                if time.monotonic() > deadline:
                    (directory / "cgroup.freeze").write_text("0")
                    raise OSError(errno.EBUSY, "cannot freeze", os.fspath(directory))
                poller.poll(1000)

    def frozen(self, group: str) -> bool:
        if self.unified:
            return "frozen 1" in read_text(self.mounts[""] / group.lstrip("/") / "cgroup.events")
        directory = self.directory(group, "freezer")
        return directory is not None and read_text(directory / "freezer.state").strip() in ("FROZEN", "FREEZING")

    def remove(self, group: str) -> None:
        """Remove `group` and all below it in every hierarchy (blocking); it must hold no live process.

        Raises OSError (EBUSY) where a process is left.
        """
        for path in self.directories(group):
            _remove_tree(path)
        # Without version 2, crun leaves plain directories where it would be mounted.
        plain = ROOT / "unified" / group.lstrip("/")
        if self.mode is Mode.LEGACY and plain.is_dir() and not _is_cgroup2(plain):
            shutil.rmtree(plain, ignore_errors=True)

    def remove_unused(self, group: str) -> None:
        """Remove `group` alone where nothing is in it, neither a process nor another group (blocking)."""
        for path in self.directories(group):
            with contextlib.suppress(OSError):
                path.rmdir()

    def remove_empty(self, group: str) -> None:
        """Remove `group` and all below it where no process is in any of them (blocking)."""
        if not any(_pids_below(path) for path in self.directories(group)):
            self.remove(group)

    def add(self, group: str, pid: int, controllers: tuple[str, ...]) -> None:
        """Move a process into `group`, making it where needed, in the named hierarchies of version 1."""
        if self.unified:
            bases = {self.mounts[""]}
        else:
            bases = {self.mounts[name] for name in controllers if name in self.mounts}
        for base in bases:
            path = base / group.lstrip("/")
            path.mkdir(parents=True, exist_ok=True)
            (path / "cgroup.procs").write_text(str(pid))

    def unified_files(self) -> frozenset[str]:
        """The names of the control files that groups below version 2's root have (blocking).

        Where there is no group yet, one is made for the look and removed again.
        """
        root = self.mounts[""]
        found: set[str] = set()
        for child in root.iterdir():
            if child.is_dir():
                found.update(os.listdir(child))
        controllers = read_text(root / "cgroup.controllers").split()
        if found and all(any(file.startswith(f"{name}.") for file in found) for name in controllers):
            return frozenset(found)
        for name in controllers:
            with contextlib.suppress(OSError):  # a root that holds processes, or a controller that is taken
                (root / "cgroup.subtree_control").write_text(f"+{name}")
        probe = root / f"gantry-probe-{os.getpid()}"
        try:
            probe.mkdir()
        except OSError:
            return frozenset(found)  # a read-only hierarchy: what others have must do
        try:
            return frozenset(found | set(os.listdir(probe)))
        finally:
            probe.rmdir()

    def oom_killed(self, group: str) -> bool:
        """Whether the kernel has killed a process of `group` for want of memory."""
        if self.unified:
            name, key = "memory.events", "oom_kill"
        else:
            name, key = "memory.oom_control", "oom_kill"
        directory = self.directory(group, "memory")
        return directory is not None and read_table(directory / name).get(key, 0) > 0


def read_text(path: Path) -> str:
    """The whole file, "" where it is absent or its group has just gone."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return ""
        raise


def read_number(path: Path, default: int = 0) -> int:
    """One number; "max" and an absent file give `default`."""
    text = read_text(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else default


def read_table(path: Path) -> dict[str, int]:
    """Lines of `key number`."""
    table: dict[str, int] = {}
    for line in read_text(path).splitlines():
        key, _, value = line.partition(" ")
        if value.lstrip("-").isdecimal():
            table[key] = int(value)
    return table


def _pids_below(path: Path) -> set[int]:
    found: set[int] = set()
    for directory, _, _ in os.walk(path):
        found.update(int(line) for line in read_text(Path(directory, "cgroup.procs")).split())
    found.discard(0)  # a process outside of our pid namespace has no number here
    return found


def _kill_and_wait(pids: set[int], seconds: float, members: Callable[[], set[int]]) -> None:
    poller = select.poll()
    descriptors: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                descriptors[pid] = os.pidfd_open(pid)
        # Asked again while the descriptors are held: a number that was reused in between is not killed.
        still, waiting = members(), 0
        for pid, descriptor in descriptors.items():
            if pid not in still:
                continue
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            poller.register(descriptor, select.POLLIN)
            waiting += 1
        deadline = time.monotonic() + seconds
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                poller.unregister(descriptor)
                waiting -= 1
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _remove_tree(path: Path) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        for attempt in range(50):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                break
            except OSError as error:
                # A process that has just ended holds its group for a moment longer.
                if error.errno != errno.EBUSY or attempt == 49:
                    raise
                time.sleep(0.002)
            else:
                break
