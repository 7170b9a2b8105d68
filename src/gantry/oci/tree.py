"""Writing archive entries into a tree that may be hostile, and from an archive that may be.

Every path is resolved below an open root: a layer's must stay beneath it, a container's is resolved as if the root
were `/`. What replaces something is made anew; no link is written through by its last name.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from gantry.errors import InvalidArgument
from gantry.linux.openat2 import RESOLVE_BENEATH, openat2, remove_tree
from gantry.oci.overlay import below
from gantry.oci.tar_reader import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry, TarReader

_OPEN_DIRECTORIES = 64
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_NODES = {CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
# What the archive is to blame for; every other error is the disk's or the system's.
ARCHIVE_ERRORS = frozenset(
    {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EINVAL,
     errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EILSEQ}
)  # fmt: skip


def clean_name(name: str) -> str:
    """An entry's path relative to the root, "" for the root itself; raises InvalidArgument for one outside."""
    if ".." not in name and "//" not in name and "/./" not in name:
        short = name.removeprefix("./")
        short = short.strip("/")
        return "" if short == "." else short
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArgument(f'invalid entry name "{name}"')
    return "" if path == "." else path


class Directories:
    """Open directories of the tree that is being written, the recently used ones."""

    def __init__(self, root: int, lower: Sequence[Path] = (), resolve: int = RESOLVE_BENEATH) -> None:
        """`lower` says how a directory looks that has to be made (topmost first); `resolve` is openat2's."""
        self.root = root
        self._lower = lower
        self._resolve = resolve
        self._open: dict[str, int] = {}
        self.made: dict[str, None] = {}  # the missing ones that were made, in their order

    def get(self, path: str, *, create: bool = True) -> int:
        """A descriptor of directory `path`, valid until the next call; missing ones are made where `create`."""
        if not path:
            return self.root
        descriptor = self._open.pop(path, -1)
        if descriptor < 0:
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
            descriptor = self._find(path, create)
        self._open[path] = descriptor
        return descriptor

    def forget(self) -> None:
        """A name was replaced: what was behind it may be open here."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _find(self, path: str, create: bool) -> int:
        try:
            return self._look(path)
        except FileNotFoundError:
            if not create:
                raise
        current, walked = os.dup(self.root), ""
        try:
            for part in path.split("/"):
                walked = f"{walked}/{part}" if walked else part
                try:
                    following = self._look(walked)
                except FileNotFoundError:
                    self._make(current, part, walked)
                    following = self._look(walked)
                os.close(current)
                current = following
        except BaseException:
            os.close(current)
            raise
        return current

    def _look(self, path: str) -> int:
        try:
            return openat2(self.root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=self._resolve)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise InvalidArgument(f"statat {path}: path escapes from parent") from error
            raise

    def _make(self, parent: int, name: str, path: str) -> None:
        found = below(self._lower, path) if self._lower else None
        os.mkdir(name, 0o755, dir_fd=parent)
        self.made[path] = None
        if found is not None and stat.S_ISDIR(found[1].st_mode):
            status = found[1]
            os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
            os.chmod(name, status.st_mode & 0o7777, dir_fd=parent)


class Options(msgspec.Struct, frozen=True):
    """`base` is the directory that entries go to; `owner` (uid, gid) replaces the archive's.

    `shift` makes ids of the host of the container's.
    With `keep_kinds`, a directory is not replaced by something else, nor something else by a directory.
    """

    base: str = ""
    owner: tuple[int, int] | None = None
    keep_kinds: bool = False
    shift: Callable[[int, int], tuple[int, int]] | None = None

    def owner_of(self, entry: Entry) -> tuple[int, int]:
        uid, gid = self.owner or (entry.uid, entry.gid)
        return self.shift(uid, gid) if self.shift is not None else (uid, gid)


class TreeWriter:
    """Writes entries; `finish` sets the times of directories, which every later entry would change."""

    def __init__(self, reader: TarReader, directories: Directories, options: Options = Options()) -> None:  # noqa: B008
        self.reader = reader
        self.directories = directories
        self.options = options
        self._times: dict[str, int] = {}
        self.size = 0

    def run(self) -> None:
        """Write every entry; raises InvalidArgument where the archive is to blame, OSError where the disk is."""
        name = ""
        try:
            for entry in self.reader:
                name = entry.name
                self.add(entry)
            self.finish()
        except OSError as error:
            if error.errno not in ARCHIVE_ERRORS:
                raise
            raise InvalidArgument(f"{name}: {os.strerror(error.errno or 0).lower()}") from error

    def add(self, entry: Entry) -> None:
        path = clean_name(entry.name)
        base = self.options.base
        if not path:
            if entry.type == DIRECTORY and not base:
                self._attributes(entry, self.directories.root, ".")
                self._times[""] = entry.mtime
            return
        if base:
            path = f"{base}/{path}"
        parent_path, _, name = path.rpartition("/")
        self.place(entry, self.directories.get(parent_path), parent_path, name)
        if entry.type == DIRECTORY:
            self._times[path] = entry.mtime

    def place(self, entry: Entry, parent: int, parent_path: str, name: str) -> None:
        """Write one entry as `name` of an open directory."""
        if entry.type == FILE:
            self._file(entry, parent, parent_path, name)
        elif entry.type == DIRECTORY:
            self._directory(entry, parent, parent_path, name)
        else:
            if self._exists(parent, name):
                parent = self._replace(parent, parent_path, name, entry)
            self._special(entry, parent, name)

    def finish(self) -> None:
        for path in sorted(self._times, reverse=True):
            parent_path, _, name = path.rpartition("/")
            try:
                parent = self.directories.get(parent_path, create=False)
                _set_time(name or ".", self._times[path], parent)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced by a later entry

    @property
    def described(self) -> Collection[str]:
        """The directories that the archive has entries for."""
        return self._times.keys()

    def replaced(self, status: os.stat_result, parent: int, name: str) -> None:
        """A directory has taken the place of something else."""

    def _file(self, entry: Entry, parent: int, parent_path: str, name: str) -> None:
        try:
            file = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            parent = self._replace(parent, parent_path, name, entry)
            file = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            self.reader.copy(file)
            os.fchown(file, *self.options.owner_of(entry))
            os.fchmod(file, entry.mode)
            if entry.xattrs:
                set_xattrs(file, entry.xattrs)
            os.utime(file, ns=(entry.mtime, entry.mtime))
            self.size += entry.size
        finally:
            os.close(file)

    def _directory(self, entry: Entry, parent: int, parent_path: str, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                parent = self._replace(parent, parent_path, name, entry)
                os.mkdir(name, 0o755, dir_fd=parent)
                self.replaced(status, parent, name)
        self._attributes(entry, parent, name)

    def _special(self, entry: Entry, parent: int, name: str) -> None:
        if entry.type == LINK:
            self._link(entry, parent, name)
            return
        if entry.type == SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
            self.size += len(os.fsencode(entry.link))
        elif entry.type in _NODES:
            os.mknod(name, _NODES[entry.type] | 0o600, _device(entry), dir_fd=parent)
        else:
            raise InvalidArgument(f'unhandled tar header type {ord(entry.type)} of "{entry.name}"')
        self._attributes(entry, parent, name)
        _set_time(name, entry.mtime, parent)

    def _link(self, entry: Entry, parent: int, name: str) -> None:
        try:
            target = clean_name(entry.link)
        except InvalidArgument:
            raise InvalidArgument(f'invalid hardlink target "{entry.link}"') from None
        if self.options.base:
            target = f"{self.options.base}/{target}"
        target_parent, _, target_name = target.rpartition("/")
        kept = os.dup(parent)
        try:
            source = self.directories.get(target_parent, create=False)
            os.link(target_name, name, src_dir_fd=source, dst_dir_fd=kept, follow_symlinks=False)
        except OSError as error:
            if error.errno not in ARCHIVE_ERRORS:
                raise
            reason = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(f"linkat {entry.link} {entry.name}: {reason}") from error
        finally:
            os.close(kept)

    def _exists(self, parent: int, name: str) -> bool:
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _replace(self, parent: int, parent_path: str, name: str, entry: Entry) -> int:
        """Make way for an entry that comes again; returns the parent's descriptor, which may be a new one."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        is_directory = stat.S_ISDIR(status.st_mode)
        if self.options.keep_kinds and is_directory != (entry.type == DIRECTORY):
            old, new = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            raise InvalidArgument(f'cannot overwrite {old} "/{parent_path}/{name}" with {new} "/{self.options.base}"')
        remove_tree(parent, name)
        if is_directory or stat.S_ISLNK(status.st_mode):
            self.directories.forget()
            return self.directories.get(parent_path)
        return parent

    def _attributes(self, entry: Entry, parent: int, name: str) -> None:
        os.chown(name, *self.options.owner_of(entry), dir_fd=parent, follow_symlinks=False)
        if entry.type == SYMLINK:
            return
        os.chmod(name, entry.mode, dir_fd=parent)
        if entry.xattrs and entry.type == DIRECTORY:
            opened = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
            try:
                set_xattrs(opened, entry.xattrs)
            finally:
                os.close(opened)


def _set_time(name: str, mtime: int, parent: int) -> None:
    os.utime(name, ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)


def _device(entry: Entry) -> int:
    if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
        raise InvalidArgument(f'invalid device number of "{entry.name}"')
    return os.makedev(entry.major, entry.minor)


def set_xattrs(target: int, xattrs: dict[str, bytes]) -> None:
    """Set the attributes that an archive may set; overlay's own marks and security labels are never taken from it."""
    for name, value in xattrs.items():
        if not name.startswith(("user.", "trusted.", "system.posix_acl_")) and name != "security.capability":
            continue
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            # As Docker does: a file system without such attributes is no reason to refuse an image.
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                raise
