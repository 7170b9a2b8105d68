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

from gantry.errors import Internal, NotFound
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


class _Facts(msgspec.Struct, frozen=True):
    repository: str


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
        identifier = uuid.uuid4().hex
        facts = self._facts_path(identifier)
        temporary = facts.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(_Facts(repository)))
        self._data_path(identifier).touch(mode=0o600)
        temporary.rename(facts)
        return Session(identifier, repository, 0)

    def find(self, repository: str, identifier: str) -> Session:
        """end-13; an upload is only known in its own repository."""
        try:
            facts = msgspec.json.decode(self._facts_path(identifier).read_bytes(), type=_Facts)
            size = self._data_path(identifier).stat().st_size
        except (FileNotFoundError, msgspec.DecodeError):
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", identifier) from None
        if facts.repository != repository:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", identifier)
        return Session(identifier, repository, size)

    @contextmanager
    def claimed(self, session: Session) -> Iterator[None]:
        """One request at a time may change an upload."""
        with self._lock:
            if session.id in self._busy:
                raise RegistryError("BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409)
            self._busy.add(session.id)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(session.id)

    def append(self, session: Session, data: bytes) -> Session:
        """Add bytes at the end; the session as it is then."""
        path = self._data_path(session.id)
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
        path = self._data_path(session.id)
        if self._digest(session, digest.algorithm) != digest:
            self.cancel(session)
            raise RegistryError("DIGEST_INVALID", f"the content is not {digest}")
        depot = self._depot
        with depot.lock(session.repository):
            may_grow(0 if depot.exists(depot.blob_key(session.repository, digest)) else session.size)
            try:
                depot.link_blob(session.repository, digest)
            except NotFound:
                depot.blobs.adopt(path, digest)
                depot.link_blob(session.repository, digest)
        self.cancel(session)
        return BlobInfo(digest, session.size, time.time_ns())

    def cancel(self, session: Session) -> None:
        """Forget an upload and its bytes."""
        with self._lock:
            self._hashes.pop(session.id, None)
        self._facts_path(session.id).unlink(missing_ok=True)
        self._data_path(session.id).unlink(missing_ok=True)

    def old(self, age: float) -> list[str]:
        """The ids of uploads that nobody has written to for `age` seconds."""
        limit = time.time() - age
        found = set()
        for path in self._directory.iterdir():
            try:
                young = path.stat().st_mtime >= limit
            except FileNotFoundError:
                continue
            # an upload is as young as its data; its other file is only looked at where there is no data
            if not young and (path.suffix == ".data" or not self._data_path(path.stem).exists()):
                found.add(path.stem)
        return sorted(found - self._busy)

    def purge(self, age: float) -> list[str]:
        """Remove the old uploads; their ids."""
        purged = self.old(age)
        for identifier in purged:
            self.cancel(Session(identifier, "", 0))
        return purged

    def _digest(self, session: Session, algorithm: str) -> str:
        with self._lock:
            at, hasher = self._hashes.get(session.id, (0, None))
        if hasher is None or at != session.size or algorithm != "sha256":
            hasher = hashlib.new(algorithm)
            with self._data_path(session.id).open("rb", buffering=0) as file:
                while block := file.read(_BLOCK):
                    hasher.update(block)
        return f"{algorithm}:{hasher.hexdigest()}"

    def _data_path(self, identifier: str) -> Path:
        return self._directory / f"{identifier}.data"

    def _facts_path(self, identifier: str) -> Path:
        return self._directory / f"{identifier}.json"
