"""The registries of the world, as the engine sees them: repositories, logins, searches."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from gantry.aio import run_blocking
from gantry.errors import GantryError, InvalidArgument
from gantry.model.reference import DEFAULT_DOMAIN, Reference
from gantry.registry.auth import Credentials
from gantry.registry.endpoints import HUB_NAMES, Endpoint
from gantry.registry.errors import Unreachable
from gantry.registry.repository import RemoteRepository
from gantry.registry.settings import RegistrySettings
from gantry.registry.transport import Channel, Transport, attempts

_INDEX = "https://index.docker.io"
_SEARCH_LIMIT = 4 << 20


class _Found(msgspec.Struct, frozen=True):
    results: list[dict[str, Any]] | None = None


class RegistryClient:
    """Implements `ports.Registries`."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._transport = Transport(settings)
        self._former: list[Transport] = []

    async def close(self) -> None:
        for transport in (self._transport, *self._former):
            await transport.close()

    def reload(self, settings: RegistrySettings) -> None:
        """Take over a reloaded configuration; what is under way ends as it began."""
        self._former.append(self._transport)
        self._transport = Transport(settings)

    @asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InvalidArgument(f"import from {url!r} is not possible: only http and https are")
        endpoint = Endpoint(f"{parts.scheme}://{parts.netloc}", parts.netloc)
        async with Channel(self._transport, endpoint, Credentials()).call("GET", url) as response:
            yield response.content.iter_any()

    def repository(self, reference: Reference, auth: str, *, push: bool = False) -> RemoteRepository:
        return RemoteRepository(self._transport, reference, Credentials.decode(auth), push=push)

    async def login(self, auth: str) -> str:
        """Docker's `login`: the registry's base is asked with the credentials; raises Unauthorized."""
        credentials = Credentials.decode(auth)
        registry = _registry(credentials.serveraddress)
        found = await run_blocking(self._transport.endpoints.of, registry, push=True)
        first: GantryError | None = None
        for endpoint in found:
            channel = Channel(self._transport, endpoint, credentials, offline=not credentials.identitytoken)
            try:
                token: str = await attempts(self._transport.settings.attempts, functools.partial(_login, channel))
            except Unreachable as error:
                first = first or error
                if endpoint is found[-1]:
                    raise first from error
            else:
                return token
        raise AssertionError  # the last endpoint answers or raises

    async def search(self, term: str, auth: str, limit: int) -> list[dict[str, Any]]:
        credentials = Credentials.decode(auth)
        head, slash, rest = term.partition("/")
        registry, name = (head, rest) if slash and ("." in head or ":" in head or head == "localhost") else ("", term)
        endpoints = await run_blocking(self._transport.endpoints.of, registry or DEFAULT_DOMAIN, push=True)
        own = endpoints[0].url != "https://registry-1.docker.io"
        if not own:
            endpoints = [msgspec.structs.replace(endpoints[0], url=_INDEX)]
        if registry in HUB_NAMES or not registry:
            name = name.removeprefix("library/")
        path = "/v1/search?" + urlencode({"q": name, "n": limit})
        for endpoint in endpoints:
            channel = Channel(self._transport, endpoint, credentials)
            try:
                return await attempts(self._transport.settings.attempts, functools.partial(_search, channel, path))
            except Unreachable:
                if endpoint is endpoints[-1]:
                    raise
        raise AssertionError  # the last endpoint answers or raises


def _registry(address: str) -> str:
    """The registry of a `serveraddress`: a host name, or an address such as `https://index.docker.io/v1/`."""
    host = address.partition("://")[2] or address
    return host.partition("/")[0] or DEFAULT_DOMAIN


async def _login(channel: Channel) -> str:
    async with channel.call("GET", "/v2/"):
        return channel.refresh


async def _search(channel: Channel, path: str) -> list[dict[str, Any]]:
    async with channel.call("GET", path, headers={"X-Docker-Token": "true"}) as response:
        data = await channel.read(response, _SEARCH_LIMIT)
    try:
        return msgspec.json.decode(data, type=_Found).results or []
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"invalid search results of {channel.endpoint.host}: {error}") from error
