"""What users ask registries through the daemon: logins, searches, what is behind a name."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from gantry.engine.image_pull import explained
from gantry.errors import GantryError, InvalidArgument
from gantry.model.image import Descriptor
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.ports import Registries, Remote


class Distribution:
    """The use cases of `/auth`, `/images/search` and `/distribution`."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def login(self, auth: str) -> str:
        """Returns an identity token, "" for none; raises Unauthorized."""
        return await self._registries.login(auth)

    async def search(self, term: str, auth: str, limit: int) -> list[dict[str, Any]]:
        """`limit` is 1 to 100; raises InvalidArgument."""
        if not 1 <= limit <= 100:
            raise InvalidArgument(f"limit {limit} is outside the range of [1, 100]")
        if not term:
            raise InvalidArgument("search term is required")
        return await self._registries.search(term, auth, limit)

    def download(self, url: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What is at an http or https address, for `import`."""
        return self._registries.download(url if "://" in url else f"http://{url}")

    async def inspect(self, reference: Reference, auth: str) -> tuple[Descriptor, list[dict[str, Any]]]:
        """What a name means at its registry, and for which platforms."""
        remote = self._registries.repository(reference, auth)
        try:
            top, data = await remote.manifest(reference.digest or reference.tag)
        except GantryError as error:
            raise explained(error, reference) from error
        return top, await platforms(remote, top, data)


async def platforms(remote: Remote, top: Descriptor, data: bytes) -> list[dict[str, Any]]:
    """The platforms of an index, or the one of a manifest's configuration ([] for an artifact)."""
    if top.media_type in documents.INDEXES:
        return [part.platform for part in documents.decode_index(data).manifests if part.platform]
    manifest = documents.decode_manifest(data)
    if manifest.config.media_type not in documents.CONFIGS:
        return []
    config = documents.decode_config(await remote.read(manifest.config, documents.MANIFEST_LIMIT))
    plain = {"architecture": config.architecture, "os": config.os, "variant": config.variant}
    return [{key: value for key, value in plain.items() if value}]
