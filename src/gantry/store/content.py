"""Blobs on disk as an OCI image layout: `blobs/<algorithm>/<hex>`, each verified before it has its name."""

import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Self

from gantry import faults
from gantry.errors import Conflict, Internal, InvalidArgument, NotFound
from gantry.model import timestamp
from gantry.model.digest import Digest
from gantry.ports import BlobInfo
from gantry.store.partial import PREFIX, RANGES, PartialFile

_KEEP_PARTIAL = 86400 * 1_000_000_000  # nanoseconds


class BlobStore:
    """Implements `ports.ContentStore` in `root`.

    Unfinished writes live in `root/ingest` and go at the next start; what came of a `partial` one stays for a day.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = {name: root / "blobs" / name for name in ("sha256", "sha512")}
        self._ingest = root / "ingest"
        for directory in self._blobs.values():
            directory.mkdir(parents=True, exist_ok=True)
        self._ingest.mkdir(exist_ok=True)
        self._partial = threading.Lock()
        self._open: set[str] = set()
        for left in self._ingest.iterdir():
            if not left.name.startswith(PREFIX):
                left.unlink()
        self.forget_partials(older=_KEEP_PARTIAL)
        layout = root / "oci-layout"
        if not layout.exists():
            layout.write_text('{"imageLayoutVersion":"1.0.0"}')

    def path(self, digest: str) -> Path:
        """Where a blob lies, whether or not it is there; raises InvalidArgument for what is no digest."""
        checked = Digest(digest)
        return self._blobs[checked.algorithm] / checked.hex

    def open(self, digest: str) -> BinaryIO:
        try:
            return self.path(digest).open("rb", buffering=1 << 20)
        except FileNotFoundError:
            raise NotFound(f"content digest {digest}: not found") from None

    def read(self, digest: str, limit: int) -> bytes:
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InvalidArgument(f"content {digest} is larger than {limit} bytes")
        return data

    def stat(self, digest: str) -> BlobInfo:
        try:
            status = self.path(digest).stat()
        except FileNotFoundError:
            raise NotFound(f"content digest {digest}: not found") from None
        return BlobInfo(digest, status.st_size, status.st_mtime_ns)

    def walk(self) -> Iterator[BlobInfo]:
        for algorithm, directory in self._blobs.items():
            with os.scandir(directory) as entries:
                for entry in entries:
                    status = entry.stat()
                    yield BlobInfo(f"{algorithm}:{entry.name}", status.st_size, status.st_mtime_ns)

    def delete(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def writer(self) -> "FileWriter":
        return FileWriter(self._ingest / secrets.token_hex(8), self)

    def partial(self, digest: str, size: int) -> PartialFile:
        path = self._ingest / f"{PREFIX}{Digest(digest).hex}"
        if not digest.startswith("sha256:"):
            raise InvalidArgument(f"unsupported digest algorithm: {digest.partition(':')[0]}")
        with self._partial:
            if digest in self._open:
                raise Conflict(f"content digest {digest}: locked: it is being written: unavailable")
            self._open.add(digest)
        return PartialFile(path, digest, size, self._publish, lambda: self._open.discard(digest))

    def _publish(self, path: Path, digest: str) -> BlobInfo:
        path.chmod(0o600)
        path.rename(self.path(digest))
        os.utime(self.path(digest))  # for the collector, it has been made now
        sync_directory(self.path(digest).parent)
        return self.stat(digest)

    def partials(self) -> int:
        """The bytes on disk of what has come of unfinished blobs."""
        return sum(path.stat().st_blocks * 512 for path in self._ingest.glob(f"{PREFIX}*"))

    def forget_partials(self, among: Collection[str] | None = None, *, older: int = 0) -> int:
        freed = 0
        with self._partial:
            for path in list(self._ingest.glob(f"{PREFIX}*")):
                digest = "sha256:" + path.name.removeprefix(PREFIX).removesuffix(RANGES)
                status = path.stat()
                if digest in self._open or (among is not None and digest not in among):
                    continue
                if status.st_mtime_ns > timestamp.now() - older:
                    continue
                path.unlink()
                freed += status.st_blocks * 512
        return freed

    def publish_index(self, data: bytes) -> None:
        """Replace `index.json`. It is derived from the state and needs no fsync."""
        temporary = self._ingest / f"index-{secrets.token_hex(8)}"
        try:
            temporary.write_bytes(data)
            temporary.replace(self.root / "index.json")
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise Internal(f"write {self.root / 'index.json'}: {error.strerror}") from error

    def put(self, data: bytes) -> BlobInfo:
        """Store a small document."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()


def sync_directory(directory: Path) -> None:
    """Make a rename into `directory` survive a power cut (blocking)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileWriter:
    """Implements `ports.BlobWriter`: hashes while it writes, publishes by rename after fsync of both."""

    def __init__(self, path: Path, store: BlobStore) -> None:
        self._path = path
        self._store = store
        self._file = path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self._size = 0
        self._done = False

    def write(self, data: bytes | memoryview) -> int:
        rest = memoryview(data)
        try:
            while rest:  # the kernel may take a part, for example where the disk is nearly full
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Internal(f"write {self._path}: no space left on device") from error
            raise Internal(f"write {self._path}: {error.strerror}") from error
        self._hash.update(data)
        self._size += len(data)
        return len(data)

    def commit(self, digest: str = "", size: int = -1) -> BlobInfo:
        actual = "sha256:" + self._hash.hexdigest()
        if size >= 0 and size != self._size:
            raise InvalidArgument(f"unexpected commit size {self._size}, expected {size}: failed precondition")
        if digest and digest != actual:
            raise InvalidArgument(f"unexpected commit digest {actual}, expected {digest}: failed precondition")
        place = self._store.path(actual)
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.chmod(0o600)
            faults.point("blob.written")
            self._path.rename(place)
            faults.point("blob.named")
            self._done = True
            sync_directory(place.parent)
        except OSError as error:
            raise Internal(f"write {place}: {error.strerror}") from error
        return self._store.stat(actual)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._done:
            self._file.close()
            self._path.unlink(missing_ok=True)
