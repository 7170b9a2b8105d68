"""A registry for tests that does what it is told: it cuts connections, lies, redirects, throttles, asks for tokens."""

import asyncio
import base64
import gzip
import hashlib
import json
import re
import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.test_utils import TestServer

from lib.archives import config, descriptor, sha256

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class FakeRegistry:
    """Repositories in memory. `faults` may answer a request before the registry does; `served` counts blob bytes."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.owners: dict[str, set[str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.faults: list[Fault] = []
        self.served: Counter[str] = Counter()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.users: dict[str, str] = {}
        self.token_service = ""  # URL of the realm; with `users` and without it, basic authentication is asked for
        self.tokens: dict[str, set[str]] = {}
        self.refresh: dict[str, str] = {}
        self.token_requests: list[dict[str, str]] = []
        self.public = False
        self.ranges = True
        self.mounts = True
        self.chunk = 64 << 10
        self.results: list[dict[str, Any]] = []
        self.app = web.Application(client_max_size=1 << 30)
        self.app.router.add_route("*", "/token", self._token)
        self.app.router.add_route("GET", "/v1/search", self._search)
        self.app.router.add_route("*", "/{path:.*}", self._handle)

    def server(self, **options: Any) -> TestServer:
        return TestServer(self.app, **options)

    # ------------------------------------------------------------------------------------------ content

    def add_blob(self, data: bytes, repository: str = "") -> str:
        digest = sha256(data)
        self.blobs[digest] = data
        self.owners.setdefault(digest, set()).add(repository)
        return digest

    def add_manifest(self, repository: str, tag: str, document: Mapping[str, Any] | bytes, media_type: str) -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = sha256(data)
        for name in (tag, digest):
            if name:
                self.manifests[repository, name] = media_type, data
        return digest

    def add_image(
        self,
        repository: str,
        tag: str,
        layers: Sequence[bytes],
        *,
        blobs: Sequence[bytes] | None = None,
        layer_type: str = OCI_GZIP,
        media_type: str = OCI_MANIFEST,
        config_type: str = OCI_CONFIG,
        diff_ids: Sequence[str] | None = None,
        manifest: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """An image of uncompressed `layers`, sent with gzip or as the given `blobs`; returns the manifest's digest."""
        sent = [gzip.compress(layer, 1, mtime=0) for layer in layers] if blobs is None else blobs
        about = config([sha256(layer) for layer in layers] if diff_ids is None else diff_ids, **fields)
        for blob in (about, *sent):
            self.add_blob(blob, repository)
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(about, config_type),
            "layers": [descriptor(blob, layer_type) for blob in sent],
            **(manifest or {}),
        }
        return self.add_manifest(repository, tag, document, media_type)

    def add_index(self, repository: str, tag: str, platforms: Mapping[str, str], **fields: Any) -> str:
        """An index; `platforms` has the digests of manifests by `os/architecture[/variant]`."""
        entries = []
        for text, digest in platforms.items():
            media_type, data = self.manifests[repository, digest]
            parts = dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))
            entries.append({**descriptor(data, media_type), "platform": parts})
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **fields}
        return self.add_manifest(repository, tag, document, OCI_INDEX)

    def layers(self, repository: str, tag: str) -> list[str]:
        document = json.loads(self.manifests[repository, tag][1])
        return [layer["digest"] for layer in document["layers"]]

    # --------------------------------------------------------------------------------------- what it does

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.headers)))
        for fault in list(self.faults):
            if (answer := await fault(request)) is not None:
                return answer
        if (refused := self._refused(request)) is not None:
            return refused
        path = request.path
        if path in ("/v2", "/v2/"):
            return web.json_response({})
        if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            return await self._manifest(request, *found.groups())
        if found := re.fullmatch(r"/v2/(.+)/blobs/uploads/([^/]*)", path):
            return await self._upload(request, *found.groups())
        if found := re.fullmatch(r"/v2/(.+)/blobs/([^/]+)", path):
            return await self._blob(request, *found.groups())
        if found := re.fullmatch(r"/v2/(.+)/tags/list", path):
            return self._tags(request, found[1])
        return web.Response(status=404)

    def _refused(self, request: web.Request) -> web.Response | None:
        if not self.users:
            return None
        given = request.headers.get("Authorization", "")
        if self.token_service:
            name = (re.match(r"/v2/(.+)/(?:manifests|blobs|tags)/", request.path) or [None, ""])[1]
            actions = "pull,push" if request.method not in ("GET", "HEAD") else "pull"
            scope = f"repository:{name}:{actions}" if name else ""
            granted = self.tokens.get(given.removeprefix("Bearer "), None)
            wanted = {f"repository:{name}:{action}" for action in actions.split(",")} if name else set()
            if granted is not None and wanted <= granted:
                return None
            challenge = f'Bearer realm="{self.token_service}",service="registry.test"'
            challenge += f',scope="{scope}"' if scope else ""
        else:
            if any(given == basic(*user) for user in self.users.items()):
                return None
            challenge = 'Basic realm="test"'
        error = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": None}]}
        return web.json_response(error, status=401, headers={"WWW-Authenticate": challenge})

    async def _token(self, request: web.Request) -> web.Response:
        form = {key: values[0] for key, values in parse_qs(await request.text()).items()}
        query = [*request.query.items(), *form.items()]
        about = dict(query)
        self.token_requests.append(about | {"authorization": request.headers.get("Authorization", "")})
        user = next((n for n, p in self.users.items() if request.headers.get("Authorization") == basic(n, p)), "")
        if about.get("grant_type") == "refresh_token":
            user = self.refresh.get(about["refresh_token"], "")
        asked_as_somebody = "Authorization" in request.headers or "grant_type" in about
        if not user and (asked_as_somebody or not self.public):
            return web.json_response({"details": "incorrect username or password"}, status=401)
        granted = set()
        for key, value in query:
            if key == "scope":
                for scope in value.split():
                    resource, _, actions = scope.rpartition(":")
                    granted |= {f"{resource}:{action}" for action in actions.split(",") if user or action == "pull"}
        token = secrets.token_hex(8)
        self.tokens[token] = granted
        answer = {"token": token, "expires_in": 300}
        if about.get("offline_token") and user:
            answer["refresh_token"] = secrets.token_hex(8)
            self.refresh[answer["refresh_token"]] = user
        return web.json_response(answer)

    async def _search(self, request: web.Request) -> web.Response:
        term = request.query["q"]
        found = [result for result in self.results if term in result["name"]]
        return web.json_response({"results": found[: int(request.query.get("n", 25))]})

    async def _manifest(self, request: web.Request, repository: str, version: str) -> web.Response:
        if request.method == "PUT":
            data = await request.read()
            digest = sha256(data)
            parts = json.loads(data)
            for part in (parts.get("layers") or []) + ([parts["config"]] if "config" in parts else []):
                if repository not in self.owners.get(part["digest"], set()):
                    return error_answer(404, "BLOB_UNKNOWN", f"blob unknown to registry: {part['digest']}")
            for part in parts.get("manifests") or []:
                if (repository, part["digest"]) not in self.manifests:
                    return error_answer(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
            self.add_manifest(repository, version, data, request.headers["Content-Type"])
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        if (repository, version) not in self.manifests:
            return error_answer(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, data = self.manifests[repository, version]
        return web.Response(body=data, headers={"Content-Type": media_type, "Docker-Content-Digest": sha256(data)})

    async def _blob(self, request: web.Request, repository: str, digest: str) -> web.StreamResponse:
        if digest not in self.blobs or repository not in self.owners[digest] | {""}:
            return error_answer(404, "BLOB_UNKNOWN", "blob unknown to registry")
        return await self.send(request, digest, self.blobs[digest])

    async def send(
        self, request: web.Request, digest: str, data: bytes, *, cut: int = -1, length: int = -1
    ) -> web.StreamResponse:
        """A blob or the range that is asked for; with `cut`, the connection ends after so many bytes."""
        start, end, status = 0, len(data), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        headers = {"Content-Type": "application/octet-stream"}
        if asked and self.ranges:
            start, end, status = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data)), 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        headers["Content-Length"] = str(end - start if length < 0 else length)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        at = start
        while at < end:
            piece = data[at : min(at + self.chunk, end, start + cut if cut >= 0 else end)]
            if not piece:
                break
            await response.write(piece)
            self.served[digest] += len(piece)
            at += len(piece)
        if cut >= 0 and at < end:
            await asyncio.sleep(0.02)  # what was sent arrives before the end
            assert request.transport is not None
            request.transport.close()
        return response

    async def _upload(self, request: web.Request, repository: str, session: str) -> web.Response:
        base = f"/v2/{repository}/blobs/uploads/"
        if request.method == "POST":
            digest, source = request.query.get("mount", ""), request.query.get("from", "")
            if self.mounts and source in self.owners.get(digest, set()):
                self.owners[digest].add(repository)
                return web.Response(status=201, headers={"Docker-Content-Digest": digest})
            session = secrets.token_hex(8)
            self.uploads[session] = bytearray()
            return web.Response(status=202, headers={"Location": f"{base}{session}?state=x", "Range": "0-0"})
        if session not in self.uploads:
            return error_answer(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        held = self.uploads[session]
        place = {"Location": f"{base}{session}?state=x", "Range": f"0-{max(len(held) - 1, 0)}"}
        if request.method == "GET":
            return web.Response(status=204, headers=place)
        if request.method == "DELETE":
            del self.uploads[session]
            return web.Response(status=204)
        asked = request.headers.get("Content-Range", "")
        if asked and int(asked.partition("-")[0]) != len(held):
            return web.Response(status=416, headers=place)
        async for piece in request.content.iter_any():
            held += piece
        if request.method == "PATCH":
            place["Range"] = f"0-{max(len(held) - 1, 0)}"
            return web.Response(status=202, headers=place)
        digest = request.query["digest"]
        if "sha256:" + hashlib.sha256(held).hexdigest() != digest:
            return error_answer(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.add_blob(bytes(held), repository)
        del self.uploads[session]
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})

    def _tags(self, request: web.Request, repository: str) -> web.Response:
        tags = sorted(tag for name, tag in self.manifests if name == repository and ":" not in tag)
        if not tags:
            return error_answer(404, "NAME_UNKNOWN", "repository name not known to registry")
        last, count = request.query.get("last", ""), min(int(request.query.get("n", 1000)), 2)
        page = [tag for tag in tags if tag > last][:count]
        headers = {}
        if page and page[-1] != tags[-1]:
            headers["Link"] = f'</v2/{repository}/tags/list?last={page[-1]}&n={count}>; rel="next"'
        return web.json_response({"name": repository, "tags": page}, headers=headers)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def error_answer(status: int, code: str, message: str, **options: Any) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status, **options)


def once(pattern: str, answer: Callable[[web.Request], Awaitable[web.StreamResponse | None]], times: int = 1) -> Fault:
    """A fault for the first `times` requests whose `METHOD /path` matches."""
    left = [times]

    async def fault(request: web.Request) -> web.StreamResponse | None:
        if left[0] and re.search(pattern, f"{request.method} {request.path}"):
            left[0] -= 1
            return await answer(request)
        return None

    return fault


@contextmanager
def serving(registry: FakeRegistry) -> Iterator[int]:
    """Serve from a thread of its own, for tests without an event loop; gives the port on 127.0.0.1."""
    loop = asyncio.new_event_loop()
    server = registry.server()
    thread = threading.Thread(target=loop.run_forever, name="fake-registry")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start_server(), loop).result(10)
        assert server.port
        yield server.port
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
