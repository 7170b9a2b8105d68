"""The OCI distribution specification 1.1, end point by end point, on each storage and through a real socket."""

import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lib.registry_server import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Client,
    bucket_of,
    serving,
    sha256,
)

BLOB = b"a blob of some bytes " * 100
UNKNOWN = "sha256:" + "0" * 64


@pytest.fixture
async def registry(storage: str) -> AsyncIterator[Client]:
    async with serving(f"version: 0.1\n{storage}\n") as client:
        yield client


@pytest.fixture
async def on_files(files: str) -> AsyncIterator[Client]:
    async with serving(f"version: 0.1\n{files}\n") as client:
        yield client


# ------------------------------------------------------------------------------------------ end-1


async def test_end_1_base(registry: Client) -> None:
    answer = await registry("GET", "/v2/")
    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert (await registry("HEAD", "/v2/")).status == 200


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2/a", "/v2/a/b/", "/v2/a/tags", "/v2/a/blobs/", "/v2//tags/list"])
async def test_other_paths_are_none_of_the_protocol(on_files: Client, path: str) -> None:
    assert (await on_files("GET", path)).status in (400, 404)


# ---------------------------------------------------------------------------------- pull: end-2, end-3


async def test_end_2_blob(registry: Client) -> None:
    await registry.push_blob("a/b", BLOB)
    path = f"/v2/a/b/blobs/{sha256(BLOB)}"
    got, head = await registry("GET", path), await registry("HEAD", path)
    assert got.status == head.status == 200
    assert got.body == BLOB
    assert head.headers["Content-Length"] == str(len(BLOB))
    for answer in (got, head):
        assert answer.headers["Docker-Content-Digest"] == sha256(BLOB)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_end_2_unknown_blob(registry: Client, method: str) -> None:
    await registry.push_blob("a/b", BLOB)
    for path in (f"/v2/a/b/blobs/{UNKNOWN}", f"/v2/other/blobs/{sha256(BLOB)}"):
        answer = await registry(method, path)
        assert answer.status == 404
        assert method == "HEAD" or answer.code == "BLOB_UNKNOWN"


@pytest.mark.parametrize(
    ("header", "status", "part", "content_range"),
    [
        ("bytes=0-9", 206, BLOB[:10], f"bytes 0-9/{len(BLOB)}"),
        ("bytes=100-", 206, BLOB[100:], f"bytes 100-{len(BLOB) - 1}/{len(BLOB)}"),
        ("bytes=-7", 206, BLOB[-7:], f"bytes {len(BLOB) - 7}-{len(BLOB) - 1}/{len(BLOB)}"),
        ("bytes=10-999999", 206, BLOB[10:], f"bytes 10-{len(BLOB) - 1}/{len(BLOB)}"),
        ("bytes=-999999", 206, BLOB, f"bytes 0-{len(BLOB) - 1}/{len(BLOB)}"),
        (f"bytes={len(BLOB)}-", 416, None, f"bytes */{len(BLOB)}"),
        ("bytes=-0", 416, None, f"bytes */{len(BLOB)}"),
        ("bytes=9-3", 200, BLOB, None),
        ("bytes=0-1,4-5", 200, BLOB, None),
        ("lines=1-2", 200, BLOB, None),
    ],
)
async def test_end_2_range(
    registry: Client, header: str, status: int, part: bytes | None, content_range: str | None
) -> None:
    await registry.push_blob("a", BLOB)
    answer = await registry("GET", f"/v2/a/blobs/{sha256(BLOB)}", headers={"Range": header})
    assert answer.status == status
    assert answer.headers.get("Content-Range") == content_range
    assert part is None or answer.body == part


async def test_end_2_conditions(registry: Client) -> None:
    await registry.push_blob("a", BLOB)
    path = f"/v2/a/blobs/{sha256(BLOB)}"
    etag = (await registry("HEAD", path)).headers["ETag"]
    assert (await registry("GET", path, headers={"If-None-Match": etag})).status == 304
    assert (await registry("GET", path, headers={"Range": "bytes=0-0", "If-Range": etag})).status == 206
    assert (await registry("GET", path, headers={"Range": "bytes=0-0", "If-Range": '"other"'})).status == 200


