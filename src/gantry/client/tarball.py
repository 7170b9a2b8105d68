"""Tar streams between the local file system and a container: packing, renaming, and unpacking what is not trusted.

A container's tar never leads outside the directory it is unpacked into: every component is opened by descriptor and
no symbolic link of the archive, or found on the way, is followed.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator

from gantry.client.errors import ClientError

_BLOCK = 1 << 16


class ArchiveError(ClientError):
    """A file cannot be packed, or an archive cannot be unpacked here."""


class BlockReader(io.RawIOBase):
    """Blocks of bytes as a file to read from."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = b""
        self.count = 0
        """Bytes read so far."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        left = size
        while left:
            if not self._rest:
                self._rest = next(self._blocks, b"")
                if not self._rest:
                    break
            part = self._rest if left < 0 else self._rest[:left]
            self._rest = self._rest[len(part) :]
            left = left - len(part) if left > 0 else left
            parts.append(part)
        data = b"".join(parts)
        self.count += len(data)
        return data


def pack(directory: str, base: str, name: str) -> Iterator[bytes]:
    """A tar of `directory`/`base` (all of the directory for "."), whose entries begin with `name`."""
    builder = tarfile.TarFile(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT)
    top = os.path.join(directory, base)
    yield from _pack_one(builder, top, name)
    if os.path.islink(top) or not os.path.isdir(top):
        yield bytes(2 * tarfile.BLOCKSIZE)
        return
    for parent, directories, files in os.walk(top, onerror=_refuse):
        directories.sort()
        below = os.path.relpath(parent, top)
        prefix = name if below == "." else os.path.join(name, below)
        for entry in sorted(directories + files):
            yield from _pack_one(builder, os.path.join(parent, entry), os.path.join(prefix, entry))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _refuse(error: OSError) -> None:
    raise ArchiveError(f"open {error.filename}: {os.strerror(error.errno or 0).lower()}") from error


def _pack_one(builder: tarfile.TarFile, path: str, name: str) -> Iterator[bytes]:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):  # nothing that an archive could hold
            return
        entry = builder.gettarinfo(path, name)
        if not entry.isreg():
            yield entry.tobuf(tarfile.PAX_FORMAT)
            return
        with open(path, "rb") as file:
            yield entry.tobuf(tarfile.PAX_FORMAT)
            left = entry.size
            while left:
                block = file.read(min(left, _BLOCK))
                if not block:
                    raise ArchiveError(f"{path}: file became shorter while it was read")
                left -= len(block)
                yield block
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    except OSError as error:
        raise ArchiveError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from error


def rename(old: str, new: str) -> Callable[[str], str]:
    """A function that replaces the first component `old` of an entry's name by `new`."""

    def renamed(name: str) -> str:
        if old in ("", "/", "."):
            return f"{new}/{name}" if name not in ("", ".") else new
        return new + name[len(old) :] if name == old or name.startswith(old + "/") else name

    return renamed


def unpack(source: BlockReader, directory: str, renamed: Callable[[str], str]) -> None:
    """Unpack a tar below `directory`; owners are the caller's, modes and times the archive's."""
    try:
        unpacker = _Unpacker(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
    except OSError as error:
        raise ArchiveError(f"open {directory}: {os.strerror(error.errno or 0).lower()}") from error
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for entry in archive:
                unpacker.add(archive, entry, renamed)
        unpacker.finish()
    except tarfile.TarError as error:
        raise ArchiveError(f"the archive is damaged: {error}") from error
    except OSError as error:
        where = error.filename or directory
        raise ArchiveError(f"{where}: {os.strerror(error.errno or 0).lower()}") from error
    finally:
        unpacker.close()


class _Unpacker:
    def __init__(self, root: int) -> None:
        self._root = root
        self._directories: list[tuple[str, int, float]] = []

    def close(self) -> None:
        os.close(self._root)

    def add(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, renamed: Callable[[str], str]) -> None:
        name = renamed(entry.name.strip("/"))
        parts = _parts(name)
        if not parts:
            if not entry.isdir():
                raise ArchiveError(f"invalid name in archive: {entry.name!r}")
            return
        parent = self._open(parts[:-1])
        try:
            self._replace(archive, entry, parent, parts[-1], renamed, name)
        finally:
            os.close(parent)

    def _open(self, parts: list[str]) -> int:
        """The directory `parts`, whose missing components are made; no symbolic link is followed."""
        descriptor = os.dup(self._root)
        for part in parts:
            try:
                try:
                    inner = _open_directory(part, descriptor)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=descriptor)
                    inner = _open_directory(part, descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def _replace(
        self,
        archive: tarfile.TarFile,
        entry: tarfile.TarInfo,
        parent: int,
        base: str,
        renamed: Callable[[str], str],
        name: str,
    ) -> None:
        try:
            found = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is not None:
            is_directory = stat.S_ISDIR(found.st_mode)
            if is_directory and not entry.isdir():
                raise ArchiveError(f"cannot overwrite directory {name!r} with non-directory")
            if entry.isdir() and not is_directory:
                raise ArchiveError(f"cannot overwrite non-directory {name!r} with directory")
            if not is_directory:
                os.unlink(base, dir_fd=parent)
        mode = entry.mode & 0o7777
        if entry.isdir():
            if found is None:
                os.mkdir(base, 0o700, dir_fd=parent)
            self._directories.append((name, mode, entry.mtime))
            return
        if entry.issym():
            os.symlink(entry.linkname, base, dir_fd=parent)
        elif entry.islnk():
            self._link(renamed(entry.linkname.strip("/")), parent, base)
            return
        elif entry.isreg():
            _write(archive, entry, parent, base)
        elif entry.isfifo():
            os.mkfifo(base, 0o600, dir_fd=parent)
        elif entry.ischr() or entry.isblk():
            kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
            os.mknod(base, kind | 0o600, os.makedev(entry.devmajor, entry.devminor), dir_fd=parent)
        else:
            raise ArchiveError(f"unhandled tar header type {entry.type!r} of {name!r}")
        if not entry.issym():
            os.chmod(base, mode, dir_fd=parent)
        os.utime(base, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _link(self, target: str, parent: int, base: str) -> None:
        parts = _parts(target)
        if not parts:
            raise ArchiveError(f"invalid hard link in archive: {target!r}")
        source = self._open(parts[:-1])
        try:
            os.link(parts[-1], base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def finish(self) -> None:
        """Modes and times of directories, which making their entries would have changed."""
        for name, mode, mtime in reversed(self._directories):
            descriptor = self._open(_parts(name))
            try:
                os.chmod(descriptor, mode)
                os.utime(descriptor, (mtime, mtime))
            finally:
                os.close(descriptor)


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise ArchiveError(f"invalid name in archive: {name!r}")
    return parts


def _open_directory(part: str, parent: int) -> int:
    try:
        return os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise ArchiveError(f"cannot overwrite non-directory {part!r} with directory") from error
        raise


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, parent: int, base: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    content = archive.extractfile(entry)
    with os.fdopen(os.open(base, flags, 0o600, dir_fd=parent), "wb") as file:
        while content is not None and (block := content.read(_BLOCK)):
            file.write(block)
        if file.tell() != entry.size:
            raise ArchiveError(f"the archive is damaged: {entry.name!r} ends early")
