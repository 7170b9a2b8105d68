"""A registry server in this process, on a real socket, and a client that knows the protocol's plain requests."""

import asyncio
import hashlib
import io
import json
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from gantry.daemon.registry import authenticator, listen, tls_context
from gantry.daemon.registry_storage import open_stock
from gantry.registry.server import config_file
from gantry.registry.server.config import Config
from gantry.registry.server.operation import Registry

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Answer(NamedTuple):
    """A response, read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first error's code."""
        return str(self.json["errors"][0]["code"])


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Client:
    """Requests to one registry."""

    def __init__(self, session: aiohttp.ClientSession, url: str, registry: Registry | None = None) -> None:
        self.session = session
        self.url = url
        self.headers: dict[str, str] = {}
        self._registry = registry

    @property
    def registry(self) -> Registry:
        """The server, where it is in this process."""
        assert self._registry is not None
        return self._registry

    async def __call__(
        self, method: str, path: str, data: Any = None, *, headers: dict[str, str] | None = None, **options: Any
    ) -> Answer:
        text = path if path.startswith("http") else self.url + path
        url = URL(quote(text, safe="/:?&=%.~+@!$,;[]#'()*"), encoded=True)  # what is odd must reach the server
        if isinstance(data, bytes) and len(data) > 1 << 19:
            data = io.BytesIO(data)
        async with self.session.request(
            method, url, data=data, headers={**self.headers, **(headers or {})}, allow_redirects=False, **options
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    def under(self, location: str) -> str:
        """A Location header as a URL."""
        return location if location.startswith("http") else self.url + location

    async def push_blob(self, name: str, data: bytes) -> dict[str, Any]:
        """Push monolithically with POST and PUT; the descriptor."""
        start = await self("POST", f"/v2/{name}/blobs/uploads/")
        assert start.status == 202, start
        location = self.under(start.headers["Location"])
        digest = sha256(data)
        done = await self("PUT", f"{location}?digest={digest}", data)
        assert done.status == 201, done
        return {"mediaType": OCI_LAYER, "digest": digest, "size": len(data)}

    async def push_image(self, name: str, reference: str, *layers: bytes, **fields: Any) -> tuple[str, bytes]:
        """Push a small image; digest and bytes of its manifest."""
        config = {**await self.push_blob(name, b'{"architecture":"amd64","os":"linux"}'), "mediaType": OCI_CONFIG}
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": [await self.push_blob(name, layer) for layer in layers],
            **fields,
        }
        data = json.dumps(manifest).encode()
        answer = await self.push_manifest(name, reference or sha256(data), data)
        assert answer.status == 201, answer
        return sha256(data), data

    async def push_manifest(self, name: str, reference: str, data: bytes, kind: str = OCI_MANIFEST) -> Answer:
        return await self("PUT", f"/v2/{name}/manifests/{reference}", data, headers={"Content-Type": kind})


def configuration(text: str) -> Config:
    config, warnings = config_file.load(text.encode(), {}, "test")
    assert not warnings
    return config


def storage_of(directory: Path) -> str:
    return f"storage: {{filesystem: {{rootdirectory: '{directory}'}}, delete: {{enabled: true}}}}"


@contextmanager
def object_store() -> Iterator[str]:
    """An object store in this process (moto's server) with the bucket `registry`; its URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest"}
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="registry")
        client.close()
        yield endpoint
    finally:
        server.stop()


def bucket_of(endpoint: str, directory: Path, *, redirect: bool = False) -> str:
    """The `storage` section for a prefix of its own in that store's bucket."""
    return (
        f"storage: {{s3: {{bucket: registry, regionendpoint: '{endpoint}', accesskey: test, secretkey: testtest, "
        f"rootdirectory: /some/{secrets.token_hex(4)}, stagingdirectory: '{directory}'}}, "
        f"redirect: {{disable: {str(not redirect).lower()}}}, delete: {{enabled: true}}}}"
    )


@asynccontextmanager
async def serving(text: str) -> AsyncIterator[Client]:
    """Serve with this configuration (its http.addr is ours) on a free port of the loopback interface."""
    config = configuration(text)
    depot = open_stock(config.storage, config.gantry.collect.grace / 4).depot()
    registry = Registry(config, depot, authenticator(config), deletes=config.storage.delete.enabled)
    [listening] = listen("127.0.0.1:0")
    context = tls_context(config.http.tls) if config.http.tls.certificate else None
    async with registry:
        factory = registry.app.server()
        server = await asyncio.get_running_loop().create_server(factory, sock=listening, ssl=context)
        address = f"{'https' if context else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
            yield Client(session, address, registry)
        server.close()
        factory.pre_shutdown()
        await factory.shutdown(5)
