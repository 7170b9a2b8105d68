"""Copying into a step's file system, as BuildKit does: every path, on both sides, is looked up inside its root."""

import os
import posixpath
import re
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from gantry.build.digest import is_copied
from gantry.build.errors import StepFailed
from gantry.build.selection import walk
from gantry.linux.openat2 import open_directory, openat2

_CHUNK = 16 << 20
_LINKS = 40
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK)


class Rules(msgspec.Struct, frozen=True):
    """`owner` for all that is copied, None to keep each file's; `mode` makes a new mode of an old one.

    `nodes` says whether devices and pipes are copied (from images; a context has none).
    `excluded` answers for paths below a copied directory.
    """

    owner: tuple[int, int] | None = (0, 0)
    mode: Callable[[int, bool], int] | None = None
    nodes: bool = False
    excluded: Callable[[str], bool] | None = None

    def mode_of(self, mode: int, *, directory: bool) -> int:
        return self.mode(mode, directory) if self.mode else mode & 0o7777

    def owner_of(self, status: os.stat_result) -> tuple[int, int]:
        return self.owner or (status.st_uid, status.st_gid)


class Target(msgspec.Struct, frozen=True):
    """The tree that is written to, as a descriptor of its root directory."""

    root: int

    def is_directory(self, path: str) -> bool:
        try:
            os.close(open_directory(self.root, path))
        except OSError:
            return False
        return True

    def directory(self, path: str, rules: Rules) -> int:
        """An open directory; missing ones are made, owned as the rules say. Raises StepFailed."""
        current = os.dup(self.root)
        walked = ""
        try:
            for part in path.split("/"):
                if part in ("", "."):
                    continue
                walked = f"{walked}/{part}"
                try:
                    following = openat2(self.root, walked, os.O_RDONLY | os.O_DIRECTORY)
                except FileNotFoundError:
                    following = self._make(current, part, walked, rules)
                os.close(current)
                current = following
        except NotADirectoryError:
            os.close(current)
            raise StepFailed(f"failed to copy files: cannot create directory {walked}: not a directory") from None
        except BaseException:
            os.close(current)
            raise
        return current

    def _make(self, parent: int, name: str, walked: str, rules: Rules) -> int:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:  # a link to nowhere
            raise StepFailed(f"failed to copy files: cannot create directory {walked}: file exists") from None
        os.chown(name, *(rules.owner or (0, 0)), dir_fd=parent, follow_symlinks=False)
        os.chmod(name, rules.mode_of(0o755, directory=True), dir_fd=parent)
        return openat2(self.root, walked, os.O_RDONLY | os.O_DIRECTORY)

    def place(self, path: str, rules: Rules) -> tuple[int, str]:
        """The open directory and last name of a file's path, with a link in the last place followed."""
        for _ in range(_LINKS):
            head, _, name = path.rstrip("/").rpartition("/")
            parent = self.directory(head, rules)
            try:
                target = os.readlink(name, dir_fd=parent)
            except OSError:
                return parent, name
            os.close(parent)
            path = target if target.startswith("/") else f"{head}/{target}"
        raise StepFailed(f"failed to copy files: too many levels of symbolic links: {path}")


