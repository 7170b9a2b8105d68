"""A task on disk: `<exec root>/tasks/<id>/`, written before anything is made, so that a new daemon finds it.

| file | content |
|---|---|
| task.json | what was asked: runtime, cgroup, mounts, terminal (written first) |
| run.json | process ids with their start times (written when conmon has answered) |
| started | the process was released |
| config.json, rootfs/ | the OCI bundle |
| pidfile, attach, ctl, winsz | conmon's |
| <id> | the exit code (conmon's exit file) |
| execs/<exec id>/ | the same for each exec |
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from gantry.errors import NotFound
from gantry.linux.pidfd import start_time
from gantry.model.identity import ID_FORM
from gantry.model.instance import Instance
from gantry.model.task import ExitStatus

_REMOVE_ATTEMPTS = 5

Record = TypeVar("Record", bound=msgspec.Struct)


class Intent(msgspec.Struct, frozen=True):
    """What a task was to be. `mounts` are the places that were mounted, `shm` a mounted /dev/shm or ""."""

    id: str
    runtime: str
    cgroup: str
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    own_network: bool = False
    mounts: tuple[str, ...] = ()
    shm: str = ""


class Run(msgspec.Struct, frozen=True):
    """The processes of a task, valid only for the boot that they were started in."""

    boot: str
    conmon: int
    conmon_started: int
    pid: int = 0
    pid_started: int = 0


class Bundle:
    """Paths and records of one container's task, or of one exec in it."""

    def __init__(self, path: Path, container_id: str) -> None:
        self.path = path
        self.container_id = container_id

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    @property
    def pidfile(self) -> Path:
        return self.path / "pidfile"

    @property
    def control(self) -> Path:
        return self.path / "ctl"

    @property
    def started(self) -> bool:
        return (self.path / "started").exists()

    def mark_started(self) -> None:
        (self.path / "started").touch()

    def exec(self, exec_id: str) -> "Bundle":
        return Bundle(self.path / "execs" / exec_id, self.container_id)

    def execs(self) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            yield from os.listdir(self.path / "execs")

    def write(self, name: str, record: object) -> None:
        """Replace one record as a whole."""
        temporary = self.path / f".{name}"
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.rename(self.path / name)

    def read_intent(self) -> Intent | None:
        return self._read("task.json", Intent)

    def read_run(self) -> Run | None:
        run = self._read("run.json", Run)
        return run if run is not None and run.boot == boot_id() else None

    def _read(self, name: str, kind: type[Record]) -> Record | None:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def exit_status(self) -> ExitStatus | None:
        """The exit code that conmon wrote, with the file's time; None while there is none."""
        path = self.path / self.container_id
        try:
            code, at = int(path.read_text(encoding="ascii")), path.stat().st_mtime_ns
        except (FileNotFoundError, ValueError):
            return None
        return ExitStatus(code, at)

    def remove(self) -> None:
        """Remove all files. Places where something was mounted must be empty: a mount is never emptied.

        Raises OSError where one is still in use.
        """
        for place in (
            self.rootfs,
            self.path / "shm",
            *_entries(self.path / "images"),
            *_entries(self.path / "subpaths"),
        ):
            if place.is_dir():
                place.rmdir()
            else:
                place.unlink(missing_ok=True)
        for attempt in range(_REMOVE_ATTEMPTS):
            try:
                shutil.rmtree(self.path)
            except FileNotFoundError:
                if not self.path.exists():  # else somebody removed a part of it at the same time
                    return
            except OSError as error:
                # an ending conmon may still have written a file
                if error.errno != errno.ENOTEMPTY or attempt == _REMOVE_ATTEMPTS - 1:
                    raise
            else:
                return


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


class Bundles:
    """All tasks of one daemon."""

    def __init__(self, instance: Instance) -> None:
        self.root = instance.exec_root.resolve() / "tasks"

    def get(self, container_id: str) -> Bundle:
        """Raises NotFound for what is no full identifier: it becomes a path."""
        if not ID_FORM.fullmatch(container_id):
            raise NotFound(f"No such container: {container_id}")
        return Bundle(self.root / container_id, container_id)

    def ids(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.root) if ID_FORM.fullmatch(name))
        except FileNotFoundError:
            return []


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def surviving_pids(instance: Instance) -> list[int]:
    """The conmon processes of an earlier daemon that still live: whose mount namespace a new daemon joins."""
    found = []
    bundles = Bundles(instance)
    for container_id in bundles.ids():
        bundle = bundles.get(container_id)
        run = bundle.read_run()
        if run is not None and run.conmon_started and start_time(run.conmon) == run.conmon_started:
            found.append(run.conmon)
        elif run is None and (pid := find_conmon(bundle.path)):
            found.append(pid)
    return found


def find_conmon(bundle: Path) -> int:
    """The conmon that was started for `bundle` by a daemon that died before it wrote that down; 0 for none."""
    wanted = os.fsencode(bundle)
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                arguments = file.read().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if arguments[0].endswith(b"conmon") and wanted in arguments:
            return int(entry)
    return 0