async def test_end_3_manifest_by_tag_and_digest(registry: Client) -> None:
    digest, data = await registry.push_image("a/b", "v1", BLOB)
    for reference in ("v1", digest):
        for method in ("GET", "HEAD"):
            answer = await registry(method, f"/v2/a/b/manifests/{reference}")
            assert answer.status == 200
            assert answer.headers["Docker-Content-Digest"] == digest
            assert answer.headers["Content-Type"] == OCI_MANIFEST
            assert answer.headers["Content-Length"] == str(len(data))
            assert answer.body == (data if method == "GET" else b"")
    etag = answer.headers["ETag"]
    assert (await registry("GET", "/v2/a/b/manifests/v1", headers={"If-None-Match": etag})).status == 304


async def test_end_3_unknown(registry: Client) -> None:
    await registry.push_image("a", "v1", BLOB)
    for reference in ("v2", UNKNOWN):
        answer = await registry("GET", f"/v2/a/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        assert (await registry("HEAD", f"/v2/a/manifests/{reference}")).status == 404
    answer = await registry("GET", "/v2/nobody/manifests/v1")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


# ----------------------------------------------------------------------- push: end-4a, 4b, 5, 6, 7, 11, 13


async def test_end_4a_and_6_post_then_put(registry: Client) -> None:
    start = await registry("POST", "/v2/a/blobs/uploads/")
    assert start.status == 202
    location = registry.under(start.headers["Location"])
    done = await registry("PUT", f"{location}?digest={sha256(BLOB)}", BLOB)
    assert done.status == 201
    assert done.headers["Docker-Content-Digest"] == sha256(BLOB)
    assert (await registry("GET", done.headers["Location"])).body == BLOB
    gone = await registry("GET", location)
    assert (gone.status, gone.code) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_end_4b_single_post(registry: Client) -> None:
    done = await registry("POST", f"/v2/a/blobs/uploads/?digest={sha256(BLOB)}", BLOB)
    assert done.status == 201
    assert (await registry("GET", done.headers["Location"])).body == BLOB
    wrong = await registry("POST", f"/v2/a/blobs/uploads/?digest={UNKNOWN}", BLOB)
    assert (wrong.status, wrong.code) == (400, "DIGEST_INVALID")


async def test_end_5_chunks_in_order(registry: Client) -> None:
    location = registry.under((await registry("POST", "/v2/a/blobs/uploads/")).headers["Location"])
    parts = [BLOB[:700], BLOB[700:1500], BLOB[1500:]]
    at = 0
    for part in parts[:2]:
        headers = {"Content-Range": f"{at}-{at + len(part) - 1}", "Content-Type": "application/octet-stream"}
        answer = await registry("PATCH", location, part, headers=headers)
        at += len(part)
        assert answer.status == 202
        assert answer.headers["Range"] == f"0-{at - 1}"
        location = registry.under(answer.headers["Location"])
    status = await registry("GET", location)  # end-13
    assert (status.status, status.headers["Range"]) == (204, f"0-{at - 1}")
    headers = {"Content-Range": f"{at}-{len(BLOB) - 1}"}
    done = await registry("PUT", f"{location}?digest={sha256(BLOB)}", parts[2], headers=headers)
    assert done.status == 201
    assert (await registry("GET", done.headers["Location"])).body == BLOB


async def test_end_5_chunk_out_of_order_is_416_and_changes_nothing(registry: Client) -> None:
    location = registry.under((await registry("POST", "/v2/a/blobs/uploads/")).headers["Location"])
    first = await registry("PATCH", location, BLOB[:10], headers={"Content-Range": "0-9"})
    assert first.status == 202
    for wrong in ("20-29", "0-9", "5-14"):
        answer = await registry("PATCH", location, BLOB[:10], headers={"Content-Range": wrong})
        assert answer.status == 416
        assert answer.headers["Range"] == "0-9"
        assert answer.headers["Location"]
    assert (await registry("GET", location)).headers["Range"] == "0-9"


@pytest.mark.parametrize(
    ("header", "data", "code"),
    [("0-9", b"x" * 5, "SIZE_INVALID"), ("0-2", b"x" * 9, "SIZE_INVALID"), ("nonsense", b"x", "RANGE_INVALID"),
     ("5-2", b"x", "RANGE_INVALID"), ("0-" + "9" * 30, b"x", "RANGE_INVALID")],
)  # fmt: skip
async def test_end_5_content_range_that_lies(on_files: Client, header: str, data: bytes, code: str) -> None:
    location = on_files.under((await on_files("POST", "/v2/a/blobs/uploads/")).headers["Location"])
    answer = await on_files("PATCH", location, data, headers={"Content-Range": header})
    assert answer.status in (400, 416)
    assert answer.code == code
    assert (await on_files("GET", location)).headers["Range"] == "0-0"


async def test_end_5_one_stream_without_range(registry: Client) -> None:
    """What docker does: one PATCH of chunked encoding, then an empty PUT."""

    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(BLOB), 100):
            yield BLOB[at : at + 100]

    location = registry.under((await registry("POST", "/v2/a/blobs/uploads/")).headers["Location"])
    patched = await registry("PATCH", location, stream())
    assert (patched.status, patched.headers["Range"]) == (202, f"0-{len(BLOB) - 1}")
    done = await registry("PUT", f"{registry.under(patched.headers['Location'])}?digest={sha256(BLOB)}")
    assert done.status == 201


