"""`/volumes` as JSON: requests in, documents out."""

from typing import Any

import msgspec

from gantry.model.golang import go_name
from gantry.model.volume import Volume


class VolumeCreate(msgspec.Struct, frozen=True, rename=go_name):
    """Body of `POST /volumes/create`."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}


def volume(shown: Volume) -> dict[str, Any]:
    return {
        "CreatedAt": shown.created_at,
        "Driver": shown.driver,
        "Labels": shown.labels,
        "Mountpoint": shown.mountpoint,
        "Name": shown.name,
        "Options": shown.options,
        "Scope": shown.scope,
    }


def usage(size: int, references: int) -> dict[str, int]:
    """`UsageData`, which `/system/df` adds to a volume."""
    return {"Size": size, "RefCount": references}
