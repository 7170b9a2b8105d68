"""What the registry offers beyond the protocol: access, immutability, collection, retention, quotas, and who is told."""

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bcrypt
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from gantry.errors import NotFound
from gantry.registry.server.collect import Collector, Report
from gantry.registry.server.config import Collect, Duration, Retention
from lib.registry_server import OCI_INDEX, OCI_MANIFEST, Client, serving, sha256

BLOB = b"some bytes " * 1000


@pytest.fixture
def accounts(tmp_path: Path) -> str:
    """The `auth` section for accounts whose password is their name."""
    file = tmp_path / "htpasswd"
    names = ("alice", "ci-1", "reader", "boss")
    file.write_text("".join(f"{name}:{bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode()}\n" for name in names))
    return f"auth: {{htpasswd: {{realm: test, path: {file}}}}}"


def login(client: Client, name: str, password: str | None = None) -> None:
    token = base64.b64encode(f"{name}:{password or name}".encode()).decode()
    client.headers = {"Authorization": f"Basic {token}"} if name else {}


def collector(client: Client, *, retention: tuple[Retention, ...] = (), untagged: float = 0) -> Collector:
    """A collector for which everything is old enough."""
    service = client.registry.service
    config = Collect(grace=Duration(0), untagged=Duration(untagged))
    return Collector(service.depot, service.manifests, config, retention, service.immutable)


def collect(client: Client, **options: Any) -> Report:
    return collector(client, **options).run()


# ------------------------------------------------------------------------------------------ accounts


async def test_login(files: str, accounts: str) -> None:
    async with serving(f"version: 0.1\n{files}\n{accounts}\n") as client:
        for header in (
            {},
            {"Authorization": "Basic x"},
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic YQ=="},
        ):
            answer = await client("GET", "/v2/", headers=header)
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="test"'
        for name, password in (("alice", "wrong"), ("nobody", "nobody"), ("alice", "x" * 5000)):
            login(client, name, password)
            assert (await client("GET", "/v2/")).status == 401
        login(client, "")
        for path in ("/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/x", f"/v2/a/blobs/{sha256(b'')}"):
            assert (await client("GET", path)).status == 401
        assert (await client("POST", "/v2/a/blobs/uploads/")).status == 401
        login(client, "alice")
        assert (await client("GET", "/v2/")).status == 200
        await client.push_image("a", "v1", BLOB)


async def test_htpasswd_is_read_again(files: str, accounts: str, tmp_path: Path) -> None:
    async with serving(f"version: 0.1\n{files}\n{accounts}\n") as client:
        login(client, "alice")
        assert (await client("GET", "/v2/")).status == 200
        file = tmp_path / "htpasswd"
        file.write_text("nonsense\n")
        assert (await client("GET", "/v2/")).status == 200
        file.write_text("")
        assert (await client("GET", "/v2/")).status == 401


RULES = """\
gantry:
  access:
    - {accounts: [anonymous], repositories: ["public/**"], actions: [pull]}
    - {accounts: ["*"], repositories: ["team/**", "public/**"], actions: [pull]}
    - {accounts: ["ci-*"], repositories: ["team/*"], actions: [pull, create]}
    - {accounts: [alice], repositories: ["team/**", "public/**"], actions: [pull, push]}
    - {accounts: [boss], actions: [pull, push, delete, admin]}
"""


@pytest.fixture
async def ruled(files: str, accounts: str) -> AsyncIterator[Client]:
    async with serving(f"version: 0.1\n{files}\n{accounts}\n{RULES}") as client:
        login(client, "boss")
        for name in ("public/a", "team/a", "secret/a"):
            await client.push_image(name, "v1", BLOB)
        yield client


@pytest.mark.parametrize(
    ("account", "readable", "writable"),
    [
        ("", {"public/a"}, set()),
        ("reader", {"public/a", "team/a"}, set()),
        ("ci-1", {"public/a", "team/a"}, {"team/a"}),
        ("alice", {"public/a", "team/a"}, {"public/a", "team/a"}),
        ("boss", {"public/a", "team/a", "secret/a"}, {"public/a", "team/a", "secret/a"}),
    ],
)
async def test_access_rules(ruled: Client, account: str, readable: set[str], writable: set[str]) -> None:
    login(ruled, account)
    refused = 403 if account else 401
    for name in ("public/a", "team/a", "secret/a"):
        for path in ("manifests/v1", "tags/list", f"blobs/{sha256(BLOB)}", f"referrers/{sha256(BLOB)}"):
            assert (await ruled("GET", f"/v2/{name}/{path}")).status == (200 if name in readable else refused)
        start = await ruled("POST", f"/v2/{name}/blobs/uploads/")
        assert start.status == (202 if name in writable else refused)
        status = 404 if account == "boss" else refused
        assert (await ruled("DELETE", f"/v2/{name}/manifests/{sha256(b'')}")).status == status
    assert set((await ruled("GET", "/v2/_catalog")).json["repositories"]) == readable


