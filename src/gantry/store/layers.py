"""From layer blobs to snapshots and back."""

import hashlib
import io
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from gantry.errors import Conflict, Internal, InvalidArgument, NotFound
from gantry.linux import mount
from gantry.model.task import Mount
from gantry.oci.compression import READ_ERRORS, open_compressed
from gantry.oci.diff import changes, write_layer
from gantry.oci.documents import OCI_LAYER, chain_ids
from gantry.oci.layer import apply_layer
from gantry.ports import LayerInfo
from gantry.store.content import BlobStore, FileWriter
from gantry.store.snapshots import OverlaySnapshotter
from gantry.trace import span

EXTRACTING = "extract-"


class OverlayLayers:
    """Implements `ports.Layers` on overlay snapshots. All methods block."""

    def __init__(self, content: BlobStore, snapshots: OverlaySnapshotter, mounts: Path) -> None:
        """`mounts` is a directory for short-lived mounts."""
        self._content = content
        self._snapshots = snapshots
        self._mounts = mounts
        self._guard = threading.Lock()
        self._chains: dict[str, threading.Lock] = {}
        mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in mounts.iterdir():
            mount.unmount_all(left)
            left.rmdir()
        for info in list(snapshots.walk()):
            if info.key.startswith(EXTRACTING):
                snapshots.remove(info.key)

    def unpack(self, digest: str, diff_id: str, parent: str) -> str:
        chain = chain_ids([parent, diff_id])[1] if parent else diff_id
        with self._guard:
            lock = self._chains.setdefault(chain, threading.Lock())
        with lock, span("unpack"):
            try:
                self._snapshots.stat(chain)
            except NotFound:
                self._unpack(digest, diff_id, parent, chain)
        return chain

    def _unpack(self, digest: str, diff_id: str, parent: str, chain: str) -> None:
        key = EXTRACTING + secrets.token_hex(8)
        self._snapshots.prepare(key, parent)
        try:
            with self._content.open(digest) as blob:
                hashing = _Hashing(open_compressed(blob))
                try:
                    apply_layer(cast("BinaryIO", hashing), self._snapshots.upper(key))
                    hashing.drain()
                except OSError as error:
                    if error.errno is None:
                        raise InvalidArgument(f"layer {digest}: {error}") from error
                    raise Internal(f"layer {digest}: {(error.strerror or str(error)).lower()}") from error
                except READ_ERRORS as error:
                    raise InvalidArgument(f"layer {digest}: {error}") from error
            hashing.verify(diff_id)
            self._snapshots.commit(chain, key)
        except Conflict:
            self._snapshots.remove(key)  # another daemon's thread was first: the content is the same
        except BaseException:
            self._snapshots.remove(key)
            raise

    def capture(self, key: str) -> LayerInfo:
        stack = self._snapshots.layers(key)
        with self._content.writer() as writer:
            counting = _Counting(writer)
            try:
                write_layer(stack[0], stack[1:], cast("BinaryIO", counting))
            except OSError as error:
                raise Internal(f"capture of {key}: {error}") from error
            blob = writer.commit()
        return LayerInfo(blob.digest, blob.digest, blob.size, counting.size, OCI_LAYER)

    def changes(self, key: str) -> list[tuple[int, str]]:
        stack = self._snapshots.layers(key)
        return [(change.kind, change.path) for change in changes(stack[0], stack[1:])]

    @contextmanager
    def mounted(self, mounts: Sequence[Mount]) -> Iterator[Path]:
        target = self._mounts / secrets.token_hex(6)
        target.mkdir(mode=0o700)
        with ExitStack() as undo:
            undo.callback(target.rmdir)
            for request in mounts:
                mount.mount(request, target)
                undo.callback(mount.unmount, target, lazy=True)
            yield target


class _Hashing(io.RawIOBase):
    """Passes a stream on and hashes what goes by."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        while self.read(1 << 20):
            pass

    def verify(self, diff_id: str) -> None:
        actual = "sha256:" + self._hash.hexdigest()
        if actual != diff_id:
            raise InvalidArgument(f"wrong diff id calculated on extraction {actual}, expected {diff_id}")


class _Counting:
    """A blob writer as a file."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return self._writer.write(data)

    def flush(self) -> None:
        """Nothing is buffered here."""
