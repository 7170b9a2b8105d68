"""What the registry stores in: blobs by digest, and records (small documents) by key. Both are plain, blocking code."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from gantry.ports import BlobInfo


class Blobs(Protocol):
    """Content by digest. A blob is whole and verified from the moment that it can be seen."""

    def open(self, digest: str, start: int = 0) -> BinaryIO:
        """The bytes from `start` on; raises NotFound. A real file has a `fileno` that sendfile can use."""
        ...

    def read(self, digest: str, limit: int) -> bytes:
        """A whole small blob; raises NotFound, or InvalidArgument beyond `limit` bytes."""
        ...

    def stat(self, digest: str) -> BlobInfo:
        """Raises NotFound."""
        ...

    def modified(self, digest: str) -> int:
        """When it was last adopted or renewed, nanoseconds since the epoch; raises NotFound."""
        ...

    def walk(self) -> Iterator[BlobInfo]: ...

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens where there is none."""
        ...

    def adopt(self, path: Path, digest: str) -> None:
        """Publish a file whose digest has been checked, in one step. The file is gone afterwards."""
        ...

    def renew(self, digest: str) -> None:
        """Make a blob young again, so that the collector spares it; raises NotFound."""
        ...

    def link(self, digest: str) -> str:
        """Where a client may fetch the bytes itself ("" where it cannot)."""
        ...


class Records(Protocol):
    """Documents of some kilobytes by key (`a/b/c`). A `put` is atomic: readers see the old or the new one."""

    def get(self, key: str) -> bytes:
        """Raises NotFound."""
        ...

    def put(self, key: str, data: bytes) -> None: ...

    def delete(self, key: str) -> bool:
        """Whether there was one."""
        ...

    def children(self, prefix: str) -> list[str]:
        """The sorted names right below `prefix` (which ends with "/"); those with names below them end with "/"."""
        ...

    def modified(self, key: str) -> int:
        """When it was put or renewed, nanoseconds since the epoch; raises NotFound."""
        ...

    def renew(self, key: str) -> None:
        """As if it had been put again; raises NotFound."""
        ...

    def delete_tree(self, prefix: str) -> None:
        """Everything below `prefix`, which ends with "/"."""
        ...
