"""`cp`: files in and out of a container's root, running or stopped, and never beyond it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from gantry.aio import run_blocking
from gantry.engine.containers import Containers
from gantry.errors import Forbidden, InvalidArgument, NotFound
from gantry.model.container import Container
from gantry.oci import archive
from gantry.oci.archive import PathStat

__all__ = ["Archives", "PathStat", "Reading"]


class Archives:
    """The three `/containers/{id}/archive` operations, and export."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    @asynccontextmanager
    async def _place(self, container: Container, path: str) -> AsyncIterator[tuple[Path, str, bool]]:
        """A root, a path inside it, and whether it is read-only. A stopped container's volumes are followed too."""
        if not container.status.running:
            for mount in sorted(container.mounts, key=lambda mount: -len(mount.destination)):
                inside = path == mount.destination or path.startswith(mount.destination + "/")
                if inside and mount.type in ("bind", "volume"):
                    rest = path.removeprefix(mount.destination) or "/"
                    source = Path(mount.source)
                    if await run_blocking(source.is_dir):
                        yield source, rest, not mount.read_write
                        return
        read_only = container.host_config.readonly_rootfs
        async with self._containers.root(container) as root:
            yield root, path, read_only

    async def stat(self, container: Container, path: str) -> PathStat:
        async with self._place(container, _absolute(path)) as (root, inside, _):
            return await run_blocking(_stat, root, inside, container, path)

    @asynccontextmanager
    async def reading(self, container: Container, path: str) -> AsyncIterator["Reading"]:
        """The path's status, and a way to write its archive."""
        async with self._place(container, _absolute(path)) as (root, inside, _):
            yield Reading(root, inside, await run_blocking(_stat, root, inside, container, path))

    async def write(
        self, container: Container, path: str, stream: BinaryIO, *, no_overwrite: bool, keep_owner: bool
    ) -> None:
        """Unpack an archive into directory `path`; NotFound where it is not there, InvalidArgument for a file."""
        async with self._place(container, _absolute(path)) as (root, inside, read_only):
            if read_only:
                raise Forbidden("container rootfs is marked read-only")
            status = await run_blocking(_stat, root, inside, container, path)
            if not status.mode & (1 << 31) and not path.endswith("/."):
                raise InvalidArgument("extraction point is not a directory")
            await run_blocking(
                archive.unpack, root, inside, stream, chown=None if keep_owner else (0, 0),
                no_overwrite_dir_non_dir=no_overwrite,
            )  # fmt: skip

    @asynccontextmanager
    async def exporting(self, container: Container) -> AsyncIterator["Reading"]:
        """The whole root file system."""
        async with self._containers.root(container) as root:
            yield Reading(root, "/", PathStat("/", 0, 1 << 31, 0, ""))


class Reading:
    """An open place in a container that can be archived (blocking)."""

    def __init__(self, root: Path, path: str, status: PathStat) -> None:
        self._root = root
        self._path = path
        self.status = status

    def pack(self, out: BinaryIO, *, name: str | None = None) -> None:
        archive.pack(self._root, self._path, out, name=name)


def _absolute(path: str) -> str:
    if not path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    return path if path.startswith("/") else "/" + path


def _stat(root: Path, inside: str, container: Container, path: str) -> PathStat:
    try:
        return archive.stat(root, inside)
    except (FileNotFoundError, NotADirectoryError, NotFound):
        raise NotFound(f"Could not find the file {path} in container {container.name}") from None
