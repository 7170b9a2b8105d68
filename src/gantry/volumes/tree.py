"""Copying a directory into an empty volume, and measuring one. Neither follows a symbolic link or leaves its root.

Both sides are walked by descriptors: another container may change the volume, and the source is an image's.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 24
_DEPTH = 400  # two descriptors for each level
_OWN_LAYER = "trusted.overlay."  # how overlayfs marks its layers: means something else elsewhere
_LINKS = 256  # files with several names that are kept open, to give the copy several names too


def copy_into(source: Path, target: Path) -> None:
    """Copy what is in `source`, with owners, modes, times, extended attributes, links and devices.

    `target` itself gets the owner and mode of `source`. Where it was not empty, nothing happens. On failure what was
    copied is removed and OSError raised.
    """
    into = os.open(target, _FLAGS)
    try:
        if os.listdir(into):  # noqa: PTH208 - a descriptor
            return
        origin = os.open(source, _FLAGS)
        try:
            copier = _Copier()
            try:
                copier.directory(origin, into, 0)
            except BaseException:
                _empty(into, 0)
                raise
            finally:
                copier.close()
        finally:
            os.close(origin)
    finally:
        os.close(into)


def size_of(directory: Path) -> int:
    """Bytes of all files below, each counted once; what vanishes meanwhile does not count."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for _, _, files, descriptor in os.fwalk(directory, follow_symlinks=False):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                info = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if info.st_nlink == 1 or (info.st_dev, info.st_ino) not in seen:
                    seen.add((info.st_dev, info.st_ino))
                    total += info.st_size
    return total


class _Copier:
    def __init__(self) -> None:
        self._linked: dict[tuple[int, int], int] = {}

    def close(self) -> None:
        for descriptor in self._linked.values():
            os.close(descriptor)

    def directory(self, origin: int, into: int, depth: int) -> None:
        if depth > _DEPTH:
            raise OSError(errno.ELOOP, "directories are nested too deep")
        for name in os.listdir(origin):
            info = os.stat(name, dir_fd=origin, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                os.mkdir(name, 0o700, dir_fd=into)
                below = os.open(name, _FLAGS, dir_fd=origin)
                try:
                    inside = os.open(name, _FLAGS, dir_fd=into)
                    try:
                        self.directory(below, inside, depth + 1)
                    finally:
                        os.close(inside)
                finally:
                    os.close(below)
            else:
                self._entry(origin, into, name, info)
        _metadata(origin, into, os.fstat(origin))

    def _entry(self, origin: int, into: int, name: str, info: os.stat_result) -> None:
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1 and key in self._linked:
            os.link(f"/proc/self/fd/{self._linked[key]}", name, dst_dir_fd=into, follow_symlinks=True)
            return
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=origin), name, dir_fd=into)
        elif stat.S_ISREG(info.st_mode):
            self._file(origin, into, name)
            return
        elif stat.S_ISSOCK(info.st_mode):
            return  # nobody listens on a copy
        else:
            os.mknod(name, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev, dir_fd=into)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=into, follow_symlinks=False)
        if not stat.S_ISLNK(info.st_mode):
            # Not through a name that somebody could have replaced by a link meanwhile.
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=into)
            try:
                if stat.S_IFMT(os.fstat(held).st_mode) == stat.S_IFMT(info.st_mode):
                    Path(f"/proc/self/fd/{held}").chmod(stat.S_IMODE(info.st_mode))
            finally:
                os.close(held)
        os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=into, follow_symlinks=False)

    def _file(self, origin: int, into: int, name: str) -> None:
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=origin)
        try:
            info = os.fstat(reading)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writing = os.open(name, flags, 0o600, dir_fd=into)
            try:
                _data(reading, writing, info.st_size)
                _metadata(reading, writing, info)
                if info.st_nlink > 1 and len(self._linked) < _LINKS:
                    self._linked[info.st_dev, info.st_ino] = os.dup(writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)


def _data(reading: int, writing: int, size: int) -> None:
    """Holes stay holes."""
    position = 0
    while position < size:
        try:
            position = os.lseek(reading, position, os.SEEK_DATA)
            end = os.lseek(reading, position, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        os.lseek(reading, position, os.SEEK_SET)
        os.lseek(writing, position, os.SEEK_SET)
        while position < end:
            sent = os.sendfile(writing, reading, position, min(end - position, _CHUNK))
            if not sent:
                break
            position += sent
    os.ftruncate(writing, size)


def _metadata(origin: int, into: int, info: os.stat_result) -> None:
    os.fchown(into, info.st_uid, info.st_gid)
    for name in os.listxattr(origin):
        if not name.startswith(_OWN_LAYER):
            _attribute(origin, into, name)
    os.fchmod(into, stat.S_IMODE(info.st_mode))
    os.utime(into, ns=(info.st_atime_ns, info.st_mtime_ns))


def _attribute(origin: int, into: int, name: str) -> None:
    """One extended attribute; a file system without such attributes is no reason to fail, a lost capability is."""
    try:
        os.setxattr(into, name, os.getxattr(origin, name))
    except OSError as error:
        if error.errno != errno.ENOTSUP or name == "security.capability":
            raise


def _empty(directory: int, depth: int) -> None:
    """Remove what is in a directory; what cannot be removed stays."""
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=directory)
                continue
            if depth <= _DEPTH + 1:
                below = os.open(name, _FLAGS, dir_fd=directory)
                try:
                    _empty(below, depth + 1)
                finally:
                    os.close(below)
            os.rmdir(name, dir_fd=directory)
