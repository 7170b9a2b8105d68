"""Records as files below one directory."""

import os
import secrets
import shutil
import time
from pathlib import Path

from gantry.errors import Internal, NotFound

_ATTEMPTS = 8


def _sync(directory: Path) -> None:
    """Let a rename in a directory outlive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_young(path: Path) -> None:
    """Set a file's times to now, by the clock that the collector reads: the kernel's own stamps lag some ms behind."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


class FileRecords:
    """Implements `storage.Records`. Keys have been checked: no component begins with a dot."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._new = root / ".new"
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"{key}: not found") from None

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        if not data and path.exists():
            self.renew(key)
            return
        temporary = self._new / secrets.token_hex(8)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                if data:  # an empty record says all by its name
                    file.flush()
                    os.fsync(file.fileno())
            self._publish(temporary, path)
            if data:
                _sync(path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise Internal(f"write {path}: {(error.strerror or str(error)).lower()}") from error

    @staticmethod
    def _publish(temporary: Path, path: Path) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                temporary.rename(path)
            except FileNotFoundError:  # the directory is not there yet, or a neighbour's deletion has just pruned it
                if attempt == _ATTEMPTS - 1:
                    raise
                path.parent.mkdir(parents=True, exist_ok=True)
            else:
                return

    def delete(self, key: str) -> bool:
        path = self._path(key)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        self._prune(path.parent)
        return True

    def children(self, prefix: str) -> list[str]:
        try:
            with os.scandir(self._path(prefix)) as entries:
                return sorted(
                    entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                    if entry.name[0] != "."
                )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def modified(self, key: str) -> int:
        try:
            return self._path(key).stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{key}: not found") from None

    def renew(self, key: str) -> None:
        try:
            make_young(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{key}: not found") from None

    def delete_tree(self, prefix: str) -> None:
        path = self._path(prefix)
        doomed = self._new / secrets.token_hex(8)
        try:
            path.rename(doomed)  # at once for readers
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)
        self._prune(path.parent)

    def _path(self, key: str) -> Path:
        return self._root / key

    def _prune(self, directory: Path) -> None:
        """Remove directories that have become empty, from `directory` upwards."""
        while directory != self._root:
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent
