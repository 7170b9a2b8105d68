"""What every ContentStore must do."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gantry.errors import InvalidArgument, NotFound
from gantry.ports import ContentStore
from gantry.store.content import BlobStore
from lib.archives import sha256

Make = Callable[[Path], ContentStore]


@pytest.fixture(params=[BlobStore], ids=["disk"])
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


@pytest.fixture
def store(make: Make, tmp_path: Path) -> ContentStore:
    return make(tmp_path / "content")


def put(store: ContentStore, data: bytes) -> str:
    with store.writer() as writer:
        writer.write(data)
        return writer.commit().digest


def test_a_blob_comes_back_under_its_digest(store: ContentStore) -> None:
    digest = put(store, b"hello")
    assert digest == sha256(b"hello")
    assert store.read(digest, 5) == b"hello"
    with store.open(digest) as blob:
        assert blob.read() == b"hello"
    assert store.stat(digest).size == 5
    assert [info.digest for info in store.walk()] == [digest]


def test_a_blob_is_written_in_pieces(store: ContentStore) -> None:
    with store.writer() as writer:
        for piece in (b"a" * 70_000, memoryview(b"b" * 3), b""):
            writer.write(piece)
        info = writer.commit(sha256(b"a" * 70_000 + b"bbb"), 70_003)
    assert info.size == 70_003


def test_what_is_missing_is_not_found(store: ContentStore) -> None:
    missing = sha256(b"missing")
    for ask in (store.open, store.stat, lambda digest: store.read(digest, 10)):
        with pytest.raises(NotFound, match=missing):
            ask(missing)
    store.delete(missing)


def test_a_blob_larger_than_the_limit_is_refused(store: ContentStore) -> None:
    digest = put(store, b"12345")
    with pytest.raises(InvalidArgument, match="larger than 4 bytes"):
        store.read(digest, 4)


@pytest.mark.parametrize(("digest", "size"), [(sha256(b"other"), -1), ("", 4), (sha256(b"12345"), 6)])
def test_a_wrong_digest_or_size_publishes_nothing(store: ContentStore, digest: str, size: int) -> None:
    with store.writer() as writer:
        writer.write(b"12345")
        with pytest.raises(InvalidArgument, match="unexpected commit"):
            writer.commit(digest, size)
    assert list(store.walk()) == []


def test_leaving_the_block_without_commit_discards(store: ContentStore, make: Make, tmp_path: Path) -> None:
    def fail() -> None:
        with store.writer() as writer:
            writer.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(store.walk()) == []
    assert not [path for path in (tmp_path / "content").rglob("*") if path.is_file() and path.read_bytes() == b"half"]


def test_delete(store: ContentStore) -> None:
    digest = put(store, b"x")
    store.delete(digest)
    store.delete(digest)
    with pytest.raises(NotFound):
        store.stat(digest)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:abc"])
def test_what_is_no_digest_is_refused(store: ContentStore, digest: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid digest"):
        store.stat(digest)


def test_the_same_blob_from_many_threads(store: ContentStore) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(put(store, b"same" * 1000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sha256(b"same" * 1000)] * 8
    assert len(list(store.walk())) == 1


def test_a_new_store_keeps_blobs_and_drops_unfinished_writes(store: ContentStore, make: Make, tmp_path: Path) -> None:
    digest = put(store, b"kept")
    writer = store.writer()
    writer.__enter__()
    writer.write(b"never committed")
    again = make(tmp_path / "content")
    assert again.read(digest, 10) == b"kept"
    assert not any(b"never" in path.read_bytes() for path in (tmp_path / "content").rglob("*") if path.is_file())
    writer.__exit__(None, None, None)


def test_the_layout_is_an_oci_image_layout(store: ContentStore, tmp_path: Path) -> None:
    digest = put(store, b"blob")
    store.publish_index(b'{"schemaVersion":2,"manifests":[]}')
    root = tmp_path / "content"
    assert (root / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    assert (root / "index.json").read_bytes() == b'{"schemaVersion":2,"manifests":[]}'
    assert (root / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes() == b"blob"