async def test_create_only_cannot_overwrite_a_tag(ruled: Client) -> None:
    """CVE-2026-31801."""
    login(ruled, "ci-1")
    old = (await ruled("GET", "/v2/team/a/manifests/v1")).body
    digest, data = await ruled.push_image("team/a", "v2", b"new")
    answer = await ruled.push_manifest("team/a", "v1", data)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert (await ruled("GET", "/v2/team/a/manifests/v1")).body == old
    assert (await ruled.push_manifest("team/a", "v1", old)).status == 201  # the same again changes nothing
    assert (await ruled.push_manifest("team/a", digest, data)).status == 201
    assert (await ruled("DELETE", "/v2/team/a/manifests/v1")).status == 403
    answers = await asyncio.gather(*(ruled.push_manifest("team/a", "race", each) for each in (old, data) * 8))
    assert {answer.status for answer in answers} == {201, 403}
    login(ruled, "alice")
    assert (await ruled.push_manifest("team/a", "v1", data)).status == 201


async def test_mount_needs_pull_of_the_source(ruled: Client) -> None:
    login(ruled, "boss")
    await ruled.push_blob("secret/a", b"secret")
    login(ruled, "alice")
    answer = await ruled("POST", f"/v2/team/a/blobs/uploads/?mount={sha256(b'secret')}&from=secret/a")
    assert answer.status == 202
    assert (await ruled("GET", f"/v2/team/a/blobs/{sha256(b'secret')}")).status == 404


async def test_collection_is_for_admins(ruled: Client) -> None:
    for account, status in (("", 401), ("alice", 403), ("boss", 200)):
        login(ruled, account)
        answer = await ruled("POST", "/v2/_gantry/collect")
        assert answer.status == status
    assert answer.json["kept_blobs"] > 0


async def test_immutable_tags(files: str) -> None:
    rule = "gantry: {immutable: [{repositories: ['prod/**'], tags: ['v*']}]}"
    async with serving(f"version: 0.1\n{files}\n{rule}\n") as client:
        digest, data = await client.push_image("prod/a", "v1", BLOB)
        _, other = await client.push_image("prod/a", "latest", b"other")
        answer = await client.push_manifest("prod/a", "v1", other)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert "immutable" in answer.body.decode()
        for path in ("manifests/v1", f"manifests/{digest}", "_gantry/repository"):
            assert (await client("DELETE", f"/v2/prod/a/{path}")).status == 403
        assert (await client("GET", "/v2/prod/a/manifests/v1")).body == data
        assert (await client.push_manifest("prod/a", "latest", data)).status == 201
        assert collect(client, retention=(Retention(keep_last=0, younger_than=Duration(0)),)).tags == 1


async def test_read_only(files: str) -> None:
    async with serving(f"version: 0.1\n{files}\n") as client:
        await client.push_image("a", "v1", BLOB)
    locked = files.replace("delete:", "maintenance: {readonly: {enabled: true}}, delete:")
    async with serving(f"version: 0.1\n{locked}\n") as client:
        assert (await client("GET", "/v2/a/manifests/v1")).status == 200
        for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/v2"), ("DELETE", "manifests/v1")):
            assert (await client(method, f"/v2/a/{path}")).status == 405


