"""What is on disk: `docker system df`."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from gantry.aio import run_blocking
from gantry.errors import NotFound
from gantry.model.container import Container
from gantry.model.image import Image
from gantry.model.volume import Volume
from gantry.ports import LayerInfo, Snapshotter, Volumes, VolumeUse


class ImageUsage(msgspec.Struct, frozen=True):
    """Bytes of one image's layers (blobs and unpacked files), how many of them other images have as well, its users.

    `unpacked` are the bytes of the files alone.
    """

    image: Image
    size: int
    shared: int
    containers: int
    unpacked: int


class DiskUsage(msgspec.Struct, frozen=True):
    """What is on disk. Sizes in bytes; `containers` are the writable layers, `layers` counts each layer once."""

    layers: int
    images: tuple[ImageUsage, ...]
    containers: tuple[tuple[Container, int], ...]
    volumes: tuple[tuple[Volume, int, int], ...]


class ImageLayers(Protocol):
    """What of the images is asked here."""

    async def all(self, *, intermediate: bool = False) -> Sequence[Image]: ...

    async def layer_infos(self, image: Image) -> Sequence[LayerInfo]: ...


class Disk:
    """Adds up layers, writable layers and volumes."""

    def __init__(
        self,
        containers: Iterable[Container],
        images: ImageLayers,
        volumes: Volumes,
        use: VolumeUse,
        snapshots: Snapshotter,
    ) -> None:
        self._containers = containers
        self._images = images
        self._volumes = volumes
        self._use = use
        self._snapshots = snapshots

    async def usage(self) -> DiskUsage:
        """Walks every writable layer and volume; what goes away meanwhile counts as nothing."""
        containers = tuple(self._containers)
        layers, images = await self._image_usage(containers)
        return DiskUsage(
            layers,
            images,
            tuple([(each, await run_blocking(self._writable, each.id)) for each in containers]),
            tuple(
                [
                    (each, await self._use.size(each.name), len(self._use.in_use(each.name)))
                    for each in await self._volumes.list()
                ]
            ),
        )

    async def _image_usage(self, containers: Sequence[Container]) -> tuple[int, tuple[ImageUsage, ...]]:
        images = await self._images.all(intermediate=True)
        layers = {image.id: await self._images.layer_infos(image) for image in images}
        users: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for found in layers.values():
            for diff_id, size in {layer.diff_id: _bytes(layer) for layer in found}.items():
                users[diff_id] = users.get(diff_id, 0) + 1
                sizes[diff_id] = size
        return sum(sizes.values()), tuple(
            ImageUsage(
                image,
                sum(_bytes(layer) for layer in layers[image.id]),
                sum(_bytes(layer) for layer in layers[image.id] if users[layer.diff_id] > 1),
                sum(container.image_id == image.id for container in containers),
                sum(layer.unpacked_size for layer in layers[image.id]),
            )
            for image in images
        )

    def _writable(self, key: str) -> int:
        try:
            return self._snapshots.usage(key)
        except NotFound:
            return 0


def _bytes(layer: LayerInfo) -> int:
    """What a layer takes: its blob, which is kept for pushes, and its files."""
    return layer.size + layer.unpacked_size
