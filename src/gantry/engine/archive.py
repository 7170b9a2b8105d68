"""`cp`: files in and out of a container's root, running or stopped, and never beyond it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from gantry.aio import run_blocking
from gantry.engine.containers import Containers
from gantry.errors import Forbidden, InvalidArgument, NotFound
from gantry.model.container import Container
from gantry.model.remap import Remap
from gantry.oci import archive
from gantry.oci.archive import PathStat

__all__ = ["Archives", "PathStat", "Reading"]


class Archives:
    """The three `/containers/{id}/archive` operations, and export."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    @asynccontextmanager
    async def _place(self, container: Container, path: str) -> AsyncIterator[tuple[Path, str]]:
        """A root, and `path` as a place inside it."""
        async with self._containers.root(container) as root:
            yield root, path

    @staticmethod
    def _check_writable(container: Container, root: Path, path: str) -> None:
        """Raises Forbidden where the path's mount, or the root file system, is read-only for the container."""
        place = archive.real_path_inside(root, path)
        inside = [
            mount
            for mount in container.mounts
            if place == mount.destination or place.startswith(mount.destination.rstrip("/") + "/")
        ]
        if not inside and container.host_config.readonly_rootfs:
            raise Forbidden("container rootfs is marked read-only")
        if inside and not max(inside, key=lambda mount: len(mount.destination)).read_write:
            raise Forbidden("mounted volume is marked read-only")

    async def stat(self, container: Container, path: str) -> PathStat:
        async with self._place(container, _absolute(path)) as (root, inside):
            return await run_blocking(_stat, root, inside, container, path)

    @asynccontextmanager
    async def reading(self, container: Container, path: str) -> AsyncIterator["Reading"]:
        """The path's status, and a way to write its archive."""
        async with self._place(container, _absolute(path)) as (root, inside):
            self._containers.lifecycle.publish(container, "archive-path")
            status = await run_blocking(_stat, root, inside, container, path)
            yield Reading(root, inside, status, remap=self._containers.remap_of(container))

    async def write(
        self, container: Container, path: str, stream: BinaryIO, *, no_overwrite: bool, keep_owner: bool
    ) -> None:
        """Unpack an archive into directory `path`; NotFound where it is not there, InvalidArgument for a file."""
        async with self._place(container, _absolute(path)) as (root, inside):
            await run_blocking(_check_directory, root, inside, container, path)
            await run_blocking(self._check_writable, container, root, inside)
            await run_blocking(
                archive.unpack, root, inside, stream, chown=None if keep_owner else (0, 0),
                no_overwrite_dir_non_dir=no_overwrite, remap=self._containers.remap_of(container),
            )  # fmt: skip
        self._containers.lifecycle.publish(container, "extract-to-dir")

    @asynccontextmanager
    async def exporting(self, container: Container) -> AsyncIterator["Reading"]:
        """The whole root file system; of what is mounted in it, the places alone."""
        whole = PathStat("/", 0, 1 << 31, 0, "")
        if not container.status.running:
            async with self._containers.unmounted_root(container) as root:
                yield Reading(root, "/", whole)
            return
        mounted = (mount.destination for mount in container.mounts)
        hidden = frozenset((*_ALWAYS_MOUNTED, *mounted, *(container.host_config.tmpfs or ())))
        async with self._containers.root(container) as root:
            yield Reading(root, "/", whole, hidden, self._containers.remap_of(container))


class Reading:
    """An open place in a container that can be archived (blocking)."""

    def __init__(
        self,
        root: Path,
        path: str,
        status: PathStat,
        hidden: frozenset[str] = frozenset(),
        remap: Remap | None = None,
    ) -> None:
        self._remap = remap
        self._hidden = hidden
        self._root = root
        self._path = path
        self.status = status

    def pack(self, out: BinaryIO, *, name: str | None = None) -> None:
        archive.pack(self._root, self._path, out, name=name, hidden=self._hidden, remap=self._remap)


_ALWAYS_MOUNTED = ("/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys")


def _absolute(path: str) -> str:
    if not path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    return path if path.startswith("/") else "/" + path


def _check_directory(root: Path, inside: str, container: Container, path: str) -> None:
    """Raises NotFound, or InvalidArgument for what is no directory, its links followed."""
    try:
        archive.stat(root, inside.rstrip("/") + "/.")
    except NotADirectoryError:
        raise InvalidArgument("extraction point is not a directory") from None
    except (FileNotFoundError, NotFound):
        raise NotFound(f"Could not find the file {path} in container {container.name}") from None


def _stat(root: Path, inside: str, container: Container, path: str) -> PathStat:
    try:
        return archive.stat(root, inside)
    except (FileNotFoundError, NotADirectoryError, NotFound):
        raise NotFound(f"Could not find the file {path} in container {container.name}") from None