async def test_bearer_tokens(files: str, tmp_path: Path) -> None:
    """The challenge names what is missing; a token gives what it says, and no more."""
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = {**ECAlgorithm(ECAlgorithm.SHA256).to_jwk(key.public_key(), as_dict=True), "kid": "one"}
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [jwk]}))
    section = f"auth: {{token: {{realm: 'https://auth/token', service: here, issuer: there, jwks: {keys}}}}}"

    def token(*access: tuple[str, str, list[str]]) -> None:
        granted = [{"type": kind, "name": name, "actions": actions} for kind, name, actions in access]
        claims = {"iss": "there", "aud": "here", "sub": "alice", "exp": int(time.time()) + 60, "access": granted}
        client.headers = {"Authorization": "Bearer " + jwt.encode(claims, key, "ES256", {"kid": "one"})}

    async with serving(f"version: 0.1\n{files}\n{section}\n") as client:
        anonymous = await client("POST", "/v2/a/blobs/uploads/")
        assert anonymous.status == 401
        assert 'scope="repository:a:pull,push"' in anonymous.headers["WWW-Authenticate"]
        token()
        assert (await client("GET", "/v2/")).status == 200
        answer = await client("GET", "/v2/a/manifests/v1")
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert 'scope="repository:a:pull",error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        assert (await client("GET", "/v2/_catalog")).status == 401
        assert (await client("POST", "/v2/_gantry/collect")).status == 401
        token(("repository", "a", ["pull", "push"]))
        await client.push_image("a", "v1", BLOB)
        assert (await client("GET", "/v2/a/manifests/v1")).status == 200
        assert (await client("DELETE", "/v2/a/manifests/v1")).status == 401
        assert (await client("POST", "/v2/b/blobs/uploads/")).status == 401
        mounted = await client("POST", f"/v2/a/blobs/uploads/?mount={sha256(BLOB)}&from=b")
        assert mounted.status == 202
        token(("registry", "catalog", ["*"]), ("repository", "a", ["*"]))
        assert (await client("GET", "/v2/_catalog")).json["repositories"] == ["a"]
        assert (await client("DELETE", "/v2/a/manifests/v1")).status == 202


# ---------------------------------------------------------------------------------------- collection


@asynccontextmanager
async def plain(storage: str, more: str = "") -> AsyncIterator[Client]:
    async with serving(f"version: 0.1\n{storage}\n{more}\n") as client:
        yield client


def stored(client: Client) -> set[str]:
    return {info.digest for info in client.registry.service.depot.blobs.walk()}


async def test_deleting_the_last_tag_frees_the_space(storage: str) -> None:
    async with plain(storage) as client:
        kept, _ = await client.push_image("a", "keep", BLOB, b"of keep")
        gone, _ = await client.push_image("a", "gone", BLOB, b"of gone")
        assert collect(client).manifests == 0
        await client("DELETE", "/v2/a/manifests/gone")
        report = collect(client)
        assert (report.manifests, report.blobs) == (1, 2)
        assert report.bytes > len(b"of gone")
        assert sha256(b"of gone") not in stored(client)
        assert (await client("GET", f"/v2/a/manifests/{gone}")).status == 404
        assert (await client("GET", f"/v2/a/manifests/{kept}")).status == 200
        assert (await client("GET", f"/v2/a/blobs/{sha256(BLOB)}")).body == BLOB
        await client("DELETE", "/v2/a/_gantry/repository")
        collect(client)
        assert stored(client) == set()


async def test_what_an_index_or_a_subject_holds_stays_and_goes_with_it(storage: str) -> None:
    async with plain(storage) as client:
        child, data = await client.push_image("a", "", b"child")
        entry = {"mediaType": OCI_MANIFEST, "digest": child, "size": len(data)}
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        await client.push_manifest("a", "multi", index, OCI_INDEX)
        subject = {"mediaType": OCI_INDEX, "digest": sha256(index), "size": len(index)}
        signature, _ = await client.push_image("a", "", b"signature", subject=subject)
        alone, _ = await client.push_image("a", "", b"pushed by digest")
        report = collect(client)
        assert (report.manifests, report.blobs, report.links) == (0, 0, 0)
        await client("DELETE", "/v2/a/manifests/multi")
        assert collect(client).manifests == 3
        for digest in (child, signature, sha256(index)):
            assert (await client("GET", f"/v2/a/manifests/{digest}")).status == 404
        assert (await client("GET", f"/v2/a/manifests/{alone}")).status == 200
        assert collect(client, untagged=0.001).manifests == 1


async def test_a_tag_that_comes_back_keeps_the_manifest(files: str) -> None:
    async with plain(files) as client:
        digest, data = await client.push_image("a", "v1", BLOB)
        await client("DELETE", "/v2/a/manifests/v1")
        await client.push_manifest("a", "v2", data)
        assert collect(client).manifests == 0
        assert (await client("GET", f"/v2/a/manifests/{digest}")).status == 200


async def test_young_things_stay(files: str) -> None:
    """The real grace period: nothing that a push may still need is taken."""
    async with plain(files) as client:
        await client.push_blob("a", BLOB)
        await client.push_image("a", "v1", b"x")
        await client("DELETE", "/v2/a/manifests/v1")
        report = await client.registry.collect()
        assert (report.manifests, report.links, report.blobs) == (0, 0, 0)


