"""Blobs and records in a bucket of an S3-compatible object store. Uploads grow on local disk and go there whole."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from gantry.errors import InvalidArgument, NotFound, Unavailable
from gantry.model.digest import Digest
from gantry.ports import BlobInfo
from gantry.registry.server.config import S3

T = TypeVar("T")

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_LINK_SECONDS = 1200
_SMALLEST_PART = 5 << 20
_BATCH = 1000


class Bucket:
    """One bucket below one prefix, with errors that say what failed where."""

    def __init__(self, config: S3) -> None:
        self.name = config.bucket
        self.root = config.rootdirectory.strip("/") + "/" if config.rootdirectory.strip("/") else ""
        endpoint = config.regionendpoint
        if endpoint and "://" not in endpoint:
            endpoint = f"{'https' if config.secure else 'http'}://{endpoint}"
        style = "path" if config.forcepathstyle or endpoint else "auto"
        self.client: Any = boto3.client(
            "s3",
            region_name=config.region,
            endpoint_url=endpoint or None,
            aws_access_key_id=config.accesskey or None,
            aws_secret_access_key=config.secretkey or None,
            aws_session_token=config.sessiontoken or None,
            verify=False if config.skipverify else None,
            config=ClientConfig(
                signature_version="s3v4",
                s3={"addressing_style": style},
                retries={"mode": "standard", "max_attempts": 5},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=32,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self.arguments: dict[str, str] = {"StorageClass": config.storageclass} if config.storageclass != "NONE" else {}
        if config.encrypt:
            self.arguments["ServerSideEncryption"] = "AES256"
        self.transfer = TransferConfig(
            multipart_chunksize=max(_SMALLEST_PART, int(config.chunksize)), max_concurrency=4
        )

    def check(self) -> None:
        """Raises Unavailable where the bucket cannot be used."""
        self.call(lambda: self.client.head_bucket(Bucket=self.name), "the bucket")

    def call(self, function: Callable[[], T], what: str) -> T:
        """NotFound where there is no such object, Unavailable for all else that goes wrong."""
        try:
            return function()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING and what != "the bucket":
                raise NotFound(f"{what}: not found") from error
            raise Unavailable(f"storage.s3: {self.name}: {what}: {error}") from error
        except BotoCoreError as error:
            raise Unavailable(f"storage.s3: {self.name}: {what}: {error}") from error

    def head(self, key: str) -> tuple[int, int]:
        """Size, and modification time in nanoseconds."""
        answer = self.call(lambda: self.client.head_object(Bucket=self.name, Key=self.root + key), key)
        return int(answer["ContentLength"]), _nanoseconds(answer["LastModified"])

    def get(self, key: str, start: int = 0) -> Any:
        """The body of an object from a byte on, to be read and closed."""
        options = {"Range": f"bytes={start}-"} if start else {}
        answer = self.call(lambda: self.client.get_object(Bucket=self.name, Key=self.root + key, **options), key)
        return answer["Body"]

    def put(self, key: str, data: bytes) -> None:
        self.call(
            lambda: self.client.put_object(Bucket=self.name, Key=self.root + key, Body=data, **self.arguments), key
        )

    def delete(self, key: str) -> None:
        self.call(lambda: self.client.delete_object(Bucket=self.name, Key=self.root + key), key)

    def pages(self, prefix: str, delimiter: str = "") -> Iterator[Any]:
        """Pages of a listing below `prefix`."""
        options = {"Delimiter": delimiter} if delimiter else {}
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.root + prefix, **options
        )
        iterator = iter(pages)
        while (page := self.call(lambda: next(iterator, None), prefix)) is not None:
            yield page


class S3Blobs:
    """Implements `storage.Blobs`. A blob is made young by an empty object beside it: rewriting it would copy it."""

    def __init__(self, bucket: Bucket, young: float) -> None:
        self._bucket = bucket
        self._young = int(young * 1e9)

    def open(self, digest: str, start: int = 0) -> BinaryIO:
        return cast("BinaryIO", self._bucket.get(_blob(digest), start))

    def read(self, digest: str, limit: int) -> bytes:
        body = self._bucket.get(_blob(digest))
        try:
            data: bytes = self._bucket.call(lambda: body.read(limit + 1), digest)
        finally:
            body.close()
        if len(data) > limit:
            raise InvalidArgument(f"content {digest} is larger than {limit} bytes")
        return data

    def stat(self, digest: str) -> BlobInfo:
        size, modified = self._bucket.head(_blob(digest))
        return BlobInfo(digest, size, modified)

    def modified(self, digest: str) -> int:
        own = self.stat(digest).modified_at
        try:
            return max(own, self._bucket.head(_renewal(digest))[1])
        except NotFound:
            return own

    def walk(self) -> Iterator[BlobInfo]:
        for page in self._bucket.pages("blobs/"):
            for entry in page.get("Contents", ()):
                algorithm, _, hexadecimal = entry["Key"][len(self._bucket.root) + len("blobs/") :].partition("/")
                if hexadecimal:
                    digest = f"{algorithm}:{hexadecimal}"
                    yield BlobInfo(digest, int(entry["Size"]), _nanoseconds(entry["LastModified"]))

    def delete(self, digest: str) -> None:
        self._bucket.delete(_blob(digest))
        self._bucket.delete(_renewal(digest))

    def adopt(self, path: Path, digest: str) -> None:
        bucket = self._bucket
        bucket.call(
            lambda: bucket.client.upload_file(
                str(path), bucket.name, bucket.root + _blob(digest), ExtraArgs=bucket.arguments, Config=bucket.transfer
            ),
            digest,
        )
        path.unlink(missing_ok=True)

    def renew(self, digest: str) -> None:
        if time.time_ns() - self.stat(digest).modified_at > self._young:
            self._bucket.put(_renewal(digest), b"")

    def link(self, digest: str) -> str:
        parameters = {"Bucket": self._bucket.name, "Key": self._bucket.root + _blob(digest)}
        url = self._bucket.client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=_LINK_SECONDS)
        return str(url)


class S3Records:
    """Implements `storage.Records`: an object per record."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def get(self, key: str) -> bytes:
        body = self._bucket.get(key)
        try:
            data: bytes = self._bucket.call(body.read, key)
        finally:
            body.close()
        return data

    def put(self, key: str, data: bytes) -> None:
        self._bucket.put(key, data)

    def delete(self, key: str) -> bool:
        try:
            self._bucket.head(key)
        except NotFound:
            return False
        self._bucket.delete(key)
        return True

    def children(self, prefix: str) -> list[str]:
        start = len(self._bucket.root) + len(prefix)
        found: list[str] = []
        for page in self._bucket.pages(prefix, "/"):
            found += [entry["Key"][start:] for entry in page.get("Contents", ())]
            found += [entry["Prefix"][start:] for entry in page.get("CommonPrefixes", ())]
        return sorted(name for name in found if name)

    def modified(self, key: str) -> int:
        return self._bucket.head(key)[1]

    def renew(self, key: str) -> None:
        self.put(key, self.get(key))

    def delete_tree(self, prefix: str) -> None:
        bucket = self._bucket
        keys = [entry["Key"] for page in bucket.pages(prefix) for entry in page.get("Contents", ())]
        for at in range(0, len(keys), _BATCH):
            objects = [{"Key": key} for key in keys[at : at + _BATCH]]
            bucket.call(
                lambda objects=objects: bucket.client.delete_objects(  # type: ignore[misc]
                    Bucket=bucket.name, Delete={"Objects": objects, "Quiet": True}
                ),
                prefix,
            )


def _blob(digest: str) -> str:
    checked = Digest(digest)
    return f"blobs/{checked.algorithm}/{checked.hex}"


def _renewal(digest: str) -> str:
    checked = Digest(digest)
    return f"renewed/{checked.algorithm}/{checked.hex}"


def _nanoseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1e9)
