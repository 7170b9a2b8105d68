"""Pushing, logging in and searching, against the registry that does what it is told."""

import asyncio
import base64
import io
import json
import os
import ssl
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gantry.api import registries
from gantry.api.app import application
from gantry.api.images import routes
from gantry.engine.distribution import Distribution
from gantry.errors import InvalidArgument, NotFound, Unavailable
from gantry.model.platform import Platform
from gantry.registry.settings import RegistryRule, RegistrySettings
from lib.archives import descriptor, directory, member, sha256, tar
from lib.certificates import Authority
from lib.image_room import ImageRoom
from lib.registry import FakeRegistry, error_answer, once

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers have owners")

HOST = Platform.host().architecture
BASE = tar(directory("etc"), member("etc/base", b"base"))
TOP = tar(member("etc/top", b"top!"))
BIG = tar(member("big", os.urandom(3 << 20)))

Call = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("transport", "download", "upload"):
        monkeypatch.setattr(f"gantry.registry.{module}.pause", lambda *_: 0.0)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
async def server(registry: FakeRegistry) -> AsyncIterator[TestServer]:
    async with registry.server() as server:
        yield server


@pytest.fixture
def settings(server: TestServer) -> RegistrySettings:
    hub = RegistryRule(server=f"http://127.0.0.1:{server.port}")
    return RegistrySettings(attempts=3, certificates=(), rules={"docker.io": hub})


@pytest.fixture
async def daemon(tmp_path: Path, settings: RegistrySettings) -> AsyncIterator[ImageRoom]:
    daemon = ImageRoom(tmp_path, settings)
    yield daemon
    await daemon.close()


@pytest.fixture
async def call(daemon: ImageRoom) -> AsyncIterator[Call]:
    """One call; `auth` fields become X-Registry-Auth. Streams come as lists of messages."""
    distribution = Distribution(daemon.registries)
    app = application([*registries.routes(distribution, daemon.images), *routes(daemon.images, distribution)])
    async with TestClient(TestServer(app)) as client:

        async def call(
            method: str,
            path: str,
            data: Any = None,
            *,
            auth: dict[str, str] | None = None,
            status: int = 200,
            **query: str,
        ) -> Any:
            headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()} if auth else {}
            async with client.request(method, path, json=data, params=query, headers=headers) as answer:
                body = await answer.read()
                assert answer.status == status, body
                if status == 200 and path.endswith(("/push", "/create")):
                    return [json.loads(line) for line in body.splitlines()]
                return json.loads(body) if body else None

        yield call


def address(server: TestServer, name: str) -> str:
    return f"127.0.0.1:{server.port}/{name}"


async def pulled(call: Call, name: str, tag: str = "latest", **options: Any) -> None:
    messages = await call("POST", "/images/create", fromImage=name, tag=tag, **options)
    assert messages[-1].get("status", "").startswith("Status:"), messages