async def test_collecting_beside_pushes_loses_nothing(files: str) -> None:
    """Pushes of shared and own blobs, deletions and a collector that finds all it sees old enough, all at once.

    The grace period is what protects a push between two requests: here it is as long as the pushes take.
    """
    async with plain(files) as client:
        service = client.registry.service
        running = True

        async def collecting() -> int:
            runs = 0
            config = Collect(grace=Duration(2.0))
            tidy = Collector(service.depot, service.manifests, config, (), service.immutable)
            while running:
                await asyncio.to_thread(tidy.run)
                runs += 1
            return runs

        async def pushing(worker: int) -> None:
            for turn in range(12):
                tag = f"w{worker}-{turn}"
                digest, data = await client.push_image("a", tag, BLOB, f"{turn % 3}".encode())
                assert (await client("GET", f"/v2/a/manifests/{tag}")).body == data
                if turn % 2:
                    await client("DELETE", f"/v2/a/manifests/{tag}")
                else:
                    for layer in json.loads(data)["layers"]:
                        assert (await client("HEAD", f"/v2/a/blobs/{layer['digest']}")).status == 200

        work = asyncio.gather(*(pushing(worker) for worker in range(4)))
        sweeping = asyncio.gather(collecting())
        await work
        running = False
        assert (await sweeping)[0] > 0
        for tag in (await client("GET", "/v2/a/tags/list")).json["tags"]:
            manifest = (await client("GET", f"/v2/a/manifests/{tag}")).json
            for each in (manifest["config"], *manifest["layers"]):
                assert (await client("GET", f"/v2/a/blobs/{each['digest']}")).status == 200


async def test_a_blob_made_young_meanwhile_is_spared(files: str) -> None:
    async with plain(files) as client:
        await client.push_blob("a", BLOB)
        depot = client.registry.service.depot
        tidy = collector(client)
        await client("DELETE", f"/v2/a/blobs/{sha256(BLOB)}")
        before = time.time_ns()
        await client.push_blob("b", BLOB)
        assert tidy._delete(sha256(BLOB), before) is False
        assert (await client("GET", f"/v2/b/blobs/{sha256(BLOB)}")).body == BLOB
        await client("DELETE", f"/v2/b/blobs/{sha256(BLOB)}")
        assert tidy.run().blobs == 1
        with pytest.raises(NotFound):
            depot.blobs.stat(sha256(BLOB))


async def test_retention(files: str) -> None:
    rules = (
        Retention(repositories=("ci/**",), tags=("pr-*",), keep_last=2),
        Retention(repositories=("ci/**",), tags=("nightly-*",), younger_than=Duration(3600)),
    )
    async with plain(files) as client:
        for tag in ("pr-1", "pr-2", "pr-3", "pr-4", "nightly-1", "release"):
            await client.push_image("ci/a", tag, tag.encode())
        await client.push_image("other", "pr-1", b"x")
        assert collect(client, retention=rules).tags == 2
        tags = (await client("GET", "/v2/ci/a/tags/list")).json["tags"]
        assert tags == ["nightly-1", "pr-3", "pr-4", "release"]
        assert collect(client, retention=rules).manifests == 2  # a run later: they were orphaned by the first
        assert (await client("GET", "/v2/other/manifests/pr-1")).status == 200


async def test_quota(storage: str) -> None:
    rule = "gantry: {quotas: [{repositories: ['team/**'], bytes: 15KB}]}"
    async with plain(storage, rule) as client:
        await client.push_image("team/a", "v1", BLOB)
        answer = await client("POST", f"/v2/team/b/blobs/uploads/?digest={sha256(BLOB)}", BLOB)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert "quota" in answer.body.decode()
        mounted = await client("POST", f"/v2/team/b/blobs/uploads/?mount={sha256(BLOB)}&from=team/a")
        assert mounted.status == 403
        await client.push_image("free/a", "v1", BLOB, b"y" * 20_000)
        assert (await client.push_blob("team/a", BLOB))["size"] == len(BLOB)  # it has it already
        await client("DELETE", f"/v2/team/a/blobs/{sha256(BLOB)}")
        await client.push_blob("team/b", BLOB)


async def test_stale_uploads_are_purged(files: str) -> None:
    async with plain(files) as client:
        uploads = client.registry.service.uploads
        old, young = [(await client("POST", "/v2/a/blobs/uploads/")).headers["Location"] for _ in range(2)]
        [file] = [path for path in uploads.old(-10) if path.name.startswith(old.rpartition("/")[2])]
        os.utime(file, (0, 0))
        with uploads.claimed(old.rpartition("/")[2]):
            assert uploads.purge(3600) == 0
        assert uploads.purge(3600) == 1
        assert (await client("GET", old)).code == "BLOB_UPLOAD_UNKNOWN"
        assert (await client("GET", young)).status == 204