async def test_end_6_wrong_digest_publishes_nothing(registry: Client) -> None:
    location = registry.under((await registry("POST", "/v2/a/blobs/uploads/")).headers["Location"])
    answer = await registry("PUT", f"{location}?digest={UNKNOWN}", BLOB)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    for digest in (UNKNOWN, sha256(BLOB)):
        assert (await registry("HEAD", f"/v2/a/blobs/{digest}")).status == 404
    for text in ("", "sha256:12", "md5:" + "0" * 32, "../../etc/passwd"):
        location = registry.under((await registry("POST", "/v2/a/blobs/uploads/")).headers["Location"])
        answer = await registry("PUT", location, BLOB, params={"digest": text})
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_uploads_are_of_their_repository(registry: Client) -> None:
    location = registry.under((await registry("POST", "/v2/a/blobs/uploads/")).headers["Location"])
    for other in (location.replace("/v2/a/", "/v2/b/"), location[:-5] + "00000", location + "/../x"):
        assert (await registry("PATCH", other, b"x")).status == 404
    assert (await registry("DELETE", location)).status == 204
    assert (await registry("PATCH", location, b"x")).code == "BLOB_UPLOAD_UNKNOWN"


async def test_sha512(registry: Client) -> None:
    digest = "sha512:" + hashlib.sha512(BLOB).hexdigest()
    done = await registry("POST", f"/v2/a/blobs/uploads/?digest={digest}", BLOB)
    assert done.status == 201
    assert (await registry("GET", f"/v2/a/blobs/{digest}")).body == BLOB
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    digest = "sha512:" + hashlib.sha512(manifest).hexdigest()
    assert (await registry.push_manifest("a", digest, manifest, OCI_INDEX)).headers["Docker-Content-Digest"] == digest
    assert (await registry("GET", f"/v2/a/manifests/{digest}")).body == manifest


async def test_end_7_manifest(registry: Client) -> None:
    digest, data = await registry.push_image("a", "v1", BLOB)
    again = await registry.push_manifest("a", "v1", data)
    assert again.status == 201
    assert again.headers["Docker-Content-Digest"] == digest
    assert (await registry("GET", again.headers["Location"])).body == data
    other = await registry.push_manifest("a", UNKNOWN, data)
    assert (other.status, other.code) == (400, "DIGEST_INVALID")


