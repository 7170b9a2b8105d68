"""Archives of paths inside a root that is not trusted: `cp`, `export`, and the builder's COPY.

Every path is looked up with the root as if it were the root directory, so that a link, also one that is swapped
while we look, leads nowhere else.
"""

import os
import posixpath
import stat as modes
from pathlib import Path
from typing import BinaryIO

import msgspec

from gantry.errors import InvalidArgument
from gantry.linux.openat2 import open_directory, openat2, parent_of, remove_tree
from gantry.oci.compression import open_compressed
from gantry.oci.layer import clean_name, set_xattrs
from gantry.oci.tar_reader import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry, TarReader
from gantry.oci.tar_writer import TarWriter

__all__ = ["PathStat", "open_compressed", "pack", "stat", "unpack"]

_ROOT_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {CHAR: modes.S_IFCHR, BLOCK_DEVICE: modes.S_IFBLK, FIFO: modes.S_IFIFO}
_DEPTH_LIMIT = 512
_GO_TYPES = {
    modes.S_IFDIR: 1 << 31,
    modes.S_IFLNK: 1 << 27,
    modes.S_IFBLK: 1 << 26,
    modes.S_IFCHR: (1 << 26) | (1 << 21),
    modes.S_IFIFO: 1 << 25,
    modes.S_IFSOCK: 1 << 24,
}


class PathStat(msgspec.Struct, frozen=True):
    """What `cp` is told of a path: `mode` as Go's FileMode, `mtime` nanoseconds since the epoch."""

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str


def go_mode(mode: int) -> int:
    """A Unix mode as Go's `os.FileMode`."""
    special = (mode & modes.S_ISUID and 1 << 23) | (mode & modes.S_ISGID and 1 << 22)
    sticky = mode & modes.S_ISVTX and 1 << 20
    return (mode & 0o777) | _GO_TYPES.get(modes.S_IFMT(mode), 0) | special | sticky


def stat(root: Path, path: str) -> PathStat:
    """What lies at `path`; a link in the last place is followed only where the path ends in `/` or `/.`.

    Raises FileNotFoundError or NotADirectoryError.
    """
    base = os.open(root, _ROOT_FLAGS)
    try:
        name = posixpath.basename(path.rstrip("/")) or "/"
        if path.endswith(("/", "/.")) or not path.strip("/."):
            directory = open_directory(base, path)
            try:
                status, target = os.fstat(directory), ""
            finally:
                os.close(directory)
        else:
            with parent_of(base, path) as place:
                last = place.name or "."
                status = os.stat(last, dir_fd=place.parent, follow_symlinks=False)
                is_link = modes.S_ISLNK(status.st_mode)
                target = os.readlink(last, dir_fd=place.parent) if is_link else ""
        return PathStat(name, status.st_size, go_mode(status.st_mode), status.st_mtime_ns, target)
    finally:
        os.close(base)


def pack(root: Path, path: str, out: BinaryIO, *, name: str | None = None, follow_final: bool = False) -> None:
    """Write a tar of `path` and all below it, under `name` (None: its own last name, "": without any).

    Raises FileNotFoundError or NotADirectoryError.
    """
    base = os.open(root, _ROOT_FLAGS)
    writer = TarWriter(out)
    try:
        whole = path.endswith(("/", "/.")) or not path.strip("/.")
        if name is None:
            name = "." if path.endswith("/.") else posixpath.basename(path.rstrip("/")) or "."
        if whole:
            _pack_directory(writer, open_directory(base, path), name or ".", top=bool(name))
        else:
            with parent_of(base, path) as place:
                last = place.name or "."
                status = os.stat(last, dir_fd=place.parent, follow_symlinks=False)
                if follow_final and modes.S_ISLNK(status.st_mode):
                    opened = openat2(base, path, os.O_PATH)
                    try:
                        is_directory = modes.S_ISDIR(os.fstat(opened).st_mode)
                    finally:
                        os.close(opened)
                    if is_directory:
                        _pack_directory(writer, open_directory(base, path), name or ".", top=bool(name))
                    else:
                        target = os.path.normpath(
                            os.path.join(posixpath.dirname(path), os.readlink(last, dir_fd=place.parent))
                        )
                        with parent_of(base, target) as final:
                            writer.file(final.parent, final.name or ".", name)
                elif modes.S_ISDIR(status.st_mode):
                    _pack_directory(writer, os.open(last, _DIRECTORY_FLAGS, dir_fd=place.parent), name or ".", top=True)
                else:
                    writer.file(place.parent, last, name)
        writer.close()
    finally:
        os.close(base)