def copy_path(source: int, path: str, target: Target, destination: str, rules: Rules, *, into: bool) -> None:
    """Copy one chosen source: a directory's contents, or a file; `into` says that the destination is a directory."""
    opened = openat2(source, path or ".", os.O_PATH)
    try:
        status = os.fstat(opened)
    finally:
        os.close(opened)
    if stat.S_ISDIR(status.st_mode):
        _copy_directory(source, path, status, target, destination, rules)
        return
    if into or destination.endswith("/") or target.is_directory(destination):
        destination = posixpath.join(destination, posixpath.basename(path))
    parent, name = target.place(destination, rules)
    try:
        if stat.S_ISREG(status.st_mode):
            descriptor = openat2(source, path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                _copy_file(descriptor, status, parent, name, rules)
            finally:
                os.close(descriptor)
        elif rules.nodes:
            _copy_other(status, "", parent, name, rules)
    finally:
        os.close(parent)


def write_file(
    data: bytes | Path, target: Target, destination: str, rules: Rules, *, mode: int, mtime: int = 0
) -> None:
    """Write `data`, or a copy of the file that it names, owned by root where the rules say nothing else."""
    parent, name = target.place(destination, rules)
    try:
        _clear(parent, name)
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    _copy_data(source.fileno(), descriptor)
            else:
                file.write(data)
                file.flush()
            os.fchown(descriptor, *(rules.owner or (0, 0)))
            os.fchmod(descriptor, rules.mode_of(mode, directory=False))
            if mtime:
                os.utime(descriptor, ns=(mtime, mtime))
    finally:
        os.close(parent)


def _copy_directory(
    source: int, path: str, status: os.stat_result, target: Target, destination: str, rules: Rules
) -> None:
    """The directory itself is not copied: its destination keeps its mode, or is new with 0755."""
    times = {"": status.st_mtime_ns}
    top = target.directory(destination, rules)
    try:
        for inner, entry, directory in walk(source, path, rules.excluded):
            above, _, name = inner.rpartition("/")
            parent = open_directory(top, above)
            try:
                if stat.S_ISDIR(entry.st_mode):
                    times[inner] = entry.st_mtime_ns
                    _make_directory(entry, directory, parent, name, f"{destination.rstrip('/')}/{inner}", rules)
                elif stat.S_ISREG(entry.st_mode):
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    descriptor = os.open(name, flags, dir_fd=directory)
                    try:
                        _copy_file(descriptor, entry, parent, name, rules)
                    finally:
                        os.close(descriptor)
                elif stat.S_ISLNK(entry.st_mode):
                    _copy_other(entry, os.readlink(name, dir_fd=directory), parent, name, rules)
                elif rules.nodes:
                    _copy_other(entry, "", parent, name, rules)
            finally:
                os.close(parent)
        for inner in sorted(times, reverse=True):
            made = open_directory(top, inner)
            try:
                os.utime(made, ns=(times[inner], times[inner]))
            finally:
                os.close(made)
    finally:
        os.close(top)


def _make_directory(entry: os.stat_result, source: int, parent: int, name: str, shown: str, rules: Rules) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise StepFailed(f"cannot copy to non-directory: {shown}") from None
    os.chown(name, *rules.owner_of(entry), dir_fd=parent, follow_symlinks=False)
    os.chmod(name, rules.mode_of(entry.st_mode, directory=True), dir_fd=parent)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    old, new = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=parent)
    try:
        _copy_xattrs(old, new)
    finally:
        os.close(old)
        os.close(new)


def _clear(parent: int, name: str) -> None:
    """Make way for a file; a directory is never replaced by one."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise StepFailed(f"cannot replace to directory {name} with file") from None


def _copy_file(source: int, status: os.stat_result, parent: int, name: str, rules: Rules) -> None:
    _clear(parent, name)
    target = os.open(name, _CREATE, 0o600, dir_fd=parent)
    try:
        _copy_data(source, target)
        os.fchown(target, *rules.owner_of(status))
        os.fchmod(target, rules.mode_of(status.st_mode, directory=False))
        _copy_xattrs(source, target)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    finally:
        os.close(target)


def _copy_data(source: int, target: int) -> None:
    try:
        while os.copy_file_range(source, target, _CHUNK):
            pass
    except OSError as error:
        if error.errno not in (18, 22, 38, 95):  # other file systems: EXDEV, EINVAL, ENOSYS, EOPNOTSUPP
            raise
        while os.sendfile(target, source, None, _CHUNK):
            pass


def _copy_xattrs(source: int, target: int) -> None:
    for name in os.listxattr(source):
        if is_copied(name):
            os.setxattr(target, name, os.getxattr(source, name))


def _copy_other(status: os.stat_result, link: str, parent: int, name: str, rules: Rules) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        _clear(parent, name)
        os.symlink(link, name, dir_fd=parent)
    elif kind in _NODES:
        _clear(parent, name)
        os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=parent)
        os.chmod(name, rules.mode_of(status.st_mode, directory=False), dir_fd=parent)
    else:
        return
    os.chown(name, *rules.owner_of(status), dir_fd=parent, follow_symlinks=False)
    os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=parent, follow_symlinks=False)


_SYMBOLIC = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}


def parse_chmod(text: str) -> Callable[[int, bool], int]:
    """`--chmod`: octal, or symbolic clauses as chmod(1) has them. Raises StepFailed."""
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda mode, directory: fixed  # noqa: ARG005
    clauses = [_SYMBOLIC.fullmatch(part) for part in text.split(",")]
    if not all(clauses):
        raise StepFailed(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    wanted = [match.groups() for match in clauses if match]
    return lambda mode, directory: _apply(mode & 0o7777, wanted, directory)


def _apply(mode: int, clauses: "list[tuple[str, ...]]", directory: bool) -> int:
    for who, operation, letters in clauses:
        mask = 0
        for each in "ugo" if not who or "a" in who else who:
            mask |= _WHO[each]
        bits = 0
        for letter in letters:
            if letter == "X":
                bits |= 0o111 if directory or mode & 0o111 else 0
            elif letter == "s":
                bits |= 0o6000
            elif letter == "t":
                bits |= 0o1000
            else:
                bits |= _BITS[letter]
        bits &= mask
        if operation == "+":
            mode |= bits
        elif operation == "-":
            mode &= ~bits
        else:
            mode = (mode & ~(mask & 0o777)) | bits
    return mode
