"""The `local` volume driver: implements `ports.Volumes`.

A volume is `<data root>/volumes/<name>/_data`. One with options is mounted there as long as a container uses it.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from gantry import faults
from gantry.aio import run_blocking
from gantry.errors import Conflict, Internal, NotFound
from gantry.linux.mount import is_mounted, unmount_all
from gantry.linux.openat2 import remove_tree
from gantry.model import timestamp
from gantry.model.identity import new_id
from gantry.model.instance import Instance
from gantry.model.volume import Volume
from gantry.ports import State
from gantry.volumes import tree
from gantry.volumes.options import check_name, check_options, mount_options
from gantry.volumes.records import VOLUMES, VolumeRecord

ANONYMOUS = "com.docker.volume.anonymous"  # the label that Docker gives to volumes without a name


class LocalVolumes:
    """All volumes of one daemon. `users` names the containers, running or not, that are configured with a volume."""

    def __init__(
        self, instance: Instance, state: State, users: Callable[[str], Sequence[str]], owner: tuple[int, int] = (0, 0)
    ) -> None:
        """`owner` (uid, gid) is what containers' root is on the host: new volumes are its own."""
        self._root = instance.data_root / "volumes"
        self._state = state
        self._users = users
        self._owner = owner
        self._records: dict[str, VolumeRecord] = {}
        self._using: dict[str, list[str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def start(self) -> None:
        """Read the records, and finish what an earlier daemon had begun to make or to remove."""

        def read() -> Sequence[VolumeRecord]:
            with self._state.view() as transaction:
                return transaction.list(VOLUMES)

        self._records = {each.volume.name: each for each in await run_blocking(read)}
        for record in list(self._records.values()):
            if record.removing:
                await self._finish_removing(record)
                continue
            if record.renamed_from:
                record = await self._finish_renaming(record)
            await run_blocking(self._ensure_directory, record.volume.name)
        await run_blocking(self._sweep)

    def _sweep(self) -> None:
        """Directories of removed volumes: their record went first, their content may still be there."""
        if self._root.is_dir():
            for entry in list(self._root.glob(".removed-*")):
                self._remove_directory(entry.name)

    async def create(
        self, name: str, driver: str, options: dict[str, str], labels: dict[str, str], *, anonymous: bool = False
    ) -> Volume:
        """Idempotent; raises InvalidArgument for name and options, NotFound for another driver than `local`."""
        if not name:
            name, anonymous = new_id(), True
        check_name(name)
        if driver not in ("", "local"):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        async with self._lock(name):
            known = self._records.get(name)
            if known is not None:
                return known.volume
            check_options(name, options)
            volume = Volume(
                name=name,
                driver="local",
                mountpoint=str(self._path(name)),
                created_at=timestamp.rfc3339(timestamp.now() // 1_000_000_000 * 1_000_000_000),
                labels={**labels, ANONYMOUS: ""} if anonymous else labels or None,
                options=options or None,
                anonymous=anonymous or ANONYMOUS in labels,
            )
            await self._save(VolumeRecord(volume))
            faults.point("volume.recorded")
            try:
                await run_blocking(self._ensure_directory, name)
            except BaseException:
                await self._forget(name)
                raise
            return volume

    async def rename(self, name: str, new: str) -> Volume:
        """Conflict while a container has it, or where the new name is taken."""
        check_name(new)
        self._find(name)
        if new == name:
            raise Conflict(f"rename {name}: a volume named {new} exists already")
        async with self._lock(min(name, new)), self._lock(max(name, new)):
            record = self._find(name)
            if new in self._records:
                raise Conflict(f"rename {name}: a volume named {new} exists already")
            if users := self.in_use(name):
                raise Conflict(f"rename {name}: volume is in use - [{', '.join(users)}]")
            labels = {key: value for key, value in (record.volume.labels or {}).items() if key != ANONYMOUS}
            volume = msgspec.structs.replace(
                record.volume, name=new, mountpoint=str(self._path(new)), labels=labels or None, anonymous=False
            )
            made = VolumeRecord(volume, renamed_from=name)

            def write() -> None:
                with self._state.update() as transaction:
                    transaction.delete(VOLUMES, name)
                    transaction.put(VOLUMES, new, made)

            await run_blocking(write)
            self._records.pop(name)
            self._records[new] = made
            faults.point("volume.renaming")
            return (await self._finish_renaming(made)).volume

    async def _finish_renaming(self, record: VolumeRecord) -> VolumeRecord:
        def move() -> None:
            old, new = self._root / record.renamed_from, self._root / record.volume.name
            if old.exists() and not new.exists():
                old.rename(new)

        await run_blocking(move)
        done = msgspec.structs.replace(record, renamed_from="")
        await self._save(done)
        return done

    async def fill(self, name: str, labels: dict[str, str], fill: Callable[[Path], None]) -> Volume:
        """A new volume whose directory `fill` fills (blocking); it is there as a whole or not at all."""
        check_name(name)
        async with self._lock(name):
            if name in self._records:
                raise Conflict(f"create {name}: a volume named {name} exists already")
            volume = Volume(
                name=name, driver="local", mountpoint=str(self._path(name)),
                created_at=timestamp.rfc3339(timestamp.now() // 1_000_000_000 * 1_000_000_000), labels=labels or None,
            )  # fmt: skip
            record = VolumeRecord(volume, removing=True)  # until it is whole
            await self._save(record)
            faults.point("volume.filling")
            try:
                await run_blocking(self._ensure_directory, name)
                await run_blocking(fill, self._path(name))
                await self._save(VolumeRecord(volume))
            except BaseException:
                await self._finish_removing(record)
                raise
            return volume

    async def clone(self, name: str, new: str) -> Volume:
        """A new volume with the content and labels of another one, as they are now."""
        volume = self._find(name).volume
        user = f"clone-{new_id()}"
        source = Path(await self.mount(name, user))
        try:
            labels = {key: value for key, value in (volume.labels or {}).items() if key != ANONYMOUS}
            return await self.fill(new, labels, partial(tree.copy_into, source))
        except OSError as error:
            raise Internal(f"clone {name}: {error.strerror or error}") from error
        finally:
            await self.unmount(name, user)

    async def get(self, name: str) -> Volume:
        return self._find(name).volume

    async def list(self) -> Sequence[Volume]:
        return [record.volume for record in self._records.values()]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Conflict while a container has it; NotFound, or nothing with `force`, where there is none."""
        if force and name not in self._records:
            return
        async with self._lock(name):
            record = self._find(name)
            if users := self.in_use(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            await self._save(msgspec.structs.replace(record, removing=True))
            faults.point("volume.removing")
            await self._finish_removing(record)
        self._locks.pop(name, None)

    async def _finish_removing(self, record: VolumeRecord) -> None:
        name = record.volume.name
        if record.volume.options:
            await run_blocking(self._unmount, name)
        removed = await run_blocking(self._set_aside, name)
        faults.point("volume.set-aside")
        await self._forget(name)
        await run_blocking(self._remove_directory, removed)

    async def mount(self, name: str, container_id: str) -> str:
        """The directory to bind for a container; options are mounted for the first one."""
        record = self._find(name)
        using = self._using.setdefault(name, [])
        if record.volume.options:
            async with self._lock(name):
                record = self._find(name)
                if container_id not in record.mounted_for:
                    mounted_for = (*record.mounted_for, container_id)
                    await self._save(msgspec.structs.replace(record, mounted_for=mounted_for))
                path = self._path(name)
                if not await run_blocking(is_mounted, path):
                    try:
                        await run_blocking(mount_options, record.volume.options or {}, path)
                    except BaseException:
                        await self._save(record)
                        raise
        if container_id not in using:
            using.append(container_id)
        return str(self._path(name))

    async def unmount(self, name: str, container_id: str) -> None:
        """The container does not use it any more. Idempotent."""
        using = self._using.get(name, [])
        if container_id in using:
            using.remove(container_id)
        if not using:
            self._using.pop(name, None)
        record = self._records.get(name)
        if record is None or container_id not in record.mounted_for:
            return
        async with self._lock(name):
            record = self._find(name)
            left = tuple(each for each in record.mounted_for if each != container_id)
            if not left:
                await run_blocking(self._unmount, name)
            await self._save(msgspec.structs.replace(record, mounted_for=left))

    async def copy_up(self, name: str, source: Path, subpath: str) -> None:
        """Fill an empty volume; a mount of a part of the volume (`subpath`) is left as it is."""
        self._find(name)
        if subpath:
            return
        try:
            await run_blocking(tree.copy_into, source, self._path(name))
        except OSError as error:
            raise Internal(f"volume {name}: cannot copy the image's content: {error.strerror or error}") from error

    async def size(self, name: str) -> int:
        """Bytes in a volume; 0 for one whose options are not mounted now."""
        record = self._find(name)
        if record.volume.options and not record.mounted_for:
            return 0
        return await run_blocking(tree.size_of, self._path(name))

    def in_use(self, name: str) -> Sequence[str]:
        """The containers that have the volume."""
        return list(dict.fromkeys([*self._users(name), *self._using.get(name, ())]))

    def _find(self, name: str) -> VolumeRecord:
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"get {name}: no such volume")
        return record

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _path(self, name: str) -> Path:
        return self._root / name / "_data"

    async def _save(self, record: VolumeRecord) -> None:
        def write() -> None:
            with self._state.update() as transaction:
                transaction.put(VOLUMES, record.volume.name, record)

        await run_blocking(write)
        self._records[record.volume.name] = record

    async def _forget(self, name: str) -> None:
        def write() -> None:
            with self._state.update() as transaction:
                transaction.delete(VOLUMES, name)

        await run_blocking(write)
        self._records.pop(name, None)

    def _ensure_directory(self, name: str) -> None:
        try:
            self._root.mkdir(mode=0o701, parents=True, exist_ok=True)
            (self._root / name).mkdir(mode=0o701, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self._path(name).mkdir(mode=0o755)
                self._path(name).chmod(0o755)
                os.chown(self._path(name), *self._owner)
        except OSError as error:
            raise Internal(f"create {name}: {error.strerror}: {error.filename}") from error

    def _unmount(self, name: str) -> None:
        try:
            unmount_all(self._path(name))
        except OSError as error:
            raise Internal(f"error while unmounting volume {name}: {error.strerror}") from error

    def _set_aside(self, name: str) -> str:
        """Rename, so that a new volume of this name starts empty whatever happens next."""
        removed = f".removed-{new_id()[:12]}"
        with contextlib.suppress(FileNotFoundError):
            (self._root / name).rename(self._root / removed)
        return removed

    def _remove_directory(self, name: str) -> None:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(root, name)
        except OSError as error:
            raise Internal(f"volume: cannot remove {self._root / name}: {error.strerror}") from error
        finally:
            os.close(root)
