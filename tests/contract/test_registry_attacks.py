"""What a hostile client may try: paths that leave, heads that never end, bodies that lie, clients that sleep."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lib.registry_server import OCI_MANIFEST, Client, serving, sha256

BLOB = b"x" * 100_000
QUICK = "gantry: {limits: {idle: 300ms, header: 500ms}}"


@pytest.fixture
async def client(files: str) -> AsyncIterator[Client]:
    async with serving(f"version: 0.1\n{files}\n{QUICK}\n") as found:
        await found.push_blob("a", BLOB)
        yield found


async def raw(client: Client, data: bytes, *, wait: float = 10) -> bytes:
    """Send bytes as they are; what comes until the server closes or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
    found: list[bytes] = []
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(wait):
            while data := await reader.read(1 << 16):
                found.append(data)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return b"".join(found)


async def has(client: Client, location: str, size: int) -> None:
    """Wait until an upload has that many bytes."""
    async with asyncio.timeout(10):
        while (await client("GET", location)).headers["Range"] != f"0-{size - 1}":
            await asyncio.sleep(0.02)


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd", "/v2/a/../../../etc/manifests/passwd", "/v2/a/manifests/..", "/v2/a/manifests/.new",
        "/v2/a/blobs/..%2f..%2f..%2fetc%2fpasswd", "/v2/a/blobs/sha256:..%2f..%2f" + "0" * 52,
        "/v2/a/blobs/uploads/..%2f..%2foci-layout", "/v2/a/blobs/uploads/" + "../" * 5 + "etc/passwd",
        "/v2/%2e%2e/%2e%2e/manifests/x", "/v2/a%00/manifests/x", "/v2/a\\..\\b/manifests/x", "/v2/.new/manifests/x",
        "/v2/_manifests/manifests/x", "/v2/a/_blobs/manifests/x", "/v2/a/tags/list/../../x", "//etc/passwd", "/v2//",
        "/v2/a/referrers/sha256:" + "Z" * 64,
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "POST"])
async def test_no_path_leaves(client: Client, tmp_path: Path, method: str, path: str) -> None:
    before = names(tmp_path)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answer = await raw(client, head.encode())
    assert answer.split()[1] in (b"400", b"404", b"405"), answer
    assert b"root:" not in answer
    assert b"imageLayoutVersion" not in answer
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
        b"GET /v2/?" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"".join(b"H%d: x\r\n" % i for i in range(5000)) + b"\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200),
    ],
    ids=["header", "line", "headers", "smuggling", "negative", "chunk", "tls"],
)
async def test_malformed_requests_are_refused(client: Client, data: bytes) -> None:
    answer = await raw(client, data)
    assert answer == b"" or answer.split()[1] == b"400", answer[:200]
    assert (await client("GET", "/v2/")).status == 200


