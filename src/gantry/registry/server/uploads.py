"""Upload sessions: a file in the staging directory each, so that they survive a restart."""

import hashlib
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gantry.errors import Internal
from gantry.model.digest import Digest
from gantry.ports import BlobInfo
from gantry.registry.server.depot import Depot
from gantry.registry.server.errors import RegistryError

if TYPE_CHECKING:
    from hashlib import _Hash

_HASHES = 1024
_BLOCK = 4 << 20


class Session(msgspec.Struct, frozen=True):
    """One upload and how many bytes it has."""

    id: str
    repository: str
    size: int


class Uploads:
    """All sessions. The bytes are hashed while they come; after a restart they are read once more."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._directory = depot.staging / "uploads"
        self._directory.mkdir(exist_ok=True)
        self._hashes: OrderedDict[str, tuple[int, _Hash]] = OrderedDict()
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def start(self, repository: str) -> Session:
        """end-4a."""
        session = Session(uuid.uuid4().hex, repository, 0)
        self._path(session).touch(mode=0o600)
        return session

    def find(self, repository: str, identifier: str) -> Session:
        """end-13; an upload is only known in its own repository."""
        session = Session(identifier, repository, 0)
        try:
            size = self._path(session).stat().st_size
        except FileNotFoundError:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", identifier) from None
        return Session(identifier, repository, size)

    @contextmanager
    def claimed(self, identifier: str) -> Iterator[None]:
        """One request at a time may change an upload."""
        with self._lock:
            if identifier in self._busy:
                raise RegistryError("BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409)
            self._busy.add(identifier)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(identifier)

    def append(self, session: Session, data: bytes) -> Session:
        """Add bytes at the end; the session as it is then."""
        path = self._path(session)
        try:
            with path.open("r+b", buffering=0) as file:
                file.seek(session.size)
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
        except FileNotFoundError:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", session.id) from None
        except OSError as error:
            os.truncate(path, session.size)
            raise Internal(f"write {path}: {(error.strerror or str(error)).lower()}") from error
        with self._lock:
            at, hasher = self._hashes.pop(session.id, (0, None))
        if hasher is None and not session.size:
            hasher = hashlib.sha256()
        if hasher is not None and at == session.size:
            hasher.update(data)
            with self._lock:
                self._hashes[session.id] = (session.size + len(data), hasher)
                while len(self._hashes) > _HASHES:
                    self._hashes.popitem(last=False)
        return Session(session.id, session.repository, session.size + len(data))

    def finish(self, session: Session, digest: Digest, may_grow: Callable[[int], None] = lambda _: None) -> BlobInfo:
        """end-6: check the digest, publish the blob and link it; a wrong digest ends the upload.

        `may_grow(bytes)` raises where the repository has no room; it is asked under the repository's lock.
        """
        path = self._path(session)
        if self._digest(session, digest.algorithm) != digest:
            self.cancel(session)
            raise RegistryError("DIGEST_INVALID", f"the content is not {digest}")
        depot = self._depot
        with depot.lock(session.repository):
            may_grow(0 if depot.exists(depot.blob_key(session.repository, digest)) else session.size)
            depot.take_blob(session.repository, path, digest)
        self.cancel(session)
        return BlobInfo(digest, session.size, time.time_ns())

    def cancel(self, session: Session) -> None:
        """Forget an upload and its bytes."""
        with self._lock:
            self._hashes.pop(session.id, None)
        self._path(session).unlink(missing_ok=True)

    def old(self, age: float) -> list[Path]:
        """The files of uploads that nobody has written to for `age` seconds."""
        limit = time.time() - age
        found = []
        for path in self._directory.iterdir():
            try:
                young = path.stat().st_mtime >= limit
            except FileNotFoundError:
                continue
            if not young and path.name[:32] not in self._busy:
                found.append(path)
        return found

    def purge(self, age: float) -> int:
        """Remove the old uploads; how many."""
        found = self.old(age)
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def _digest(self, session: Session, algorithm: str) -> str:
        with self._lock:
            at, hasher = self._hashes.get(session.id, (0, None))
        if hasher is None or at != session.size or algorithm != "sha256":
            hasher = hashlib.new(algorithm)
            with self._path(session).open("rb", buffering=0) as file:
                while block := file.read(_BLOCK):
                    hasher.update(block)
        return f"{algorithm}:{hasher.hexdigest()}"

    def _path(self, session: Session) -> Path:
        """A file's name says which repository it is for, so that there is nothing else to keep about an upload."""
        home = hashlib.sha256(session.repository.encode()).hexdigest()[:32]
        return self._directory / f"{session.id}-{home}"
