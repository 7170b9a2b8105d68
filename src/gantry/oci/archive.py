"""Tar archives of paths in a container's root file system, for `cp`, `export`, COPY and ADD.

The root belongs to a container that may be running and hostile: every path is resolved inside it by the kernel
(openat2, RESOLVE_IN_ROOT), and what is walked or written is held by descriptors.
"""

import errno
import os
import posixpath
import stat as status_bits
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import msgspec

from gantry.errors import Internal, InvalidArgument, NotFound
from gantry.linux.openat2 import RESOLVE_IN_ROOT, openat2, parent_of, real_path
from gantry.linux.userns import filesystem_ids
from gantry.model.remap import Remap
from gantry.oci.compression import open_compressed
from gantry.oci.tar_reader import TarReader
from gantry.oci.tar_writer import TarWriter
from gantry.oci.tree import OPEN_DIRECTORY, Directories, Options, TreeWriter

__all__ = ["PathStat", "open_compressed", "pack", "real_directory", "stat", "unpack"]

_DEPTH_LIMIT = 512
# Go's os.FileMode bits above the permissions.
_DIR, _LINK, _DEVICE, _FIFO, _SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_SETUID, _SETGID, _CHAR_DEVICE, _STICKY = 1 << 23, 1 << 22, 1 << 21, 1 << 20
_TYPES = {
    status_bits.S_IFDIR: _DIR, status_bits.S_IFLNK: _LINK, status_bits.S_IFIFO: _FIFO,
    status_bits.S_IFSOCK: _SOCKET, status_bits.S_IFBLK: _DEVICE, status_bits.S_IFCHR: _DEVICE | _CHAR_DEVICE,
}  # fmt: skip


class PathStat(msgspec.Struct, frozen=True):
    """Docker's `ContainerPathStat`: `mode` is a Go FileMode, `mtime` nanoseconds since the epoch."""

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str = ""


def go_mode(mode: int) -> int:
    """A Go os.FileMode of st_mode."""
    value = mode & 0o777 | _TYPES.get(status_bits.S_IFMT(mode), 0)
    for bit, go_bit in ((0o4000, _SETUID), (0o2000, _SETGID), (0o1000, _STICKY)):
        value |= go_bit if mode & bit else 0
    return value


def stat(root: Path, path: str) -> PathStat:
    """What `path` is inside `root`; a final link is followed only where the path ends in `/` or `/.`.

    Raises NotFound, or NotADirectoryError.
    """
    opened = _open_root(root)
    try:
        descriptor = _open_path(opened, path, follow=_asserts_directory(path))
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        target = _link_target(opened, path) if status_bits.S_ISLNK(status.st_mode) else ""
    finally:
        os.close(opened)
    return PathStat(_base(path), status.st_size, go_mode(status.st_mode), status.st_mtime_ns, target)