def image(**changes: Any) -> bytes:
    empty = {"mediaType": OCI_CONFIG, "digest": sha256(b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": empty, "layers": [], **changes}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


LAYER = {"mediaType": OCI_LAYER, "digest": sha256(b"{}"), "size": 2}


@pytest.mark.parametrize(
    ("data", "kind", "code", "word"),
    [
        (b"", OCI_MANIFEST, "MANIFEST_INVALID", ""),
        (b"{", OCI_MANIFEST, "MANIFEST_INVALID", ""),
        (b"\xff\xfe", OCI_MANIFEST, "MANIFEST_INVALID", ""),
        (b"[]", OCI_MANIFEST, "MANIFEST_INVALID", "object"),
        (b"[" * 100_000, OCI_MANIFEST, "MANIFEST_INVALID", ""),
        (b'{"x":' * 100_000, OCI_MANIFEST, "MANIFEST_INVALID", ""),
        (image(schemaVersion=1), OCI_MANIFEST, "MANIFEST_INVALID", "version 1"),
        (image(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "MANIFEST_INVALID", "schema 1"),
        (image(), OCI_INDEX, "MANIFEST_INVALID", OCI_INDEX),
        (image(mediaType="text/html"), "text/html", "MANIFEST_INVALID", "text/html"),
        (image(config=None), OCI_MANIFEST, "MANIFEST_INVALID", "config"),
        (image(layers=None), OCI_MANIFEST, "MANIFEST_INVALID", "layers"),
        (image(manifests=[]), OCI_MANIFEST, "MANIFEST_INVALID", "manifests"),
        (image(mediaType=OCI_INDEX, manifests=[]), OCI_INDEX, "MANIFEST_INVALID", "config"),
        (image(layers=[{**LAYER, "digest": "sha256:../../x"}]), OCI_MANIFEST, "MANIFEST_INVALID", "digest"),
        (image(layers=[{**LAYER, "size": -1}]), OCI_MANIFEST, "MANIFEST_INVALID", "size"),
        (image(layers=[{**LAYER, "urls": ["file:///etc/passwd"]}]), OCI_MANIFEST, "MANIFEST_INVALID", "URL"),
        (image(layers=[LAYER] * 5000), OCI_MANIFEST, "MANIFEST_INVALID", "at most"),
        (image(config={**LAYER, "digest": UNKNOWN}), OCI_MANIFEST, "MANIFEST_BLOB_UNKNOWN", UNKNOWN),
        (image(layers=[{**LAYER, "digest": UNKNOWN}]), OCI_MANIFEST, "MANIFEST_BLOB_UNKNOWN", UNKNOWN),
        (
            image(mediaType=OCI_INDEX, config=None, layers=None, manifests=[{**LAYER, "digest": UNKNOWN}]),
            OCI_INDEX, "MANIFEST_BLOB_UNKNOWN", UNKNOWN,
        ),
    ],
)  # fmt: skip
async def test_end_7_refuses(on_files: Client, data: bytes, kind: str, code: str, word: str) -> None:
    await on_files.push_blob("a", b"{}")
    answer = await on_files.push_manifest("a", "v1", data, kind)
    assert answer.status in (400, 404)
    assert answer.code == code
    assert word in answer.body.decode()
    assert (await on_files("GET", "/v2/a/manifests/v1")).status == 404


async def test_end_7_manifest_over_4_mb_is_413(registry: Client) -> None:
    await registry.push_blob("a", b"{}")
    large = image(annotations={"x": "y" * (4 << 20)})
    assert (await registry.push_manifest("a", "v1", large)).status == 413

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b" " * (1 << 20)

    answer = await registry("PUT", "/v2/a/manifests/v1", stream(), headers={"Content-Type": OCI_MANIFEST})
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


async def test_end_7_docker_schema_2_and_lists(registry: Client) -> None:
    await registry.push_blob("a", b"{}")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = image(mediaType=kind)
    assert (await registry.push_manifest("a", "v1", manifest, kind)).status == 201
    assert (await registry("GET", "/v2/a/manifests/v1")).headers["Content-Type"] == kind
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    entry = {"mediaType": "x/y", "digest": sha256(manifest), "size": len(manifest)}
    listing = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
    assert (await registry.push_manifest("a", "list", listing, kind)).status == 201
    assert (await registry("GET", "/v2/a/manifests/list")).headers["Content-Type"] == kind


async def test_end_11_mount(registry: Client) -> None:
    await registry.push_blob("a", BLOB)
    mounted = await registry("POST", f"/v2/b/blobs/uploads/?mount={sha256(BLOB)}&from=a")
    assert mounted.status == 201
    assert mounted.headers["Docker-Content-Digest"] == sha256(BLOB)
    assert (await registry("GET", mounted.headers["Location"])).body == BLOB
    for query in (f"mount={UNKNOWN}&from=a", f"mount={sha256(BLOB)}&from=nobody", f"mount={sha256(BLOB)}"):
        fallback = await registry("POST", f"/v2/c/blobs/uploads/?{query}")
        assert fallback.status == 202
        assert fallback.headers["Location"]
    assert (await registry("HEAD", f"/v2/c/blobs/{sha256(BLOB)}")).status == 404


# ------------------------------------------------------------------------ discovery: end-8a, 8b, 12a, 12b


async def test_end_8_tags(registry: Client) -> None:
    for tag in ("v2", "v10", "latest", "V1"):
        await registry.push_image("a", tag, BLOB)
    answer = await registry("GET", "/v2/a/tags/list")
    assert answer.json == {"name": "a", "tags": ["V1", "latest", "v10", "v2"]}
    page = await registry("GET", "/v2/a/tags/list?n=2")
    assert page.json["tags"] == ["V1", "latest"]
    link, _, rel = page.headers["Link"].partition(">; ")
    assert rel == 'rel="next"'
    rest = await registry("GET", link.lstrip("<"))
    assert rest.json["tags"] == ["v10", "v2"]
    assert "Link" not in rest.headers
    assert (await registry("GET", "/v2/a/tags/list?last=latest")).json["tags"] == ["v10", "v2"]
    assert (await registry("GET", "/v2/a/tags/list?n=0")).json["tags"] == []
    for wrong in ("-1", "x", "1e3", "9" * 40):
        answer = await registry("GET", f"/v2/a/tags/list?n={wrong}")
        assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")
    assert (await registry("GET", "/v2/nobody/tags/list")).code == "NAME_UNKNOWN"


async def test_catalog_is_paged_and_bounded(storage: str) -> None:
    names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "b"]
    async with serving(f"version: 0.1\n{storage}\ncatalog: {{maxentries: 3}}\n") as registry:
        for name in names:
            await registry.push_image(name, "v1", BLOB)
        assert (await registry("GET", "/v2/_catalog?n=999999999")).json["repositories"] == sorted(names)[:3]
        found, path = [], "/v2/_catalog?n=2"
        while path:
            page = await registry("GET", path)
            found += page.json["repositories"]
            path = page.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert found == sorted(names)
        assert (await registry("GET", "/v2/_catalog?n=-5")).code == "PAGINATION_NUMBER_INVALID"


async def test_end_12_referrers(registry: Client) -> None:
    subject, data = await registry.push_image("a", "v1", BLOB)
    described = {"mediaType": OCI_MANIFEST, "digest": subject, "size": len(data)}
    empty = await registry("GET", f"/v2/a/referrers/{subject}")
    assert (empty.status, empty.json["manifests"]) == (200, [])
    assert empty.headers["Content-Type"] == OCI_INDEX
    await registry.push_blob("a", b"{}")
    first = image(artifactType="test/one", subject=described, annotations={"k": "v"})
    pushed = await registry.push_manifest("a", sha256(first), first)
    assert pushed.headers["OCI-Subject"] == subject
    second = image(config={**LAYER, "mediaType": "test/two"}, subject=described)
    await registry.push_manifest("a", "tagged", second)
    third = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "artifactType": "test/one", "manifests": [], "subject": described}
    ).encode()
    await registry.push_manifest("a", sha256(third), third, OCI_INDEX)
    answer = (await registry("GET", f"/v2/a/referrers/{subject}")).json
    assert (answer["schemaVersion"], answer["mediaType"]) == (2, OCI_INDEX)
    found = {each["digest"]: each for each in answer["manifests"]}
    assert found[sha256(first)] == {
        "mediaType": OCI_MANIFEST, "digest": sha256(first), "size": len(first), "artifactType": "test/one",
        "annotations": {"k": "v"},
    }  # fmt: skip
    assert found[sha256(second)]["artifactType"] == "test/two"
    assert found[sha256(third)]["mediaType"] == OCI_INDEX
    filtered = await registry("GET", f"/v2/a/referrers/{subject}?artifactType=test/two")
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert [each["digest"] for each in filtered.json["manifests"]] == [sha256(second)]
    await registry("DELETE", f"/v2/a/manifests/{sha256(first)}")
    left = (await registry("GET", f"/v2/a/referrers/{subject}")).json["manifests"]
    assert {each["digest"] for each in left} == {sha256(second), sha256(third)}
    assert (await registry("GET", "/v2/a/referrers/sha256:12")).status == 400
    assert (await registry("GET", f"/v2/a/referrers/{UNKNOWN}")).json["manifests"] == []