# ------------------------------------------------------------------------------------- who is told


async def test_metrics(files: str) -> None:
    async with plain(files, "gantry: {metrics: true}") as client:
        await client.push_image("a", "v1", BLOB)
        await client("GET", "/v2/a/manifests/v1")
        await client("GET", "/v2/a/manifests/none")
        await client.registry.collect()
        text = (await client("GET", "/metrics")).body.decode()
    assert 'gantry_registry_http_requests_total{handler="manifest",method="GET",code="200"} 1' in text
    assert 'gantry_registry_http_requests_total{handler="manifest",method="GET",code="404"} 1' in text
    assert 'gantry_registry_http_request_duration_seconds_bucket{handler="manifest",le="+Inf"} 3' in text
    assert 'gantry_registry_events_total{action="push"} 3' in text
    assert "gantry_registry_collections_total 1" in text
    assert "gantry_registry_storage_blobs 3" in text
    for line in text.splitlines():
        assert line.startswith("# ") or (line.startswith("gantry_registry_") and float(line.rpartition(" ")[2]) >= 0)


async def test_audit_log(files: str, accounts: str, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    text = f"version: 0.1\n{files}\n{accounts}\n{RULES}  audit: {{path: {log}}}\n"
    async with serving(text) as client:
        login(client, "boss")
        digest, _ = await client.push_image("team/a", "v1", BLOB)
        await client("GET", "/v2/team/a/manifests/v1")
        await client("POST", f"/v2/team/b/blobs/uploads/?mount={sha256(BLOB)}&from=team/a")
        login(client, "alice")
        await client("DELETE", "/v2/team/a/manifests/v1")
        login(client, "boss")
        await client("DELETE", "/v2/team/a/manifests/v1")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["action"], line["account"]) for line in lines] == [
        ("push", "boss"), ("push", "boss"), ("push", "boss"), ("pull", "boss"), ("mount", "boss"), ("denied", "alice"),
        ("delete", "boss"),
    ]  # fmt: skip
    assert lines[2]["tag"] == "v1"
    assert lines[2]["digest"] == digest
    assert lines[4]["from"] == "team/a"
    assert lines[5]["repository"] == "team/a"


async def test_notifications_arrive_in_order_also_after_failures(files: str) -> None:
    received: list[dict[str, Any]] = []
    failures = 3

    async def hook(request: web.BaseRequest) -> web.Response:
        nonlocal failures
        assert request.headers["X-Token"] == "t"
        if failures:
            failures -= 1
            return web.Response(status=500)
        received.extend(json.loads(await request.text())["events"])
        done.set() if len(received) >= 3 else None
        return web.Response()

    done = asyncio.Event()
    sink = web.Server(hook)
    server = await asyncio.get_running_loop().create_server(sink, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    more = (
        f"notifications: {{events: {{includereferences: true}}, endpoints: [{{name: one, url: '{url}', "
        "headers: {X-Token: [t]}, threshold: 2, backoff: 10ms, ignoredmediatypes: [application/octet-stream]}]}"
    )
    async with plain(files, more) as client:
        digest, _ = await client.push_image("a", "v1", BLOB)
        await client("GET", "/v2/a/manifests/v1")
        await client("DELETE", "/v2/a/manifests/v1")
        async with asyncio.timeout(10):
            await done.wait()
    server.close()
    await sink.shutdown()
    assert [event["action"] for event in received] == ["push", "pull", "delete"]
    target = received[0]["target"]
    assert (target["repository"], target["tag"], target["digest"]) == ("a", "v1", digest)
    assert {"digest": sha256(BLOB)} in target["references"]


async def test_health(files: str, tmp_path: Path) -> None:
    flag = tmp_path / "unhealthy"
    async with plain(files, f"health: {{file: [{{file: {flag}, interval: 100ms}}]}}") as client:
        assert (await client("GET", "/v2/")).status == 200
        flag.touch()
        async with asyncio.timeout(10):
            while (answer := await client("GET", "/v2/")).status == 200:
                await asyncio.sleep(0.05)
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        flag.unlink()
        async with asyncio.timeout(10):
            while (await client("GET", "/v2/")).status != 200:
                await asyncio.sleep(0.05)
