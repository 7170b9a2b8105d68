"""Manifests and discovery: end-3, end-7, end-8a, end-8b, end-9, end-12a, end-12b, and the catalog of Distribution."""

import functools
from collections.abc import Iterator
from itertools import islice

import msgspec
from aiohttp import web

from gantry.aio import run_blocking
from gantry.model.digest import Digest
from gantry.oci.documents import MANIFEST_LIMIT, OCI_INDEX
from gantry.registry.server import body, names, urls
from gantry.registry.server.access import Action
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.exchange import Exchange
from gantry.registry.server.service import Service

_REFERRERS = 500
"""Descriptors per page of the referrers API."""


async def get(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-3: GET and HEAD."""
    service.need(exchange, Action.PULL)
    reference = names.reference(exchange.argument)
    found = await run_blocking(service.manifests.get, exchange.repository, reference)
    etag = f'"{found.digest}"'
    headers = {"Docker-Content-Digest": str(found.digest), "ETag": etag, "Content-Type": found.media_type}
    if etag in exchange.header("If-None-Match"):
        return web.Response(status=304, headers=headers)
    if exchange.request.method == "HEAD":
        response = web.StreamResponse(headers={**exchange.headers, **headers})
        response.content_length = len(found.data)
        return response
    tag = "" if isinstance(reference, Digest) else reference
    exchange.tell("pull", digest=found.digest, tag=tag, media_type=found.media_type, size=len(found.data))
    return web.Response(body=found.data, headers=headers)


async def put(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-7."""
    service.need_write(exchange, Action.PUSH, Action.CREATE)
    reference = names.reference(exchange.argument)
    data = await body.whole(exchange.request, MANIFEST_LIMIT, service.idle)
    tag = "" if isinstance(reference, Digest) else reference
    done = await run_blocking(
        service.manifests.put,
        exchange.repository,
        reference,
        data,
        exchange.header("Content-Type"),
        may_replace=service.may_replace(exchange, tag),
        may_grow=service.room(exchange),
    )
    headers = {
        "Location": exchange.location(f"manifests/{done.digest}"),
        "Docker-Content-Digest": str(done.digest),
    }
    if done.pushed.subject is not None:
        headers["OCI-Subject"] = str(done.pushed.subject)
    exchange.tell(
        "push",
        digest=done.digest,
        tag=tag,
        media_type=done.pushed.media_type,
        size=done.size,
        detail=f"the tag named {done.replaced}" if done.replaced else "",
        references=(*done.pushed.blobs, *done.pushed.manifests),
    )
    return web.Response(status=201, headers=headers)


async def delete(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-9."""
    service.need_delete(exchange)
    reference = names.reference(exchange.argument)
    repository = exchange.repository
    if isinstance(reference, Digest):
        may_delete = functools.partial(service.refuse_immutable, repository)
        tags = await run_blocking(service.manifests.delete, repository, reference, may_delete)
        exchange.tell("delete", digest=reference, detail=f"with tags {', '.join(tags)}" if tags else "")
    else:
        service.refuse_immutable(repository, [reference])
        digest = await run_blocking(service.manifests.delete_tag, repository, reference)
        exchange.tell("delete", digest=digest, tag=reference)
    service.quotas.forget()
    return web.Response(status=202)


async def delete_repository(service: Service, exchange: Exchange) -> web.StreamResponse:
    """Ours: DELETE /v2/<name>/_gantry/repository."""
    service.need_delete(exchange)
    repository = exchange.repository
    may_delete = functools.partial(service.refuse_immutable, repository)
    await run_blocking(service.manifests.delete_repository, repository, may_delete)
    service.quotas.forget()
    exchange.tell("delete", detail="the whole repository")
    return web.Response(status=202)


async def tags(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-8a, and end-8b with `n` and `last`."""
    service.need(exchange, Action.PULL)
    query = exchange.request.query
    count = urls.integer(query, "n")
    last = query.get("last", "")
    found = await run_blocking(_tags, service, exchange.repository)
    found = [tag for tag in found if tag > last] if last else found
    headers = {}
    if count is not None and len(found) > count:
        found = found[:count]
        if found:
            path = f"/v2/{exchange.repository}/tags/list"
            headers["Link"] = urls.next_link(exchange.base + path, last=found[-1], n=str(count))
    return _json({"name": exchange.repository, "tags": found}, headers=headers)


def _tags(service: Service, repository: str) -> list[str]:
    found = service.depot.tags(repository)
    if not found:
        service.depot.require_repository(repository)
    return found


async def referrers(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-12a, and end-12b with `artifactType`."""
    service.need(exchange, Action.PULL)
    subject = names.digest(exchange.argument)
    query = exchange.request.query
    wanted = query.get("artifactType", "")
    found, after = await run_blocking(
        service.manifests.referrers, exchange.repository, subject, query.get("last", ""), _REFERRERS
    )
    headers = {}
    if wanted:
        found = [each for each in found if each.artifact_type == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    if after:
        path = f"/v2/{exchange.repository}/referrers/{subject}"
        headers["Link"] = urls.next_link(exchange.base + path, last=after, artifactType=wanted)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
    return _json(index, OCI_INDEX, headers)


async def catalog(service: Service, exchange: Exchange) -> web.StreamResponse:
    """`/v2/_catalog` of Distribution: the repositories that the account may pull from, page by page.

    `n` is bounded by catalog.maxentries; no request makes the registry hold more names than that.
    """
    granted = exchange.identity.granted
    if granted is not None and "*" not in granted.get("registry:catalog", ()):
        challenge = service.auth.challenge("registry:catalog", (), "insufficient_scope")
        raise RegistryError("UNAUTHORIZED", "catalog", headers={"WWW-Authenticate": challenge})
    if granted is None:
        service.need(exchange, Action.PULL)
    query = exchange.request.query
    count = urls.integer(query, "n")
    limit = service.config.catalog.maxentries if count is None else min(count, service.config.catalog.maxentries)
    found = await run_blocking(_repositories, service, exchange, query.get("last", ""), limit + 1)
    headers = {}
    if len(found) > limit:
        found = found[:limit]
        if found:
            link = urls.next_link(f"{exchange.base}/v2/_catalog", last=found[-1], n=str(limit))
            headers["Link"] = link
    return _json({"repositories": found}, headers=headers)


def _repositories(service: Service, exchange: Exchange, last: str, limit: int) -> list[str]:
    def visible() -> Iterator[str]:
        for name in service.depot.repositories(last):
            if exchange.identity.granted is not None or service.access.allows(exchange.identity, Action.PULL, name):
                yield name

    return list(islice(visible(), limit))


async def base(service: Service, exchange: Exchange) -> web.StreamResponse:
    """end-1: whether this is a registry, and whether the client is known to it."""
    if service.login and not exchange.identity.account and exchange.identity.granted is None:
        raise RegistryError("UNAUTHORIZED", headers={"WWW-Authenticate": service.auth.challenge("", ())})
    return _json({})


def _json(value: object, content_type: str = "application/json", headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=content_type, headers=headers)
