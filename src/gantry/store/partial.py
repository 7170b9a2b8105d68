"""Blobs on their way in: what has come is kept over a restart, so that it need not be fetched again.

`partial-<hex>` holds the bytes at their places, `partial-<hex>.ranges` says which are there: pairs of little-endian
64-bit numbers, from and to, added behind each write. A kill of the daemon loses at most what was being written; what
a power cut spoils, the digest shows.
"""

import contextlib
import errno
import hashlib
import os
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from gantry.errors import GantryError, Internal, InvalidArgument
from gantry.ports import BlobInfo

PREFIX = "partial-"
RANGES = ".ranges"
_PAIR = struct.Struct("<QQ")
_CHUNK = 1 << 20


class PartialFile:
    """Implements `ports.PartialBlob`. One object per digest at a time; `write` and `follow` are for several threads."""

    def __init__(
        self, path: Path, digest: str, size: int, publish: Callable[[Path, str], BlobInfo], closed: Callable[[], None]
    ) -> None:
        self.digest = digest
        self.size = size
        self._path = path
        self._notes = path.with_name(path.name + RANGES)
        self._publish = publish
        self._closed = closed
        self._changed = threading.Condition()
        self._ranges: list[tuple[int, int]] = []
        self._error: GantryError | None = None
        self._hash = hashlib.sha256()
        self._hashed = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._note = os.open(self._notes, flags | os.O_APPEND, 0o600)
        self._load()
        self.resumed = sum(end - start for start, end in self._ranges)

    def _load(self) -> None:
        notes = os.pread(self._note, os.fstat(self._note).st_size, 0)
        whole = len(notes) // _PAIR.size * _PAIR.size
        length = os.fstat(self._file).st_size
        for start, end in _PAIR.iter_unpack(notes[:whole]):
            if start < end <= min(self.size, length):
                self._add(start, end)
        if whole != len(notes) or length > self.size:
            os.ftruncate(self._note, 0)
            os.ftruncate(self._file, min(length, self.size))
            os.write(self._note, b"".join(_PAIR.pack(*pair) for pair in self._ranges))

    def _add(self, start: int, end: int) -> None:
        kept = []
        for known in self._ranges:
            if known[1] < start or known[0] > end:
                kept.append(known)
            else:
                start, end = min(start, known[0]), max(end, known[1])
        self._ranges = sorted([*kept, (start, end)])

    def missing(self) -> list[tuple[int, int]]:
        """What has not come: (from, to) in order."""
        with self._changed:
            gaps, at = [], 0
            for start, end in self._ranges:
                if start > at:
                    gaps.append((at, start))
                at = end
            if at < self.size:
                gaps.append((at, self.size))
            return gaps

    def write(self, offset: int, pieces: Sequence[bytes]) -> None:
        """Blocking. Put bytes at their place; raises InvalidArgument beyond the blob's end, Internal for the disk."""
        end = offset + sum(map(len, pieces))
        if end > self.size:
            raise InvalidArgument(f"{self.digest}: more than the announced {self.size} bytes were sent")
        if end == offset:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, memoryview(data)[done:], offset + done)
            os.write(self._note, _PAIR.pack(offset, end))
        except OSError as error:
            reason = "no space left on device" if error.errno == errno.ENOSPC else error.strerror
            raise Internal(f"write {self._path}: {reason}") from error
        with self._changed:
            self._add(offset, end)
            self._changed.notify_all()

    def fail(self, error: GantryError) -> None:
        """Nothing more will come: `follow`'s reader gets this error where it would wait."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def follow(self) -> BinaryIO:
        """The blob from its beginning; reading waits for what has not come, and ends only where the digest is right.

        Reading raises InvalidArgument for a wrong digest.
        """
        self._hash, self._hashed = hashlib.sha256(), 0
        return cast("BinaryIO", _Follower(self))

    def read_next(self, size: int) -> bytes:
        """The follower's next bytes, hashed; b"" after the last."""
        at = self._hashed
        if at == self.size:
            self._compare()
            return b""
        with self._changed:
            while not (self._ranges and self._ranges[0][0] == 0 and self._ranges[0][1] > at):
                if self._error is not None:
                    raise self._error
                self._changed.wait()
            there = self._ranges[0][1]
        data = os.pread(self._file, min(size if size >= 0 else _CHUNK, _CHUNK, there - at), at)
        if not data:
            raise Internal(f"read {self._path}: it is shorter than what was written")
        self._hash.update(data)
        self._hashed += len(data)
        return data

    def _compare(self) -> None:
        actual = "sha256:" + self._hash.hexdigest()
        if actual != self.digest:
            raise InvalidArgument(f"filesystem layer verification failed for digest {self.digest}: got {actual}")

    def sync(self) -> None:
        """Blocking. Bring the bytes to the disk; `commit` does it again, at no cost then."""
        os.fdatasync(self._file)

    def verify(self) -> None:
        """Blocking. Read what the follower has not read; raises InvalidArgument for a wrong digest."""
        while self.read_next(_CHUNK):
            continue

    def commit(self) -> BlobInfo:
        """Blocking. Verify, and publish; raises InvalidArgument for a wrong digest."""
        self.verify()
        try:
            os.ftruncate(self._file, self.size)
            os.fsync(self._file)
            info = self._publish(self._path, self.digest)
        except OSError as error:
            raise Internal(f"write {self._path}: {error.strerror}") from error
        self._notes.unlink(missing_ok=True)
        self.close()
        return info

    def close(self) -> None:
        """Let go; what has come stays for another time."""
        for descriptor in (self._file, self._note):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._note = -1
        self._closed()

    def discard(self) -> None:
        """Let go, and keep nothing."""
        self.close()
        for path in (self._notes, self._path):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


class _Follower:
    """A binary file that only knows `read`."""

    def __init__(self, partial: PartialFile) -> None:
        self._partial = partial

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self._partial.read_next(_CHUNK), b""))
        return self._partial.read_next(size)
