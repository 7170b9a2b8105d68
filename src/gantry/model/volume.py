"""Volumes, under the Engine API's field names."""

import msgspec

from gantry.model.golang import go_name


class Volume(msgspec.Struct, frozen=True, rename=go_name):
    name: str
    driver: str
    mountpoint: str
    created_at: str
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    scope: str = "local"
    anonymous: bool = False
