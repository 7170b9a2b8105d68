"""A build context as a tar stream: made on the fly, owned by root, sorted, without what `.dockerignore` names."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

from gantry.cli.errors import CommandError
from gantry.errors import InvalidArgument
from gantry.model.ignore import IgnoreMatcher, parse_ignore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

END = bytes(2 * tarfile.BLOCKSIZE)  # what closes a tar archive
_BLOCK = 1 << 18
_RECORD = tarfile.BLOCKSIZE
_IGNORE_LIMIT = 1 << 20


class BuildContext:
    """A directory to send. `extra` are files to add (name -> content) that it has not, `ignore` patterns.

    Raises CommandError, also while the stream is being read, where something in it cannot be sent.
    """

    def __init__(self, root: Path, patterns: list[str], extra: Mapping[str, bytes], prefix: str = "") -> None:
        """With `prefix`, everything lies below a directory of that name in the archive."""
        self._root = root
        self._prefix = prefix + "/" if prefix else ""
        self._extra = extra
        self._links: dict[tuple[int, int], str] = {}
        try:
            self._matcher = IgnoreMatcher(patterns)
        except InvalidArgument as error:
            raise CommandError(f"error checking context: {error.message}") from error

    def blocks(self) -> Iterator[bytes]:
        """The archive's entries, without the end mark."""
        if self._prefix:
            entry = tarfile.TarInfo(self._prefix.rstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            yield _head(entry)
        try:
            yield from self._directory("", None)
        except OSError as error:
            name = error.filename or self._root
            words = os.strerror(error.errno or 0).lower()
            if isinstance(error, PermissionError):
                raise CommandError(f"error checking context: no permission to read from '{name}'") from error
            raise CommandError(f"error checking context: {name}: {words}") from error
        for name, data in self._extra.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            yield _head(entry) + data + bytes(-len(data) % _RECORD)

    def _directory(self, relative: str, above: tuple[bool, ...] | None) -> Iterator[bytes]:
        with os.scandir(self._root / relative) as found:
            names = sorted(entry.name for entry in found)
        for name in names:
            path = f"{relative}/{name}" if relative else name
            excluded, matched = self._matcher.match(path, above)
            full = self._root / path
            status = full.lstat()
            is_directory = stat.S_ISDIR(status.st_mode)
            if excluded:
                if is_directory and self._matcher.may_hold_exceptions(path):
                    yield from self._directory(path, matched)
                continue
            if path in self._extra:
                continue
            yield from self._entry(full, path, status)
            if is_directory:
                yield from self._directory(path, matched)

    def _entry(self, full: Path, path: str, status: os.stat_result) -> Iterator[bytes]:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return
        entry = tarfile.TarInfo(self._prefix + path)
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.mtime = int(status.st_mtime)
        if kind == stat.S_IFDIR:
            entry.type = tarfile.DIRTYPE
        elif kind == stat.S_IFLNK:
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(full)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        elif kind == stat.S_IFIFO:
            entry.type = tarfile.FIFOTYPE
        elif status.st_nlink > 1 and (first := self._first(status, path)):
            entry.type, entry.linkname = tarfile.LNKTYPE, self._prefix + first
        else:
            entry.size = status.st_size
            yield from self._file(full, entry)
            return
        yield _head(entry)

    def _first(self, status: os.stat_result, path: str) -> str:
        """The name under which a file with several was sent before, "" for the first."""
        known = self._links.setdefault((status.st_dev, status.st_ino), path)
        return "" if known == path else known

    def _file(self, full: Path, entry: tarfile.TarInfo) -> Iterator[bytes]:
        descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield _head(entry)
            left = entry.size
            while left:
                block = os.read(descriptor, min(left, _BLOCK))
                if not block:
                    raise CommandError(f"error sending context: {entry.name} became shorter while it was read")
                left -= len(block)
                yield block
        finally:
            os.close(descriptor)
        yield bytes(-entry.size % _RECORD)


def _head(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def ignore_patterns(root: Path, dockerfile: Path | None, inside: str) -> list[str]:
    """Patterns of `<Dockerfile>.dockerignore`, else of the context's `.dockerignore`.

    What the daemon itself reads is never left out: `inside` is the Dockerfile's path in the context, "" for none.
    """
    patterns: list[str] = []
    own = [dockerfile.with_name(dockerfile.name + ".dockerignore")] if dockerfile else []
    for path in (*own, root / ".dockerignore"):
        try:
            with path.open("rb") as file:
                text = file.read(_IGNORE_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise CommandError(f"error reading {path}: {os.strerror(error.errno or 0).lower()}") from error
        patterns = parse_ignore(text.decode("utf-8", "surrogateescape"))
        break
    try:
        for needed in (".dockerignore", inside):
            if needed and IgnoreMatcher(patterns).excludes(needed):
                patterns.append("!" + needed)
    except InvalidArgument as error:
        raise CommandError(f"error checking context: {error.message}") from error
    return patterns