async def test_a_client_that_never_ends_its_request_is_let_go(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
    writer.write(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_an_upload_that_falls_silent_keeps_what_came(client: Client) -> None:
    location = (await client("POST", "/v2/a/blobs/uploads/")).headers["Location"]
    path = "/" + location.split("/", 3)[3]
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    answer = await raw(client, head.encode() + b"y" * 5000)
    assert b" 400 " in answer.split(b"\r\n")[0]
    status = await client("GET", location)
    assert status.headers["Range"] == "0-4999"


async def test_a_connection_cut_in_a_chunk_keeps_what_came(client: Client) -> None:
    location = (await client("POST", "/v2/a/blobs/uploads/")).headers["Location"]
    path = "/" + location.split("/", 3)[3]
    _, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
    writer.write(f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode() + BLOB[:60_000])
    await writer.drain()
    await has(client, location, 60_000)
    writer.close()
    headers = {"Content-Range": f"60000-{len(BLOB) - 1}"}
    async with asyncio.timeout(10):
        while (done := await client("PATCH", location, BLOB[60_000:], headers=headers)).status == 409:
            await asyncio.sleep(0.02)
    assert done.status == 202
    assert (await client("PUT", f"{location}?digest={sha256(BLOB)}")).status == 201


async def test_a_reader_that_sleeps_is_let_go(client: Client) -> None:
    large = os.urandom(32 << 20)
    await client.push_blob("a", large)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]), limit=1024)
    writer.write(f"GET /v2/a/blobs/{sha256(large)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await asyncio.sleep(1)
    got = 0
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                got += len(data)
    assert got < len(large)
    writer.close()
    assert (await client("GET", f"/v2/a/blobs/{sha256(large)}")).body == large


async def test_two_writers_of_one_upload(client: Client) -> None:
    location = (await client("POST", "/v2/a/blobs/uploads/")).headers["Location"]

    async def slow() -> AsyncIterator[bytes]:
        yield b"a" * 1000
        await go_on.wait()
        yield b"a" * 1000

    go_on = asyncio.Event()

    async def second() -> int:
        await has(client, location, 1000)
        try:
            return (await client("PATCH", location, b"b" * 1000)).status
        finally:
            go_on.set()

    first, other = await asyncio.gather(client("PATCH", location, slow()), second())
    assert (first.status, other) == (202, 409)
    assert (await client("PUT", f"{location}?digest={sha256(b'a' * 2000)}")).status == 201


async def test_expect_continue(client: Client) -> None:
    """The body is only asked for where it is wanted."""
    start = await client("POST", "/v2/a/blobs/uploads/")
    path = "/" + start.headers["Location"].split("/", 3)[3]
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    answer = await raw(client, head.encode() + b"abc")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")
    head = "PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n"
    assert (await raw(client, head.encode())).startswith(b"HTTP/1.1 404 ")


async def test_a_damaged_manifest_is_never_served(client: Client, tmp_path: Path) -> None:
    digest, data = await client.push_image("a", "v1", BLOB)
    file = tmp_path / "registry" / "blobs" / "sha256" / digest.removeprefix("sha256:")
    client.registry.service.depot._memory.clear()
    file.write_bytes(data.replace(b"amd64", b"amd65").replace(b"2", b"3", 1))
    answer = await client("GET", "/v2/a/manifests/v1")
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert (await client("DELETE", f"/v2/a/manifests/{digest}")).status == 202


async def test_memory_does_not_grow_with_blobs(client: Client) -> None:
    """100 MB up and down; the process (client and server) may hold some blocks, never the blob."""

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield block

    block = os.urandom(1 << 20)
    whole = hashlib.sha256()
    for _ in range(100):
        whole.update(block)
    location = (await client("POST", "/v2/a/blobs/uploads/")).headers["Location"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
    before = peak()
    assert (await client("PATCH", location, stream())).headers["Range"] == f"0-{(100 << 20) - 1}"
    digest = f"sha256:{whole.hexdigest()}"
    assert (await client("PUT", f"{location}?digest={digest}")).status == 201
    size = 0
    async with client.session.get(f"{client.url}/v2/a/blobs/{digest}") as answer:
        async for data in answer.content.iter_chunked(1 << 20):
            size += len(data)
    assert size == 100 << 20
    assert peak() - before < 40_000


def peak() -> int:
    """The process's largest resident memory, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


async def test_manifest_types_are_not_confused(client: Client) -> None:
    """CVE-2021-41190: one document that is both an image and an index, by whoever reads it."""
    entry = f'{{"mediaType":"x/y","digest":"{sha256(BLOB)}","size":1}}'
    both = f'{{"schemaVersion":2,"config":{entry},"layers":[],"manifests":[]}}'.encode()
    for kind in (OCI_MANIFEST, "application/vnd.oci.image.index.v1+json"):
        answer = await client.push_manifest("a", "both", both, kind)
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


async def test_referrers_with_large_annotations_come_page_by_page(client: Client) -> None:
    """No answer is much larger than a manifest may be, however many referrers there are."""
    described = {"mediaType": OCI_MANIFEST, "digest": sha256(BLOB), "size": len(BLOB)}
    pushed = set()
    for number in range(5):
        more = {"annotations": {"n": str(number), "x": "y" * (1 << 20)}, "subject": described}
        pushed.add((await client.push_image("a", "", b"x", **more))[0])
    found, path = set(), f"/v2/a/referrers/{sha256(BLOB)}"
    pages = 0
    while path:
        page = await client("GET", path)
        assert len(page.body) < 5 << 20
        found |= {each["digest"] for each in page.json["manifests"]}
        path = page.headers.get("Link", "").partition(">")[0].lstrip("<")
        pages += 1
    assert found == pushed
    assert pages == 2