async def test_end_12_subject_may_come_later(registry: Client) -> None:
    await registry.push_blob("a", b"{}")
    subject = image()
    described = {"mediaType": OCI_MANIFEST, "digest": sha256(subject), "size": len(subject)}
    referrer = image(artifactType="x/y", subject=described)
    assert (await registry.push_manifest("a", sha256(referrer), referrer)).status == 201
    found = (await registry("GET", f"/v2/a/referrers/{sha256(subject)}")).json["manifests"]
    assert [each["digest"] for each in found] == [sha256(referrer)]


async def test_referrers_fallback_tag_is_an_ordinary_tag(registry: Client) -> None:
    """A client that does not know the referrers API keeps an index under the tag `sha256-<hex>`."""
    subject, _ = await registry.push_image("a", "v1", BLOB)
    referrer, data = await registry.push_image("a", "", b"signature")
    entry = {"mediaType": OCI_MANIFEST, "digest": referrer, "size": len(data), "artifactType": "x/y"}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    tag = subject.replace(":", "-")
    assert (await registry.push_manifest("a", tag, index, OCI_INDEX)).status == 201
    assert (await registry("GET", f"/v2/a/manifests/{tag}")).body == index


# ---------------------------------------------------------------------------- management: end-9, end-10


async def test_end_9_delete_tag_and_manifest(registry: Client) -> None:
    digest, _ = await registry.push_image("a", "v1", BLOB)
    await registry.push_image("a", "v2", BLOB)
    assert (await registry("DELETE", "/v2/a/manifests/v1")).status == 202
    assert (await registry("GET", "/v2/a/tags/list")).json["tags"] == ["v2"]
    assert (await registry("GET", f"/v2/a/manifests/{digest}")).status == 200
    assert (await registry("DELETE", "/v2/a/manifests/v1")).status == 404
    assert (await registry("DELETE", f"/v2/a/manifests/{digest}")).status == 202
    for reference in (digest, "v2"):
        assert (await registry("GET", f"/v2/a/manifests/{reference}")).code == "MANIFEST_UNKNOWN"
    assert (await registry("GET", "/v2/a/tags/list")).json["tags"] == []
    assert (await registry("DELETE", f"/v2/a/manifests/{digest}")).code == "MANIFEST_UNKNOWN"


