"""From layer blobs to snapshots and back."""

import hashlib
import os
import queue
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Self, cast

from gantry import faults
from gantry.errors import Conflict, Internal, InvalidArgument, NotFound
from gantry.linux import mount
from gantry.linux.openat2 import open_directory, openat2
from gantry.linux.userns import filesystem_ids
from gantry.model.remap import Remap
from gantry.model.task import Mount
from gantry.oci.compression import open_compressed
from gantry.oci.diff import changes, write_layer
from gantry.oci.documents import OCI_LAYER, chain_ids
from gantry.oci.layer import Extracted, apply_layer, extract_layer
from gantry.ports import LayerInfo
from gantry.store.content import BlobStore
from gantry.store.snapshots import OverlaySnapshotter
from gantry.trace import span

EXTRACTING = "extract-"
_CHUNK = 1 << 20
_AHEAD = 8  # chunks


class OverlayLayers:
    """Implements `ports.Layers` on overlay snapshots. All methods block."""

    def __init__(
        self, content: BlobStore, snapshots: OverlaySnapshotter, mounts: Path, remap: Remap | None = None
    ) -> None:
        """`mounts` is a directory for short-lived mounts."""
        self._remap = remap
        self._content = content
        self._snapshots = snapshots
        self._mounts = mounts
        self._guard = threading.Lock()
        self._chains: dict[str, tuple[threading.Lock, int]] = {}
        self._extracted: dict[str, Extracted] = {}
        mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in mounts.iterdir():
            mount.unmount_all(left)
            left.rmdir()
        for info in list(snapshots.walk()):
            if info.key.startswith(EXTRACTING):
                snapshots.remove(info.key)

    def unpack(self, digest: str, diff_id: str, parent: str) -> str:
        chain = chain_ids([parent, diff_id])[1] if parent else diff_id
        with self._only_one(chain), span("unpack"):
            try:
                self._snapshots.stat(chain)
            except NotFound:
                self._unpack(digest, diff_id, parent, chain)
        return chain

    @contextmanager
    def _only_one(self, chain: str) -> Iterator[None]:
        """Hold the lock of one chain; it exists as long as somebody uses it."""
        with self._guard:
            lock, users = self._chains.get(chain, (threading.Lock(), 0))
            self._chains[chain] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._chains[chain]
                if users == 1:
                    del self._chains[chain]
                else:
                    self._chains[chain] = lock, users - 1

    def _unpack(self, digest: str, diff_id: str, parent: str, chain: str) -> None:
        key = EXTRACTING + secrets.token_hex(8)
        self._snapshots.prepare(key, parent)
        try:
            size = self._apply(key, digest, diff_id)
            faults.point("layer.applied")
            self._snapshots.commit(chain, key, size)
        except Conflict:
            self._snapshots.remove(key)  # the chain has come by another way: the content is the same
        except BaseException as error:
            self._snapshots.remove(key)
            if isinstance(error, OSError):
                raise Internal(f"failed to register layer: {os.strerror(error.errno or 0).lower()}") from error
            raise

    def extract(self, stream: BinaryIO, diff_id: str, *, bottom: bool, limit: int = -1) -> str:
        key = EXTRACTING + secrets.token_hex(8)
        self._snapshots.prepare(key, "")
        try:
            with span("unpack"), Readahead(open_compressed(stream), limit) as ahead:
                made = extract_layer(cast("BinaryIO", ahead), self._snapshots.upper(key), bottom=bottom)
                actual = ahead.digest()
            _check(actual, diff_id)
            while stream.read(_CHUNK):
                continue  # what follows the compressed data belongs to the blob's digest
        except BaseException as error:
            self._snapshots.remove(key)
            if isinstance(error, OSError):
                raise Internal(f"failed to register layer: {os.strerror(error.errno or 0).lower()}") from error
            raise
        with self._guard:
            self._extracted[key] = made
        return key

    def place(self, key: str, diff_id: str, parent: str) -> str:
        chain = chain_ids([parent, diff_id])[1] if parent else diff_id
        with self._guard:
            made = self._extracted.pop(key, None)
        if made is None:
            raise NotFound(f"snapshot {key} does not exist: not found")
        try:
            with self._only_one(chain):
                if parent:
                    made.settle(self._snapshots.upper(key), self._snapshots.layers(parent))
                self._snapshots.commit(chain, key, made.size, parent)
        except Conflict:
            self._snapshots.remove(key)  # the chain has come by another way: the content is the same
        except BaseException as error:
            self._snapshots.remove(key)
            if isinstance(error, OSError):
                raise Internal(f"failed to register layer: {os.strerror(error.errno or 0).lower()}") from error
            raise
        return chain

    def drop(self, key: str) -> None:
        with self._guard:
            if self._extracted.pop(key, None) is None:
                return
        self._snapshots.remove(key)

    def _apply(self, key: str, digest: str, diff_id: str) -> int:
        stack = self._snapshots.layers(key)
        with self._content.open(digest) as blob:
            if digest == diff_id:  # not compressed: the store has verified these bytes
                return apply_layer(blob, stack[0], stack[1:])
            with Readahead(open_compressed(blob)) as ahead:
                size = apply_layer(cast("BinaryIO", ahead), stack[0], stack[1:])
                actual = ahead.digest()
        _check(actual, diff_id)
        return size

    def capture(self, key: str) -> LayerInfo:
        stack = self._snapshots.layers(key)
        with self._content.writer() as writer:
            try:
                size = write_layer(stack[0], stack[1:], cast("BinaryIO", writer))
            except OSError as error:
                raise Internal(f"capture of {key}: {os.strerror(error.errno or 0).lower()}") from error
            blob = writer.commit()
        return LayerInfo(blob.digest, blob.digest, blob.size, size, OCI_LAYER)

    def changes(self, key: str) -> list[tuple[int, str]]:
        stack = self._snapshots.layers(key)
        return [(change.kind, change.path) for change in changes(stack[0], stack[1:])]

    @contextmanager
    def mounted(self, mounts: Sequence[Mount], *, shifted: bool = False) -> Iterator[Path]:
        remap = self._remap if shifted else None
        if remap is not None:
            mounts = remap.shifted(tuple(mounts))
        ids = filesystem_ids(remap.uid, remap.gid) if remap is not None else nullcontext()
        target = self._mounts / secrets.token_hex(6)
        target.mkdir(mode=0o700)
        with ExitStack() as undo:
            undo.callback(target.rmdir)
            with ids:
                for request in mounts:
                    if request.target:
                        _mount_inside(target, request)
                        continue
                    mount.mount(request, target)
                    undo.callback(mount.unmount, target, lazy=True)
            faults.point("layers.mounted")
            yield target


