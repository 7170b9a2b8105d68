"""Properties of the pure parts: what is kept, what is served, what is read of hostile bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.model.digest import Digest
from gantry.oci.documents import OCI_INDEX, OCI_MANIFEST
from gantry.registry.server import documents, urls
from gantry.registry.server.collect import _Rule, condemned, expired
from gantry.registry.server.depot import ManifestRecord, TagRecord
from gantry.registry.server.documents import Pushed
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.patterns import Patterns
from gantry.registry.server.transfer import byte_range

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
FIELDS = ("schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations", "artifactType", "x")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON | st.just(2) | st.sampled_from([OCI_MANIFEST, OCI_INDEX])))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        pushed = documents.read(json.dumps(document).encode(), "")
    except RegistryError as error:
        assert error.code == "MANIFEST_INVALID"  # noqa: PT017 - both ways are right
    else:
        assert pushed.media_type in (OCI_MANIFEST, OCI_INDEX) or "docker" in pushed.media_type


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RegistryError):
        documents.read(data, OCI_MANIFEST)


@given(st.text(max_size=60), st.integers(0, 1 << 40))
def test_any_range(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            found = byte_range(text, size)
        except RegistryError as error:
            assert error.status == 416  # noqa: PT017
        else:
            assert found is None or (found[1] > 0 and 0 <= found[0] < size and sum(found) <= size)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 500))
def test_ranges_are_those_of_slices(first: int, last: int, size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    if first > last or first >= size:
        return
    found = byte_range(f"bytes={first}-{last}", size)
    assert found is not None
    assert data[found[0] : found[0] + found[1]] == data[first : last + 1]


@given(st.text(max_size=80))
def test_any_path(path: str) -> None:
    for text in (path, "/v2/" + path):
        target = urls.match(text)
        assert target is None or target.kind


def digest(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


@st.composite
def repositories(draw: st.DrawFn) -> tuple[dict[str, ManifestRecord], dict[str, Pushed | None], set[str], set[str]]:
    """Manifests that refer to earlier ones (as children or subjects), some tagged, some useless."""
    count = draw(st.integers(1, 12))
    records: dict[str, ManifestRecord] = {}
    pushed: dict[str, Pushed | None] = {}
    for number in range(count):
        earlier = [digest(each) for each in range(number)]
        children = tuple(draw(st.lists(st.sampled_from(earlier), max_size=3))) if earlier else ()
        subject = draw(st.none() | st.sampled_from(earlier)) if earlier else None
        records[digest(number)] = ManifestRecord(OCI_MANIFEST, 1, 1, str(subject or ""))
        pushed[digest(number)] = Pushed(OCI_MANIFEST, "", (), children, subject, None)
    every = sorted(records)
    tagged = draw(st.sets(st.sampled_from(every)))
    doomed = draw(st.sets(st.sampled_from(every))) - tagged
    return records, pushed, tagged, doomed


@given(repositories())
def test_nothing_that_is_needed_is_condemned(
    repository: tuple[dict[str, ManifestRecord], dict[str, Pushed | None], set[str], set[str]],
) -> None:
    records, pushed, tagged, doomed = repository
    gone = condemned(records, pushed, tagged, doomed, before=10)
    assert not gone & tagged
    for kept in records.keys() - gone:
        document = pushed[kept]
        assert document is not None
        assert not gone & {str(child) for child in document.manifests}, "a child of what stays"
    for each in gone:
        subject = records[each].subject
        assert not subject or subject in gone, "a referrer of what stays"
    if not doomed:
        assert not gone
    assert not condemned(records, pushed, tagged, doomed, before=0) - doomed, "young ones fall with nothing"


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 1000), max_size=20),
    st.integers(0, 5),
    st.integers(0, 500),
)
def test_retention_keeps_the_newest_and_the_young(pushes: dict[str, int], last: int, young: int) -> None:
    tags = {tag: TagRecord("", "", 0, at * 10**9) for tag, at in pushes.items()}
    rule = _Rule(Patterns(["**"]), Patterns(["*"]), last, float(young))
    gone = expired(tags, [rule], 1000 * 10**9)
    kept = tags.keys() - set(gone)
    assert len(kept) >= min(last, len(tags))
    assert all(1000 - pushes[tag] >= young for tag in gone)
    assert all(pushes[tag] <= pushes[other] for tag in gone for other in kept if 1000 - pushes[other] >= young)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("team/*", "team/a", True), ("team/*", "team/a/b", False), ("team/**", "team/a/b", True), ("*", "a/b", False),
        ("**", "a/b", True), ("v?", "v1", True), ("v?", "v12", False), ("a.b", "axb", False), ("[a]", "a", False),
        ("**/**/**x", "a/" * 30, False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, text: str, matches: bool) -> None:
    assert (text in Patterns([pattern])) is matches
    assert text not in Patterns([])