async def test_end_10_delete_blob_is_of_one_repository(registry: Client) -> None:
    for name in ("a", "b"):
        await registry.push_blob(name, BLOB)
    assert (await registry("DELETE", f"/v2/a/blobs/{sha256(BLOB)}")).status == 202
    assert (await registry("GET", f"/v2/a/blobs/{sha256(BLOB)}")).status == 404
    assert (await registry("GET", f"/v2/b/blobs/{sha256(BLOB)}")).body == BLOB
    assert (await registry("DELETE", f"/v2/a/blobs/{sha256(BLOB)}")).code == "BLOB_UNKNOWN"


async def test_deletion_can_be_off(storage: str) -> None:
    off = storage.replace("enabled: true", "enabled: false")
    async with serving(f"version: 0.1\n{off}\n") as registry:
        digest, _ = await registry.push_image("a", "v1", BLOB)
        for path in (f"manifests/{digest}", "manifests/v1", f"blobs/{sha256(BLOB)}", "_gantry/repository"):
            answer = await registry("DELETE", f"/v2/a/{path}")
            assert (answer.status, answer.code) == (405, "UNSUPPORTED")


async def test_repository_deletion(registry: Client) -> None:
    for name in ("a", "a/b"):
        await registry.push_image(name, "v1", BLOB)
    assert (await registry("DELETE", "/v2/a/_gantry/repository")).status == 202
    assert (await registry("GET", "/v2/a/tags/list")).code == "NAME_UNKNOWN"
    assert (await registry("GET", f"/v2/a/blobs/{sha256(BLOB)}")).status == 404
    assert (await registry("GET", "/v2/a/b/manifests/v1")).status == 200
    assert (await registry("GET", "/v2/_catalog")).json["repositories"] == ["a/b"]


