"""`GET /system/df`."""

from typing import Any

import msgspec
from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.query import boolean
from gantry.api.routing import Route, api_version
from gantry.build.builder import Builder
from gantry.build.cache import CacheRecord
from gantry.engine.disk import Disk, DiskUsage
from gantry.errors import InvalidArgument
from gantry.model.timestamp import rfc3339
from gantry.wire import containers as containers_wire
from gantry.wire import disk as wire
from gantry.wire import images as images_wire


def routes(disk: Disk, builder: Builder) -> list[Route]:
    async def usage(request: web.Request) -> web.Response:
        kinds = request.query.getall("type", [])
        for kind in kinds:
            if kind not in wire.KINDS:
                raise InvalidArgument(f"unknown object type: {kind}")
        version = api_version(request)
        found = await disk.usage()
        return json_answer(
            wire.usage(
                kinds,
                version,
                verbose=boolean(request, "verbose"),
                layers=found.layers,
                images=[
                    images_wire.summary(each.image, each.containers, each.shared) | {"Size": each.size}
                    for each in found.images
                ],
                containers=_containers(found, version),
                volumes=[
                    msgspec.to_builtins(volume) | {"UsageData": {"Size": size, "RefCount": users}}
                    for volume, size, users in found.volumes
                ],
                cache=[_cached(record) for record in await builder.cache_records()],
            )
        )

    return [Route("GET", "/system/df", usage)]


def _cached(record: CacheRecord) -> dict[str, Any]:
    """`BuildCache`: one step's result."""
    return {
        "ID": record.key.rpartition(":")[2],
        "Type": "regular",
        "Description": record.history.created_by,
        "InUse": False,
        "Shared": False,
        "Size": record.layer.unpacked_size if record.layer else 0,
        "CreatedAt": rfc3339(record.created_at),
        "LastUsedAt": rfc3339(record.last_used) if record.last_used else None,
        "UsageCount": record.uses,
    }


def _containers(found: DiskUsage, version: tuple[int, int]) -> list[dict[str, Any]]:
    sizes = {each.image.id: each.unpacked for each in found.images}
    return [
        containers_wire.summary(container, {}, version, (writable, writable + sizes.get(container.image_id, 0)))
        for container, writable in found.containers
    ]