async def pushed(call: Call, name: str, tag: str = "", **options: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = await call("POST", f"/images/{name}/push", tag=tag, **options)
    return messages


def statuses(messages: list[dict[str, Any]]) -> set[str]:
    return {message["status"].split(" from ")[0] for message in messages if "id" in message}


# --------------------------------------------------------------------------------------------------- push


async def test_pull_then_push_keeps_the_digest(
    call: Call, registry: FakeRegistry, server: TestServer, daemon: ImageRoom
) -> None:
    digest = registry.add_image("from", "latest", [BASE, TOP])
    source, target = address(server, "from"), address(server, "to")
    await pulled(call, source)
    await call("POST", f"/images/{source}/tag", repo=target, tag="v1", status=201)
    registry.mounts = False
    messages = await pushed(call, target, "v1")
    assert messages[0] == {"status": f"The push refers to repository [{target}]"}
    size = len(registry.manifests["to", "v1"][1])
    assert messages[-2] == {"status": f"v1: digest: {digest} size: {size}"}
    assert messages[-1] == {"progressDetail": {}, "aux": {"Tag": "v1", "Digest": digest, "Size": size}}
    assert registry.manifests["to", "v1"] == registry.manifests["from", "latest"]
    assert statuses(messages) - {"Pushing"} == {"Preparing", "Pushed"}
    assert statuses(await pushed(call, target, "v1")) == {"Preparing", "Layer already exists"}
    event = daemon.events._history[-1]
    assert (event.action, event.actor_id, event.attributes["name"]) == ("push", f"{target}:v1", target)


async def test_blobs_are_mounted_from_other_repositories(
    call: Call, registry: FakeRegistry, server: TestServer
) -> None:
    registry.add_image("from", "latest", [BASE, TOP])
    await pulled(call, address(server, "from"))
    await call("POST", f"/images/{address(server, 'from')}/tag", repo=address(server, "to"), tag="v1", status=201)
    assert statuses(await pushed(call, address(server, "to"), "v1")) == {"Preparing", "Mounted"}
    assert not [path for method, path, _ in registry.requests if method == "PATCH"]


async def test_a_whole_index_is_pushed_where_everything_is_at_hand(
    call: Call, registry: FakeRegistry, server: TestServer
) -> None:
    mine = registry.add_image("from", "", [BASE], architecture=HOST)
    theirs = registry.add_image("from", "", [TOP], architecture="s390x")
    index = registry.add_index("from", "latest", {f"linux/{HOST}": mine, "linux/s390x": theirs})
    await pulled(call, address(server, "from"))
    await call("POST", f"/images/{address(server, 'from')}/tag", repo=address(server, "to"), tag="v1", status=201)
    # The other platform's layers are not here, but the registry takes them over from where the image comes from.
    messages = await pushed(call, address(server, "to"), "v1")
    assert messages[-1]["aux"]["Digest"] == index
    # Where it does not, the platform that is here is pushed alone, and that is said.
    registry.mounts = False
    await call("POST", f"/images/{address(server, 'from')}/tag", repo=address(server, "third"), tag="v1", status=201)
    messages = await pushed(call, address(server, "third"), "v1")
    assert messages[-1]["aux"]["Digest"] == mine
    (note,) = [m["aux"] for m in messages if "manifestPushedInsteadOfIndex" in m.get("aux", {})]
    assert (note["originalIndex"]["digest"], note["selectedManifest"]["digest"]) == (index, mine)
    messages = await pushed(
        call, address(server, "to"), "v1", platform=json.dumps({"os": "linux", "architecture": HOST})
    )
    assert messages[-1]["aux"]["Digest"] == mine


async def test_an_index_in_an_index_is_pushed_whole(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    mine = registry.add_image("from", "", [BASE], architecture=HOST)
    inner = registry.add_index("from", "", {f"linux/{HOST}": mine})
    media_type, data = registry.manifests["from", inner]
    top = registry.add_index("from", "latest", {}, manifests=[descriptor(data, media_type)])
    await pulled(call, address(server, "from"))
    await call("POST", f"/images/{address(server, 'from')}/tag", repo=address(server, "to"), tag="v1", status=201)
    registry.mounts = False
    assert (await pushed(call, address(server, "to"), "v1"))[-1]["aux"]["Digest"] == top
    assert registry.manifests["to", inner] == registry.manifests["from", inner]
    wanted = json.dumps({"os": "linux", "architecture": HOST})
    assert (await pushed(call, address(server, "to"), "v1", platform=wanted))[-1]["aux"]["Digest"] == mine


async def test_attestations_go_along(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    mine = registry.add_image("from", "", [BASE], architecture=HOST)
    statement = b'{"_type": "https://in-toto.io/Statement/v0.1"}'
    proof = registry.add_image(
        "from", "", [], blobs=[statement], layer_type="application/vnd.in-toto+json", diff_ids=[sha256(statement)],
        architecture="unknown",
    )  # fmt: skip
    media_type, data = registry.manifests["from", proof]
    note = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": mine}
    entries = [
        {
            **descriptor(registry.manifests["from", mine][1], media_type),
            "platform": {"os": "linux", "architecture": HOST},
        },
        {**descriptor(data, media_type), "annotations": note, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    index = registry.add_index("from", "latest", {}, manifests=entries)
    await pulled(call, address(server, "from"))
    await call("POST", f"/images/{address(server, 'from')}/tag", repo=address(server, "to"), tag="v1", status=201)
    registry.mounts = False
    assert (await pushed(call, address(server, "to"), "v1"))[-1]["aux"]["Digest"] == index


async def test_all_tags_and_unknown_ones(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    registry.add_image("from", "a", [BASE])
    registry.add_image("from", "b", [TOP])
    name, target = address(server, "from"), address(server, "to")
    for tag in ("a", "b"):
        await pulled(call, name, tag)
        await call("POST", f"/images/{name}:{tag}/tag", repo=target, tag=tag, status=201)
    messages = await pushed(call, target)
    assert [message["aux"]["Tag"] for message in messages if "aux" in message] == ["a", "b"]
    answer = await call("POST", f"/images/{target}/push", tag="c", status=404)
    assert answer == {"message": f"tag does not exist: {target}:c"}
    answer = await call("POST", "/images/none/push", tag="c", status=404)
    assert answer == {"message": "An image does not exist locally with the tag: none"}


async def test_an_upload_goes_on_where_it_broke_off(
    call: Call, registry: FakeRegistry, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gantry.registry.upload._CHUNK", 500_000)
    registry.add_image("from", "latest", [BIG])
    await pulled(call, address(server, "from"))
    await call("POST", f"/images/{address(server, 'from')}/tag", repo=address(server, "to"), tag="v1", status=201)
    registry.mounts = False

    async def busy(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=503)

    async def hang_up(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    count: Counter[str] = Counter()  # per upload: configuration and layer go at the same time

    async def sometimes(request: web.Request) -> web.StreamResponse | None:
        if request.method != "PATCH":
            return None
        count[request.path] += 1
        number = count[request.path]
        return await (busy if number % 4 == 0 else hang_up)(request) if number % 2 == 0 else None

    registry.faults.append(sometimes)
    messages = await pushed(call, address(server, "to"), "v1")
    assert messages[-1].get("aux"), messages[-1]
    assert registry.manifests["to", "v1"] == registry.manifests["from", "latest"]
    starts = [path for method, path, _ in registry.requests if method == "POST" and "mount" not in path]
    assert len(starts) <= 4, "an upload is not begun again for each break"


# ------------------------------------------------------------------------------------------ authentication


async def test_basic_authentication(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    registry.add_image("from", "latest", [BASE])
    registry.users = {"me": "secret"}
    name, good = address(server, "from"), {"username": "me", "password": "secret"}
    answer = await call("POST", "/images/create", fromImage=name, tag="latest", status=500)
    assert answer["message"].endswith("no basic auth credentials")
    answer = await call(
        "POST", "/images/create", fromImage=name, tag="latest", status=500, auth={**good, "password": "wrong"}
    )
    assert answer["message"] == "unauthorized: authentication required"
    await pulled(call, name, auth=good)
    await call("POST", f"/images/{name}/tag", repo=address(server, "to"), tag="v1", status=201)
    assert (await pushed(call, address(server, "to"), "v1", auth=good))[-1]["aux"]
    place = f"127.0.0.1:{server.port}"
    answer = await call("POST", "/auth", {**good, "serveraddress": place})
    assert answer == {"Status": "Login Succeeded", "IdentityToken": ""}
    await call("POST", "/auth", {**good, "password": "no", "serveraddress": place}, status=401)


async def test_bearer_tokens(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    registry.add_image("from", "latest", [BASE, TOP])
    registry.users = {"me": "secret"}
    registry.token_service = f"http://127.0.0.1:{server.port}/token"
    name, good = address(server, "from"), {"username": "me", "password": "secret"}
    await call("POST", "/images/create", fromImage=name, tag="latest", status=500)
    registry.public = True
    await pulled(call, name)
    assert registry.token_requests[-1]["scope"] == "repository:from:pull"
    assert registry.token_requests[-1]["service"] == "registry.test"
    assert len([r for r in registry.token_requests if r["authorization"] == ""]) <= 3, "a token serves many requests"
    await call("POST", f"/images/{name}/tag", repo=address(server, "to"), tag="v1", status=201)
    messages = await pushed(call, address(server, "to"), "v1")
    assert "unauthorized: authentication required" in messages[-1]["error"]
    messages = await pushed(call, address(server, "to"), "v1", auth=good)
    assert messages[-1].get("aux"), messages[-1]
    assert statuses(messages) == {"Preparing", "Mounted"}
    scopes = {request.get("scope") for request in registry.token_requests if request["authorization"]}
    assert "repository:to:pull,push" in scopes


async def test_a_token_that_ends_too_early(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    registry.add_image("from", "latest", [BASE, TOP])
    registry.users, registry.public = {"me": "secret"}, True
    registry.token_service = f"http://127.0.0.1:{server.port}/token"

    async def revoke(request: web.Request) -> None:
        registry.tokens.clear()

    registry.faults.append(once("GET .*blobs", revoke))
    await pulled(call, address(server, "from"))


async def test_identity_tokens(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    registry.add_image("from", "latest", [BASE])
    registry.users = {"me": "secret"}
    registry.token_service = f"http://127.0.0.1:{server.port}/token"
    place = f"127.0.0.1:{server.port}"
    answer = await call("POST", "/auth", {"username": "me", "password": "secret", "serveraddress": place})
    token = answer["IdentityToken"]
    assert registry.refresh[token] == "me"
    await pulled(call, address(server, "from"), auth={"identitytoken": token})
    assert registry.token_requests[-1]["grant_type"] == "refresh_token"
    answer = await call("POST", "/auth", {"username": "me", "password": "no", "serveraddress": place}, status=401)
    assert answer["message"] == "incorrect username or password"


async def test_redirects_do_not_take_credentials_along(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    """Blobs come from an object store on another host, which must not see what the registry is told."""
    registry.add_image("from", "latest", [BASE])
    registry.users = {"me": "secret"}
    seen: list[dict[str, str]] = []

    async def store(request: web.Request) -> web.StreamResponse:
        seen.append(dict(request.headers))
        digest = request.path.rpartition("/")[2]
        return await registry.send(request, digest, registry.blobs[digest])

    app = web.Application()
    app.router.add_get("/{path:.*}", store)
    async with TestServer(app) as objects:

        async def away(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"http://localhost:{objects.port}/{request.path.rpartition('/')[2]}?sig=1")

        registry.faults.append(once("GET .*blobs", away, times=9))
        await pulled(call, address(server, "from"), auth={"username": "me", "password": "secret"})
    assert len(seen) == 2
    assert not any("Authorization" in headers for headers in seen)


async def test_a_redirect_without_end(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    async def round_and_round(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(request.path)

    registry.faults.append(round_and_round)
    answer = await call("POST", "/images/create", fromImage=address(server, "x"), tag="y", status=400)
    assert "stopped after 10 redirects" in answer["message"]


# -------------------------------------------------------------------------------------- Docker Hub's stand-in


async def test_docker_hub_is_wherever_the_settings_say(call: Call, registry: FakeRegistry) -> None:
    registry.add_image("library/app", "latest", [BASE])
    await pulled(call, "app")
    assert [image["RepoTags"] for image in await call("GET", "/images/json")] == [["app:latest"]]


async def test_search(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    registry.results = [
        {"name": "node", "description": "Node", "star_count": 9, "is_official": True, "is_automated": False},
        {"name": "me/node", "description": "mine", "star_count": 1, "is_official": False, "is_automated": False},
    ]
    assert [found["name"] for found in await call("GET", "/images/search", term="node")] == ["node", "me/node"]
    filters = json.dumps({"is-official": {"true": True}, "stars": {"3": True}})
    assert await call("GET", "/images/search", term="node", filters=filters) == [registry.results[0]]
    assert len(await call("GET", "/images/search", term="node", limit="1")) == 1
    assert len(await call("GET", "/images/search", term=f"{address(server, 'node')}")) == 2
    for bad in ({"limit": "101"}, {"limit": "x"}, {"filters": json.dumps({"color": ["red"]})}):
        await call("GET", "/images/search", term="node", status=400, **bad)


async def test_distribution_inspect(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    one = registry.add_image("app", "one", [BASE], architecture="arm64", variant="v8")
    index = registry.add_index("app", "all", {"linux/arm64/v8": one})
    platform = {"architecture": "arm64", "os": "linux", "variant": "v8"}
    for tag, digest in (("one", one), ("all", index)):
        answer = await call("GET", f"/distribution/{address(server, 'app')}:{tag}/json")
        media_type, data = registry.manifests["app", tag]
        assert answer["Descriptor"] == {"mediaType": media_type, "digest": digest, "size": len(data)}
        assert answer["Platforms"] == [platform]
    answer = await call("GET", f"/distribution/{address(server, 'app')}:none/json", status=404)
    assert "manifest unknown" in answer["message"]


# ------------------------------------------------------------------------------------------------- mirrors


async def test_mirrors_for_any_registry(tmp_path: Path, registry: FakeRegistry, server: TestServer) -> None:
    mirror = FakeRegistry()
    digest = mirror.add_image("cache/app", "latest", [BASE])
    registry.add_image("app", "latest", [BASE])
    name = address(server, "app")
    async with mirror.server() as place:
        rules = {"*": RegistryRule(mirrors=("http://127.0.0.1:1/dead", f"http://127.0.0.1:{place.port}"))}
        mirror.manifests["app", "latest"] = mirror.manifests["cache/app", "latest"]
        for owners in mirror.owners.values():
            owners.add("app")
        daemon = ImageRoom(tmp_path, RegistrySettings(attempts=2, certificates=(), rules=rules))
        auth = json.dumps({"username": "me", "password": "secret"})
        image = await daemon.images.pull(f"{name}:latest", None, lambda _: None, auth)
        assert image.id == digest
        assert not registry.requests, "the mirror had it all"
        assert not any("Authorization" in headers for _, _, headers in mirror.requests)
        # What the mirror loses meanwhile, the registry itself has.
        registry.add_image("app", "second", [TOP])
        layer = registry.layers("app", "second")[0]
        mirror.manifests["app", "second"] = registry.manifests["app", "second"]
        await daemon.images.pull(f"{name}:second", None, lambda _: None, "")
        assert registry.served[layer] == len(registry.blobs[layer])
        # A push goes to the registry alone.
        before = len(mirror.requests)
        await asyncio.wait_for(daemon.images.push(_reference(f"{name}:second"), None, lambda _: None), 10)
        assert len(mirror.requests) == before
        await daemon.close()


def _reference(name: str) -> Any:
    from gantry.model.reference import Reference

    return Reference.parse(name)


async def test_errors_of_a_registry_come_through(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    async def denied(request: web.Request) -> web.StreamResponse:
        return error_answer(403, "DENIED", "requested access to the resource is denied")

    registry.faults.append(denied)
    answer = await call("POST", "/images/create", fromImage=address(server, "x"), tag="y", status=404)
    assert answer["message"] == (
        f"pull access denied for {address(server, 'x')}, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied"
    )


# --------------------------------------------------------------------------------------- several platforms


async def test_platforms_in_lists_and_archives(call: Call, registry: FakeRegistry, server: TestServer) -> None:
    mine = registry.add_image("from", "", [BASE], architecture=HOST)
    theirs = registry.add_image("from", "", [TOP], architecture="s390x")
    index = registry.add_index("from", "latest", {f"linux/{HOST}": mine, "linux/s390x": theirs})
    name = address(server, "from")
    await pulled(call, name)
    (image,) = await call("GET", "/v1.48/images/json", manifests="1")
    about = {entry["ID"]: entry for entry in image["Manifests"]}
    assert image["Id"] == index
    assert (about[mine]["Available"], about[mine]["Kind"]) == (True, "image")
    assert about[mine]["ImageData"]["Platform"] == {"os": "linux", "architecture": HOST}
    parts = [registry.manifests["from", mine][1], *(registry.blobs[d] for d in registry.layers("from", mine))]
    assert about[mine]["Size"]["Content"] > sum(map(len, parts))
    assert about[mine]["Size"]["Total"] == about[mine]["Size"]["Content"] + about[mine]["ImageData"]["Size"]["Unpacked"]
    assert (about[theirs]["Available"], about[theirs]["ImageData"]["Size"]) == (False, {"Unpacked": 0})
    await pulled(call, name, platform="linux/s390x")
    answer = await call("GET", f"/images/{name}/json", platform=json.dumps({"os": "linux", "architecture": "s390x"}))
    assert (answer["Id"], answer["Architecture"]) == (index, "s390x")
    (image,) = await call("GET", "/v1.48/images/json", manifests="1")
    assert all(entry["Available"] for entry in image["Manifests"])
    assert not (await call("GET", "/v1.46/images/json", manifests="1"))[0].get("Manifests")


async def test_an_archive_of_one_platform(daemon: ImageRoom, registry: FakeRegistry, server: TestServer) -> None:
    mine = registry.add_image("from", "", [BASE], architecture=HOST)
    theirs = registry.add_image("from", "", [TOP], architecture="s390x")
    registry.add_index("from", "latest", {f"linux/{HOST}": mine, "linux/s390x": theirs})
    name, other = address(server, "from") + ":latest", Platform("linux", "s390x")
    for platform in (None, other):
        await daemon.images.pull(name, platform, lambda _: None)
    out = io.BytesIO()
    daemon.images.save([name], out, other)
    await daemon.images.remove(name)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        files = set(archive.getnames())
    assert "blobs/" + theirs.replace(":", "/") in files
    assert "blobs/" + mine.replace(":", "/") not in files

    async def chunks() -> AsyncIterator[bytes]:
        yield out.getvalue()

    with pytest.raises(NotFound, match="does not match the specified platform"):
        await daemon.images.load(chunks(), lambda _: None, platform=Platform("linux", "riscv64"))
    assert not list(daemon.content.walk())
    await daemon.images.load(chunks(), lambda _: None, platform=other)
    assert (await daemon.images.get(name)).id == theirs
    with pytest.raises(NotFound):
        await daemon.images.check_names([name], Platform("linux", "riscv64"))


# ------------------------------------------------------------------------------------------ TLS and others


async def test_certificates_are_checked(
    tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gantry.registry.endpoints._LOOPBACK", ())
    authority = Authority(tmp_path / "ca")
    pair = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    registry.add_image("app", "latest", [BASE])
    server = registry.server()
    await server.start_server(ssl=context)
    place = tmp_path / "certs.d" / f"localhost:{server.port}"
    daemon = ImageRoom(tmp_path, RegistrySettings(attempts=2, certificates=(tmp_path / "certs.d",)))
    name = f"localhost:{server.port}/app:latest"
    with pytest.raises(Unavailable, match="failed to verify certificate"):
        await daemon.images.pull(name, None, lambda _: None)
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes(authority.path.read_bytes())
    daemon.registries.reload(RegistrySettings(attempts=2, certificates=(tmp_path / "certs.d",)))
    await daemon.images.pull(name, None, lambda _: None)

    async def leave_tls(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(f"http://localhost:1{request.path}")

    registry.faults.append(leave_tls)
    with pytest.raises(InvalidArgument, match="leaves TLS and is not followed"):
        await daemon.images.pull(name, None, lambda _: None)
    await daemon.close()
    await server.close()


async def test_through_a_proxy(tmp_path: Path, registry: FakeRegistry) -> None:
    """Plain HTTP goes to the proxy with the whole address."""
    registry.add_image("app", "latest", [BASE])
    async with registry.server() as proxy:
        proxies = {"http-proxy": f"http://127.0.0.1:{proxy.port}", "no-proxy": "elsewhere.test"}
        rule = RegistryRule(server="http://registry.test")
        settings = RegistrySettings(attempts=1, certificates=(), proxies=proxies, rules={"docker.io": rule})
        daemon = ImageRoom(tmp_path, settings)
        registry.add_image("library/app", "latest", [BASE])
        await daemon.images.pull("app:latest", None, lambda _: None)
        assert {headers["Host"] for _, _, headers in registry.requests} == {"registry.test"}
        await daemon.close()


async def test_import_from_an_address(call: Call, daemon: ImageRoom) -> None:
    async def archive(request: web.Request) -> web.StreamResponse:
        if request.path == "/moved":
            raise web.HTTPFound("/root.tar")
        return web.Response(status=200 if request.path == "/root.tar" else 404, body=BASE)

    app = web.Application()
    app.router.add_get("/{path:.*}", archive)
    async with TestServer(app) as place:
        source = f"http://127.0.0.1:{place.port}"
        messages = await call("POST", "/images/create", fromSrc=f"{source}/moved", repo="made", tag="1")
        assert messages[0] == {"status": f"Downloading from {source}/moved"}
        image = await daemon.images.get("made:1")
        assert (messages[-1]["status"], image.comment) == (image.id, f"Imported from {source}/moved")
        messages = await call("POST", "/images/create", fromSrc=f"{source}/none")
        assert "unexpected status 404" in messages[-1]["error"]
        messages = await call("POST", "/images/create", fromSrc="ftp://127.0.0.1/x")
        assert "only http and https are" in messages[-1]["error"]