def _mount_inside(root: Path, request: Mount) -> None:
    """A bind mount at a place inside the root, which goes with the root's; its links lead nowhere else.

    Where a directory is to be mounted, its place is made.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if Path(request.source).is_dir():
            place = open_directory(top, request.target.strip("/"), create=True)
        else:
            place = openat2(top, request.target, os.O_PATH)
        try:
            mount.mount_raw(request.source, f"/proc/self/fd/{place}", "", mount.MS_BIND | mount.MS_REC, "")
        finally:
            os.close(place)
    except OSError as error:
        raise Internal(f"cannot mount {request.source} at {request.target}: {error.strerror}") from error
    finally:
        os.close(top)


class Readahead:
    """Reads and hashes (and so decompresses) a stream in a thread of its own, a few chunks ahead of its reader.

    More than `limit` bytes (-1: any number) are refused.
    """

    def __init__(self, stream: BinaryIO, limit: int = -1) -> None:
        self._stream = stream
        self._left = limit
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | Exception] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._rest = b""
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="gantry-readahead")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                data = self._stream.read(_CHUNK)
                self._count(len(data))
                self._hash.update(data)
                self._queue.put(data)
                if not data:
                    return
        except Exception as error:  # noqa: BLE001 - handed to the reader, whose error it is
            self._queue.put(error)

    def read(self, size: int = -1) -> bytes:
        """At least one byte, b"" at the end."""
        if not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, Exception):
                self._ended = True
                raise item
            self._rest = item
            self._ended = not item
        data = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(data) :]
        return data

    def _count(self, size: int) -> None:
        if 0 <= self._left < size:
            raise InvalidArgument("the layer expands to more than its compressed size allows: refused")
        self._left -= size if self._left >= 0 else 0

    def digest(self) -> str:
        """The digest of everything, once `read` has come to the end."""
        self._thread.join()
        return "sha256:" + self._hash.hexdigest()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()


def _check(actual: str, diff_id: str) -> None:
    if actual != diff_id:
        raise InvalidArgument(f"wrong diff id calculated on extraction {actual}, expected {diff_id}")
