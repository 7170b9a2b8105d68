"""The result of a build step: an image in the making."""

import hashlib

import msgspec

from gantry.model.container import ContainerConfig
from gantry.model.image import HistoryEntry
from gantry.model.platform import Platform
from gantry.ports import LayerInfo


class BuildState(msgspec.Struct, frozen=True):
    """`image_id` is "" for `scratch` before its first step; `chain_id` names the file system ("" for an empty one)."""

    image_id: str = ""
    chain_id: str = ""
    layers: tuple[LayerInfo, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    config: ContainerConfig = ContainerConfig()
    platform: Platform = Platform()
    author: str = ""

    @property
    def identity(self) -> str:
        """What the keys of steps on top of this one are made of."""
        return self.image_id or f"scratch {self.platform}"


def key_of(*parts: str) -> str:
    """A cache key: each part is framed, so that no two lists of parts give the same."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()