def real_directory(root: Path, path: str) -> Path:
    """Where directory `path` really is, its links followed inside `root`; raises FileNotFoundError and the like."""
    base = _open_root(root)
    try:
        found = openat2(base, path, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
        try:
            return Path(real_path(found))
        finally:
            os.close(found)
    finally:
        os.close(base)


def real_path_inside(root: Path, path: str) -> str:
    """`path` with every link followed inside `root`, as the root's own absolute path; raises NotFound."""
    opened = _open_root(root)
    try:
        return _resolved(opened, path)
    finally:
        os.close(opened)


def pack(
    root: Path,
    path: str,
    out: BinaryIO,
    *,
    name: str | None = None,
    follow_final: bool = False,
    hidden: Collection[str] = (),
    remap: Remap | None = None,
) -> None:
    """Write an archive of `path` inside `root`, with everything below it.

    Entries are called `name` and `name/…`; by default the path's last part, "." where it ends in `/.`. With an
    empty name a directory's content has no prefix and it has no entry itself. Of the `hidden` absolute paths only the
    places are written: an empty directory or file. `remap` is how ids inside `root` are mapped on the host.
    Raises NotFound.
    """
    opened = _open_root(root)
    writer = TarWriter(out, remap.to_container if remap is not None else None)
    try:
        _pack(opened, path, writer, _base(path) if name is None else name, follow=follow_final, hidden=hidden)
        writer.close()
    except OSError as error:
        raise Internal(f"archive of {path}: {os.strerror(error.errno or 0).lower()}") from error
    finally:
        os.close(opened)


def _pack(root: int, path: str, writer: TarWriter, name: str, *, follow: bool, hidden: Collection[str]) -> None:
    descriptor = _open_path(root, path, follow=follow or _asserts_directory(path))
    try:
        is_directory = status_bits.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_directory:
            directory = os.open(".", OPEN_DIRECTORY, dir_fd=descriptor)
            try:
                if name:
                    writer.file(directory, ".", name)
                prefix = name if not name or name.endswith("/") else name + "/"
                _walk(directory, prefix, writer, 0, hidden)
            finally:
                os.close(directory)
            return
    finally:
        os.close(descriptor)
    with parent_of(root, _resolved(root, path) if follow else path) as place:
        writer.file(place.parent, place.name, name)


def _walk(directory: int, prefix: str, writer: TarWriter, depth: int, hidden: Collection[str]) -> None:
    if depth > _DEPTH_LIMIT:
        raise InvalidArgument(f"{prefix[:100]}…: directories are nested deeper than {_DEPTH_LIMIT}")
    for name in sorted(os.listdir(directory)):
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            concealed = "/" + prefix + name in hidden
            if concealed and status_bits.S_ISREG(status.st_mode):
                writer.header(prefix + name, mode=status.st_mode, mtime=status.st_mtime_ns // 1_000_000_000)
                continue
            writer.file(directory, name, prefix + name)
            if concealed or not status_bits.S_ISDIR(status.st_mode):
                continue
            below = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone since: a running container goes on changing its files
        try:
            _walk(below, f"{prefix}{name}/", writer, depth + 1, hidden)
        finally:
            os.close(below)


def unpack(
    root: Path,
    directory: str,
    stream: BinaryIO,
    *,
    chown: tuple[int, int] | None = None,
    no_overwrite_dir_non_dir: bool = False,
    remap: Remap | None = None,
) -> None:
    """Unpack an archive, compressed or not, into `directory` inside `root`, and read `stream` to its end.

    `remap` is how ids inside `root` are mapped on the host.
    Raises NotFound for the directory, InvalidArgument for what is no tar or does not fit, Internal where the disk
    fails.
    """
    opened = _open_root(root)
    directories = Directories(opened, resolve=RESOLVE_IN_ROOT)
    reader = TarReader(open_compressed(stream))
    try:
        os.close(_open_path(opened, directory, follow=True, flags=os.O_DIRECTORY))
        base = posixpath.normpath("/" + directory).strip("/") if ".." not in directory else directory.strip("/")
        shift = remap.to_host if remap is not None else None
        with filesystem_ids(remap.uid, remap.gid) if remap is not None else nullcontext():
            TreeWriter(reader, directories, Options(base, chown, no_overwrite_dir_non_dir, shift)).run()
        reader.drain()
    except OSError as error:
        raise Internal(f"{directory}: {os.strerror(error.errno or 0).lower()}") from error
    finally:
        directories.forget()
        os.close(opened)


def _open_root(root: Path) -> int:
    """The root is our caller's choice, and may be a link: a running container's is /proc/PID/root."""
    return os.open(root, OPEN_DIRECTORY & ~os.O_NOFOLLOW)


def _asserts_directory(path: str) -> bool:
    return path.endswith(("/", "/."))


def _base(path: str) -> str:
    """Go's filepath.Base: the last part without trailing slashes, "." where the path ends in `/.`."""
    stripped = path.rstrip("/")
    return stripped.rpartition("/")[2] if stripped else "/"


def _open_path(root: int, path: str, *, follow: bool, flags: int = 0) -> int:
    """An O_PATH descriptor of `path` inside an open root; raises NotFound, NotADirectoryError."""
    flags |= os.O_PATH | (0 if follow else os.O_NOFOLLOW) | (os.O_DIRECTORY if _asserts_directory(path) else 0)
    try:
        return openat2(root, path.lstrip("/") or ".", flags)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
            raise NotFound(f"lstat {path}: no such file or directory") from error
        raise


def _resolved(root: int, path: str) -> str:
    """`path` inside the root with every link followed, as the root's own absolute path."""
    descriptor = _open_path(root, path, follow=True)
    try:
        return _inside(root, descriptor) or path
    finally:
        os.close(descriptor)


def _inside(root: int, descriptor: int) -> str:
    """Where an open object is below the root, "" where the kernel cannot tell."""
    top, found = real_path(root).rstrip("/"), real_path(descriptor)
    return found[len(top) :] if found.startswith(top + "/") else ""


def _link_target(root: int, path: str) -> str:
    """Where a link leads inside the root, as far as that exists."""
    with parent_of(root, path) as place:
        target = os.readlink(place.name, dir_fd=place.parent)
        here = _inside(root, place.parent) or "/"
    lexical = posixpath.normpath(posixpath.join(here, target))
    try:
        return _resolved(root, lexical)
    except (NotFound, OSError) as error:
        cause = error.__cause__ if isinstance(error, NotFound) else error
        if isinstance(cause, OSError) and cause.errno == errno.ELOOP:
            raise Internal(f"evalSymlinksInScope: too many links in {path}") from error
        return lexical