# ------------------------------------------------------------------------------- names, methods, restart


@pytest.mark.parametrize(
    "name", ["A", "a//b", "-a", "a-", "a/../b", "a/.b", "_a", "a/_manifests", "a" * 256, "a%2f..%2fb", "a%00b", "ä"]
)
async def test_names_outside_the_grammar(on_files: Client, name: str) -> None:
    for method, path in (("GET", "tags/list"), ("POST", "blobs/uploads/"), ("GET", f"blobs/{UNKNOWN}")):
        answer = await on_files(method, f"/v2/{name}/{path}")
        assert answer.status in (400, 404)
        assert answer.code in ("NAME_INVALID", "NAME_UNKNOWN", "BLOB_UNKNOWN", "UNSUPPORTED")


@pytest.mark.parametrize("tag", [".a", "-a", "a" * 129, "a b", "ä", "a%2fb"])
async def test_tags_outside_the_grammar(on_files: Client, tag: str) -> None:
    await on_files.push_blob("a", b"{}")
    assert (await on_files.push_manifest("a", tag, image())).status in (400, 404)
    assert (await on_files("GET", f"/v2/a/manifests/{tag}")).status in (400, 404)


async def test_methods_that_are_none(registry: Client) -> None:
    answer = await registry("POST", "/v2/a/manifests/v1")
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert "PUT" in answer.headers["Allow"]


async def test_everything_survives_a_restart(storage: str) -> None:
    async with serving(f"version: 0.1\n{storage}\n") as registry:
        digest, data = await registry.push_image("a", "v1", BLOB)
        location = (await registry("POST", "/v2/a/blobs/uploads/")).headers["Location"]
        path = "/" + location.split("/", 3)[3]
        large = os.urandom(100_000)
        assert (await registry("PATCH", path, large[:60_000])).status == 202
    async with serving(f"version: 0.1\n{storage}\n") as registry:
        assert (await registry("GET", "/v2/a/manifests/v1")).body == data
        assert (await registry("GET", path)).headers["Range"] == "0-59999"
        headers = {"Content-Range": "60000-99999"}
        done = await registry("PUT", f"{path}?digest={sha256(large)}", large[60_000:], headers=headers)
        assert done.status == 201
        assert (await registry("GET", f"/v2/a/blobs/{sha256(large)}")).body == large
        assert (await registry("HEAD", f"/v2/a/manifests/{digest}")).status == 200


async def test_an_object_store_may_serve_blobs_itself(s3_endpoint: str, tmp_path: Path) -> None:
    section = bucket_of(s3_endpoint, tmp_path, redirect=True)
    async with serving(f"version: 0.1\n{section}\n") as client:
        await client.push_blob("a", BLOB)
        answer = await client("GET", f"/v2/a/blobs/{sha256(BLOB)}")
        assert answer.status == 307
        assert answer.headers["Location"].startswith(s3_endpoint)
        assert (await client("GET", answer.headers["Location"])).body == BLOB
        assert (await client("HEAD", f"/v2/a/blobs/{sha256(BLOB)}")).status == 200


async def test_a_large_blob_goes_to_an_object_store_in_parts(s3_endpoint: str, tmp_path: Path) -> None:
    large = os.urandom(12 << 20)
    async with serving(f"version: 0.1\n{bucket_of(s3_endpoint, tmp_path)}\n") as client:
        await client.push_blob("a", large)
        assert (await client("GET", f"/v2/a/blobs/{sha256(large)}")).body == large
        part = await client("GET", f"/v2/a/blobs/{sha256(large)}", headers={"Range": "bytes=7000000-7000009"})
        assert part.body == large[7000000:7000010]
        assert not list((tmp_path / "uploads").iterdir())
