"""Layer tars onto an overlay directory (OCI image layer specification, "Applying changesets").

Every path is resolved inside the layer's own root; names with `..` are refused. Whiteouts become what overlayfs
understands: a character device 0/0, and `trusted.overlay.opaque` on a directory.
"""

import os
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO

from gantry.errors import InvalidArgument
from gantry.linux.openat2 import open_directory, remove_tree

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
XATTR_PREFIX = "SCHILY.xattr."
HEADER_LIMIT = 1 << 20
NAME_LIMIT = 255
_CHUNK = 1 << 20
_OPEN_DIRECTORIES = 64

_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class BoundedTarInfo(tarfile.TarInfo):
    """Refuses extended headers beyond `HEADER_LIMIT` before they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > HEADER_LIMIT:
            raise InvalidArgument(f"archive header of {self.size} bytes: at most {HEADER_LIMIT} are accepted")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def clean_name(name: str) -> str:
    """A tar entry's path without leading slashes and dots ("" for the root); raises InvalidArgument for `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgument(f'invalid tar entry: "{name}" is outside of the root')
    if any(len(os.fsencode(part)) > NAME_LIMIT for part in parts):
        raise InvalidArgument(f'invalid tar entry: "{name[:64]}…": file name too long')
    return "/".join(parts)


class _Directories:
    """Open descriptors of the directories that entries land in, the most recently used ones."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: dict[str, int] = {}

    def get(self, path: str) -> int:
        descriptor = self._open.pop(path, -1)
        if descriptor < 0:
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
            try:
                descriptor = open_directory(self._root, path, create=True)
            except (NotADirectoryError, FileExistsError) as error:
                raise InvalidArgument(f'invalid tar entry: "{path}" is not a directory') from error
        self._open[path] = descriptor
        return descriptor

    def forget(self, *, except_for: int = -1) -> None:
        """A name was replaced: what was behind it may be open here."""
        for path, descriptor in list(self._open.items()):
            if descriptor != except_for:
                os.close(descriptor)
                del self._open[path]


def apply_layer(stream: BinaryIO, root: Path) -> int:
    """Unpack an uncompressed layer tar into the (empty) overlay directory `root`; returns the bytes of its files.

    Raises InvalidArgument for what is no tar or is hostile, OSError where the disk fails.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    directories = _Directories(descriptor)
    try:
        return _Applier(descriptor, directories).run(stream)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArgument(f"archive/tar: invalid tar header: {error}") from error
    finally:
        directories.forget()
        os.close(descriptor)


class _Applier:
    def __init__(self, root: int, directories: _Directories) -> None:
        self._root = root
        self._directories = directories
        self._times: dict[str, float] = {}
        self._size = 0

    def run(self, stream: BinaryIO) -> int:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedTarInfo, bufsize=_CHUNK, errorlevel=2) as archive:
            while (entry := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # a million entries must not stay in memory
                self._entry(archive, entry)
        for path in sorted(self._times, reverse=True):
            moment = self._times[path]
            parent, _, name = path.rpartition("/")
            os.utime(name or ".", ns=_nanoseconds(moment), dir_fd=self._directories.get(parent), follow_symlinks=False)
        return self._size

    def _entry(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        path = clean_name(entry.name)
        parent_path, _, name = path.rpartition("/")
        if not path:
            if entry.isdir():
                self._attributes(entry, self._root, ".")
                self._times[""] = entry.mtime
            return
        parent = self._directories.get(parent_path)
        if name.startswith(WHITEOUT):
            self._whiteout(parent, name)
            return
        if entry.isdir():
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    self._replace(parent, name)
                    os.mkdir(name, 0o755, dir_fd=parent)
            self._attributes(entry, parent, name)
            self._times[path] = entry.mtime
            return
        if entry.isreg():
            self._file(archive, entry, parent, name)
            return
        self._replace(parent, name)
        if entry.islnk():
            self._link(entry, parent, name)
            return
        if entry.issym():
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif entry.ischr() or entry.isblk() or entry.isfifo():
            kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK if entry.isblk() else stat.S_IFIFO
            os.mknod(name, kind | 0o600, os.makedev(entry.devmajor, entry.devminor), dir_fd=parent)
        else:
            raise InvalidArgument(f'invalid tar entry: "{entry.name}" has unknown type {entry.type!r}')
        self._attributes(entry, parent, name)
        os.utime(name, ns=_nanoseconds(entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _file(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, parent: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            self._replace(parent, name)
            file = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            source = archive.extractfile(entry)
            left = entry.size
            sparse = entry.issparse()
            while source is not None and left > 0:
                data = source.read(min(left, _CHUNK))
                if not data:
                    raise InvalidArgument("unexpected EOF")
                if sparse and not data.strip(b"\0"):
                    os.lseek(file, len(data), os.SEEK_CUR)
                else:
                    _write_all(file, data)
                left -= len(data)
            if sparse:
                os.ftruncate(file, entry.size)
            self._size += entry.size
            os.fchown(file, entry.uid, entry.gid)
            os.fchmod(file, entry.mode & 0o7777)
            if entry.pax_headers:
                _set_xattrs(file, entry)
            os.utime(file, ns=_nanoseconds(entry.mtime))
        finally:
            os.close(file)

    def _link(self, entry: tarfile.TarInfo, parent: int, name: str) -> None:
        target = clean_name(entry.linkname)
        target_parent, _, target_name = target.rpartition("/")
        try:
            source = open_directory(self._root, target_parent)
            try:
                os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise InvalidArgument(
                f'invalid tar entry: hard link "{entry.name}" to "{entry.linkname}": {error.strerror}'
            ) from error

    def _whiteout(self, parent: int, name: str) -> None:
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", OPAQUE_XATTR, b"y")
            return
        hidden = name.removeprefix(WHITEOUT)
        if not hidden or hidden.startswith(WHITEOUT):
            return
        self._replace(parent, hidden)
        os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)

    def _replace(self, parent: int, name: str) -> None:
        """Make way for an entry that comes again; what may be open behind the old name is closed."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
            self._directories.forget(except_for=parent)
        remove_tree(parent, name)

    def _attributes(self, entry: tarfile.TarInfo, parent: int, name: str) -> None:
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if not entry.issym():
            os.chmod(name, entry.mode & 0o7777, dir_fd=parent)
            if entry.pax_headers:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                if entry.isdir():
                    opened = os.open(name, flags, dir_fd=parent)
                    try:
                        _set_xattrs(opened, entry)
                    finally:
                        os.close(opened)


def _set_xattrs(target: int, entry: tarfile.TarInfo) -> None:
    for key, value in entry.pax_headers.items():
        if not key.startswith(XATTR_PREFIX):
            continue
        name = key.removeprefix(XATTR_PREFIX)
        if name.startswith(("trusted.overlay.", "system.")):
            continue  # overlay's own marks are never taken from a layer
        try:
            os.setxattr(target, name, value.encode("utf-8", "surrogateescape"))
        except OSError as error:
            if error.errno not in (95, 1):  # the file system has no such attributes, or a capability is missing
                raise


def _nanoseconds(moment: float) -> tuple[int, int]:
    value = int(moment * 1_000_000_000) if isinstance(moment, float) else moment * 1_000_000_000
    return value, value


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
