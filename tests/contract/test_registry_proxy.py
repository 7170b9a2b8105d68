"""The pull-through cache in front of another registry that wants a login."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from lib.registry_server import Client, serving, sha256, storage_of

BLOB = b"some bytes " * 300_000


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[Client]:
    accounts = tmp_path / "htpasswd"
    accounts.write_text(f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    text = f"version: 0.1\n{storage_of(tmp_path / 'remote')}\nauth: {{htpasswd: {{path: {accounts}}}}}\n"
    async with serving(text) as client:
        client.headers = {"Authorization": "Basic YWxpY2U6c2VjcmV0"}
        yield client


def proxy_of(tmp_path: Path, remote: Client, password: str = "secret") -> str:
    return (
        f"version: 0.1\n{storage_of(tmp_path / 'cache')}\n"
        f"proxy: {{remoteurl: '{remote.url}', username: alice, password: {password}, ttl: 1h}}\n"
    )


async def test_what_was_pulled_once_is_kept(remote: Client, tmp_path: Path) -> None:
    digest, data = await remote.push_image("a/b", "v1", BLOB)
    async with serving(proxy_of(tmp_path, remote)) as cache:
        head = await cache("HEAD", f"/v2/a/b/blobs/{sha256(BLOB)}")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(BLOB)))
        for _ in range(2):
            for reference in ("v1", digest):
                answer = await cache("GET", f"/v2/a/b/manifests/{reference}")
                assert (answer.status, answer.body) == (200, data)
            answer = await cache("GET", f"/v2/a/b/blobs/{sha256(BLOB)}")
            assert (answer.status, answer.body) == (200, BLOB)
        await remote("DELETE", "/v2/a/b/_gantry/repository")
        assert (await cache("GET", f"/v2/a/b/manifests/{digest}")).body == data
        assert (await cache("GET", f"/v2/a/b/blobs/{sha256(BLOB)}")).body == BLOB
        assert (await cache("GET", "/v2/a/b/manifests/v1")).code == "MANIFEST_UNKNOWN"


async def test_a_tag_follows_the_remote_and_is_served_without_it(tmp_path: Path) -> None:
    async with serving(f"version: 0.1\n{storage_of(tmp_path / 'remote')}\n") as remote:
        _, first = await remote.push_image("a", "latest", b"1")
        text = proxy_of(tmp_path, remote)
        async with serving(text) as cache:
            assert (await cache("GET", "/v2/a/manifests/latest")).body == first
            _, second = await remote.push_image("a", "latest", b"2")
            assert (await cache("GET", "/v2/a/manifests/latest")).body == second
    async with serving(text) as cache:
        assert (await cache("GET", "/v2/a/manifests/latest")).body == second
        answer = await cache("GET", "/v2/a/manifests/other")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")


async def test_refusals(remote: Client, tmp_path: Path) -> None:
    _, data = await remote.push_image("a", "v1", BLOB)
    async with serving(proxy_of(tmp_path, remote)) as cache:
        assert (await cache("GET", "/v2/a/manifests/none")).code == "MANIFEST_UNKNOWN"
        assert (await cache("GET", f"/v2/a/blobs/{sha256(b'none')}")).code == "BLOB_UNKNOWN"
        assert (await cache("POST", "/v2/a/blobs/uploads/")).code == "UNSUPPORTED"
        assert (await cache.push_manifest("a", "v2", data)).code == "UNSUPPORTED"
    async with serving(proxy_of(tmp_path, remote, "wrong")) as cache:
        assert (await cache("GET", "/v2/a/manifests/v1")).code == "DENIED"


async def test_a_wrong_blob_is_neither_kept_nor_given_whole(remote: Client, tmp_path: Path) -> None:
    await remote.push_blob("a", BLOB)
    file = tmp_path / "remote" / "blobs" / "sha256" / sha256(BLOB).removeprefix("sha256:")
    file.write_bytes(BLOB[:-1] + b"X")
    async with serving(proxy_of(tmp_path, remote)) as cache:
        with pytest.raises(aiohttp.ClientError):
            await cache("GET", f"/v2/a/blobs/{sha256(BLOB)}")
        assert not list((tmp_path / "cache" / "staging" / "uploads").iterdir())
        file.write_bytes(BLOB)
        assert (await cache("GET", f"/v2/a/blobs/{sha256(BLOB)}")).body == BLOB


async def test_many_at_once(remote: Client, tmp_path: Path) -> None:
    await remote.push_blob("a", BLOB)
    async with serving(proxy_of(tmp_path, remote)) as cache:
        answers = await asyncio.gather(*(cache("GET", f"/v2/a/blobs/{sha256(BLOB)}") for _ in range(8)))
        assert all(answer.body == BLOB for answer in answers)


async def test_expiry(remote: Client, tmp_path: Path) -> None:
    await remote.push_image("a", "v1", BLOB)
    async with serving(proxy_of(tmp_path, remote)) as cache:
        await cache("GET", "/v2/a/manifests/v1")
        await cache("GET", f"/v2/a/blobs/{sha256(BLOB)}")
        proxy = cache.registry._proxy
        assert proxy is not None
        assert proxy.forget_old(time.time_ns() - 3600 * 10**9) == 0
        assert proxy.forget_old(time.time_ns()) == 2
        assert (await cache("GET", "/v2/_catalog")).json["repositories"] == []
        assert (await cache("GET", "/v2/a/manifests/v1")).status == 200