def _pack_directory(writer: TarWriter, directory: int, name: str, *, top: bool, depth: int = 0) -> None:
    """Takes over (and closes) the open `directory`."""
    try:
        if depth > _DEPTH_LIMIT:
            raise InvalidArgument(f"directories nested more than {_DEPTH_LIMIT} deep")
        if top:
            writer.file(directory, ".", name)
        for entry in sorted(os.listdir(directory)):
            inner = f"{name}/{entry}" if name not in ("", ".") or top else entry
            try:
                status = os.stat(entry, dir_fd=directory, follow_symlinks=False)
                if modes.S_ISDIR(status.st_mode):
                    opened = os.open(entry, _DIRECTORY_FLAGS, dir_fd=directory)
                    _pack_directory(writer, opened, inner, top=True, depth=depth + 1)
                else:
                    writer.file(directory, entry, inner)
            except FileNotFoundError:
                continue  # a running container removed it meanwhile
    finally:
        os.close(directory)


def unpack(
    root: Path,
    directory: str,
    stream: BinaryIO,
    *,
    chown: tuple[int, int] | None = None,
    no_overwrite_dir_non_dir: bool = False,
) -> None:
    """Unpack a tar (compressed or not) into `directory` of `root`.

    `chown` gives all files one owner. With `no_overwrite_dir_non_dir` a directory never replaces a file, nor a file
    a directory. Raises InvalidArgument for what is no tar or leaves the directory, FileNotFoundError.
    """
    base = os.open(root, _ROOT_FLAGS)
    try:
        top = open_directory(base, directory)
        try:
            _Unpacker(top, TarReader(open_compressed(stream)), chown, strict=no_overwrite_dir_non_dir).run()
        finally:
            os.close(top)
    finally:
        os.close(base)


class _Unpacker:
    """Below the directory no link is followed at all: what is there may be the container's trap."""

    def __init__(self, top: int, reader: TarReader, chown: tuple[int, int] | None, *, strict: bool) -> None:
        self._top = top
        self._reader = reader
        self._chown = chown
        self._strict = strict
        self._times: dict[str, int] = {}

    def run(self) -> None:
        for entry in self._reader:
            path = clean_name(entry.name)
            if not path:
                continue
            parent_path, _, name = path.rpartition("/")
            try:
                parent = open_directory(self._top, parent_path, create=True)
            except NotADirectoryError as error:
                raise InvalidArgument(f'cannot write "{entry.name}": a part of its path is not a directory') from error
            try:
                self._add(entry, path, parent, name)
            finally:
                os.close(parent)
        for path in sorted(self._times, reverse=True):
            parent_path, _, name = path.rpartition("/")
            parent = open_directory(self._top, parent_path)
            try:
                os.utime(name, ns=(self._times[path], self._times[path]), dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)

    def _add(self, entry: Entry, path: str, parent: int, name: str) -> None:
        old = _mode_of(parent, name)
        if old is not None:
            is_directory = modes.S_ISDIR(old)
            if self._strict and is_directory != (entry.type == DIRECTORY):
                kinds = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
                raise InvalidArgument(f'cannot overwrite {kinds[0]} "{name}" with {kinds[1]} "{name}"')
            if not (is_directory and entry.type == DIRECTORY):
                remove_tree(parent, name)
                old = None
        uid, gid = self._chown or (entry.uid, entry.gid)
        if entry.type == FILE:
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
            try:
                self._reader.copy(descriptor)
                os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, entry.mode & 0o7777)
                if entry.xattrs:
                    set_xattrs(descriptor, entry.xattrs)
                os.utime(descriptor, ns=(entry.mtime, entry.mtime))
            finally:
                os.close(descriptor)
            return
        if entry.type == LINK:
            target_parent, _, target = clean_name(entry.link).rpartition("/")
            source = open_directory(self._top, target_parent)
            try:
                os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
            return
        if entry.type == DIRECTORY:
            if old is None:
                os.mkdir(name, 0o755, dir_fd=parent)
            self._times[path] = entry.mtime
        elif entry.type == SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
        elif entry.type in _NODES:
            os.mknod(name, _NODES[entry.type] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
        else:
            raise InvalidArgument(f'archive entry "{entry.name}" has unknown type {entry.type!r}')
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if entry.type != SYMLINK:
            os.chmod(name, entry.mode & 0o7777, dir_fd=parent)
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)


def _mode_of(parent: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
