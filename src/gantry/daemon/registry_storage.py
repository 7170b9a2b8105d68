"""The storage of a registry, by its configuration: the engine's OCI layout on disk, or an object store."""

import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from gantry.errors import Internal, NotFound, Unavailable
from gantry.registry.server.config import S3, Filesystem, Storage
from gantry.registry.server.depot import Depot
from gantry.registry.server.filesystem import FileRecords, make_young
from gantry.registry.server.storage import Blobs, Records
from gantry.store.content import BlobStore


class Stock(msgspec.Struct, frozen=True):
    """Where a registry keeps everything. `directory` is locked while it is in use; `staging` is on its file system."""

    blobs: Blobs
    records: Records
    directory: Path
    staging: Path

    def depot(self) -> Depot:
        return Depot(self.blobs, self.records, self.staging)


class FileBlobs(BlobStore):
    """Implements `registry.server.storage.Blobs` with the engine's content store: files are moved in, whole."""

    def open(self, digest: str, start: int = 0) -> BinaryIO:
        file = super().open(digest)
        if start:
            file.seek(start)
        return file

    def adopt(self, path: Path, digest: str) -> None:
        target = self.path(digest)
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            make_young(path)
            path.rename(target)
        except OSError as error:
            raise Internal(f"write {target}: {(error.strerror or str(error)).lower()}") from error

    def renew(self, digest: str) -> None:
        try:
            make_young(self.path(digest))
        except FileNotFoundError:
            raise NotFound(f"content digest {digest}: not found") from None

    def modified(self, digest: str) -> int:
        return self.stat(digest).modified_at

    def link(self, digest: str) -> str:  # noqa: ARG002 - nobody else can read our files
        return ""


def open_stock(storage: Storage, young: float) -> Stock:
    """Open or make what the configuration names. Raises Unavailable where it cannot be used.

    What is younger than `young` seconds need not be renewed, where that is expensive.
    """
    if storage.s3 is not None:
        return _open_bucket(storage.s3, young)
    root = Path((storage.filesystem or Filesystem()).rootdirectory)
    try:
        root.mkdir(mode=0o750, parents=True, exist_ok=True)
        return Stock(FileBlobs(root), FileRecords(root), root, root / "staging")
    except OSError as error:
        raise Unavailable(f"storage.filesystem: {root}: {(error.strerror or str(error)).lower()}") from error


def _open_bucket(config: S3, young: float) -> Stock:
    try:
        from gantry.registry.server.s3 import Bucket, S3Blobs, S3Records
    except ImportError as error:
        raise Unavailable("storage.s3 needs boto3, which is not installed: pip install 'gantry[s3]'") from error
    bucket = Bucket(config)
    bucket.check()
    staging = Path(config.stagingdirectory)
    try:
        staging.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"storage.s3.stagingdirectory: {staging}: {(error.strerror or str(error)).lower()}"
        ) from error
    return Stock(S3Blobs(bucket, young), S3Records(bucket), staging, staging)
