"""Layer tars onto an overlay directory (OCI image layer specification, "Applying changesets").

Paths stay beneath the layer's own root, and one that leaves it is refused. Whiteouts become what overlayfs
understands: a character device 0/0, and `trusted.overlay.opaque` on a directory.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from gantry.errors import InvalidArgument
from gantry.oci.overlay import OPAQUE, OPAQUE_XATTR, WHITEOUT, below, is_whiteout
from gantry.oci.tar_reader import Entry, TarReader
from gantry.oci.tree import OPEN_DIRECTORY, Directories, TreeWriter


def apply_layer(stream: BinaryIO, root: Path, lower: Sequence[Path] = ()) -> int:
    """Unpack an uncompressed layer tar into the (empty) overlay directory `root`, and read `stream` to its end.

    `lower` are the directories of the layers below, topmost first: a directory that the archive does not describe
    looks as it does there. Returns the bytes of the layer's files. Raises InvalidArgument for what is no tar or is
    hostile, OSError where the disk fails.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    directories = Directories(descriptor, lower)
    reader = TarReader(stream)
    try:
        writer = LayerWriter(reader, directories, bottom=not lower)
        writer.run()
        reader.drain()
        return writer.size
    finally:
        directories.forget()
        os.close(descriptor)


class Extracted(msgspec.Struct, frozen=True):
    """A layer that was unpacked on its own. `implied` are directories that it has, but does not describe.

    `size` is that of the layer's files in bytes.
    """

    size: int
    implied: tuple[str, ...]
    root_described: bool

    def settle(self, root: Path, lower: Sequence[Path]) -> None:
        """Make what the archive did not describe look as it does in the layers below (topmost first)."""
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        directories = Directories(descriptor)
        try:
            if not self.root_described and lower:
                status = lower[0].stat()
                os.chown(descriptor, status.st_uid, status.st_gid)
                os.chmod(descriptor, status.st_mode & 0o7777)
                os.utime(descriptor, ns=(status.st_mtime_ns, status.st_mtime_ns))
            for path in self.implied:
                found = below(lower, path)
                if found is None or not stat.S_ISDIR(found[1].st_mode):
                    continue
                try:
                    opened = directories.get(path, create=False)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # a later entry has replaced it
                os.chown(opened, found[1].st_uid, found[1].st_gid)
                os.chmod(opened, found[1].st_mode & 0o7777)
        finally:
            directories.forget()
            os.close(descriptor)


def extract_layer(stream: BinaryIO, root: Path, *, bottom: bool) -> Extracted:
    """As `apply_layer`, without knowing the layers below; `settle` does the rest when they are there."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    directories = Directories(descriptor)
    reader = TarReader(stream)
    try:
        writer = LayerWriter(reader, directories, bottom=bottom)
        writer.run()
        reader.drain()
        implied = tuple(path for path in directories.made if path not in writer.described)
        return Extracted(writer.size, implied, "" in writer.described)
    finally:
        directories.forget()
        os.close(descriptor)


class LayerWriter(TreeWriter):
    """Writes a layer's entries, whiteouts among them. Below the `bottom` layer there is nothing to hide."""

    def __init__(self, reader: TarReader, directories: Directories, *, bottom: bool) -> None:
        super().__init__(reader, directories)
        self._bottom = bottom

    def place(self, entry: Entry, parent: int, parent_path: str, name: str) -> None:
        if name.startswith(WHITEOUT):
            self._whiteout(entry, parent, name)
        else:
            super().place(entry, parent, parent_path, name)

    def replaced(self, status: os.stat_result, parent: int, name: str) -> None:
        if is_whiteout(status):
            _make_opaque(parent, name)

    def _whiteout(self, entry: Entry, parent: int, name: str) -> None:
        if name == OPAQUE:
            if not self._bottom:
                os.setxattr(f"/proc/self/fd/{parent}", OPAQUE_XATTR, b"y")
            return
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise InvalidArgument(f'invalid entry name "{entry.name}"')
        if hidden.startswith(WHITEOUT) or self._bottom:
            return  # aufs' own files; or nothing to hide
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # A layer's whiteouts concern the layers below alone, whatever their place in the archive.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                _make_opaque(parent, hidden)


def _make_opaque(parent: int, name: str) -> None:
    opened = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        os.setxattr(opened, OPAQUE_XATTR, b"y")
    finally:
        os.close(opened)
