"""What every ContentStore must do."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gantry.errors import Conflict, InvalidArgument, NotFound
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


# ----------------------------------------------------------------------------------- blobs in pieces

DATA = bytes(range(256)) * 4096


def test_pieces_in_any_order_make_a_blob(store: ContentStore) -> None:
    digest = sha256(DATA)
    partial = store.partial(digest, len(DATA))
    assert partial.missing() == [(0, len(DATA))]
    partial.write(700_000, [DATA[700_000:]])
    partial.write(0, [DATA[:1000], DATA[1000:5000]])
    assert partial.missing() == [(5000, 700_000)]
    with pytest.raises(NotFound):
        store.stat(digest)
    partial.write(5000, [DATA[5000:700_000]])
    assert partial.missing() == []
    assert partial.commit().size == len(DATA)
    assert store.read(digest, len(DATA)) == DATA


def test_what_has_come_is_kept_by_a_new_store(make: Make, tmp_path: Path) -> None:
    digest = sha256(DATA)
    partial = make(tmp_path / "content").partial(digest, len(DATA))
    partial.write(100, [DATA[100:900]])
    partial.close()
    store = make(tmp_path / "content")
    again = store.partial(digest, len(DATA))
    assert (again.resumed, again.missing()) == (800, [(0, 100), (900, len(DATA))])
    with pytest.raises(Conflict):
        store.partial(digest, len(DATA))
    again.close()
    assert store.forget_partials(older=3600 * 10**9) == 0
    assert store.forget_partials({sha256(b"another")}) == 0
    assert store.forget_partials() > 0
    assert store.partial(digest, len(DATA)).resumed == 0


def test_a_follower_reads_behind_the_writer(store: ContentStore) -> None:
    partial = store.partial(sha256(DATA), len(DATA))
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(partial.follow().read()))
    thread.start()
    for at in range(0, len(DATA), 100_000):
        partial.write(at, [DATA[at : at + 100_000]])
    thread.join(10)
    assert read == [DATA]
    partial.commit()


def test_a_follower_hears_of_the_end(store: ContentStore) -> None:
    partial = store.partial(sha256(DATA), len(DATA))
    found: list[BaseException] = []

    def follow() -> None:
        try:
            partial.follow().read()
        except NotFound as error:
            found.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    partial.write(0, [DATA[:10]])
    partial.fail(NotFound("gone"))
    thread.join(10)
    assert [str(error) for error in found] == ["gone"]
    partial.discard()
    assert store.forget_partials() == 0


def test_wrong_bytes_never_become_a_blob(store: ContentStore) -> None:
    partial = store.partial(sha256(DATA), len(DATA))
    with pytest.raises(InvalidArgument, match="more than the announced"):
        partial.write(len(DATA) - 1, [b"xx"])
    partial.write(0, [bytes(len(DATA))])
    with pytest.raises(InvalidArgument, match="verification failed"):
        partial.follow().read()
    with pytest.raises(InvalidArgument, match="verification failed"):
        partial.commit()
    partial.discard()
    with pytest.raises(NotFound):
        store.stat(sha256(DATA))
    empty = store.partial(sha256(b""), 0)
    assert empty.missing() == []
    assert empty.commit().size == 0
