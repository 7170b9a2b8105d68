"""Stores, registry clients and the use cases of images on one temporary directory: a daemon without containers."""

from pathlib import Path

from gantry.aio import TaskOwner
from gantry.engine.events import EventBus
from gantry.engine.image_layers import LayerPuller
from gantry.engine.image_pull import Puller
from gantry.engine.image_push import Pusher
from gantry.engine.images import Images
from gantry.registry.client import RegistryClient
from gantry.registry.settings import RegistrySettings
from gantry.store.content import BlobStore
from gantry.store.layers import OverlayLayers
from gantry.store.leases import MemoryLeases
from gantry.store.snapshots import OverlaySnapshotter
from gantry.store.state import SQLiteState


class ImageRoom:
    """Make another one on the same directory for a daemon that was started again."""

    def __init__(self, root: Path, settings: RegistrySettings) -> None:
        self.root = root
        self.owner = TaskOwner("test")
        self.state = SQLiteState(root / "state.db")
        self.content = BlobStore(root / "content")
        self.snapshots = OverlaySnapshotter(root / "snap", self.state)
        self.layers = OverlayLayers(self.content, self.snapshots, root / "mounts")
        self.events = EventBus()
        leases = MemoryLeases()
        self.images = Images(self.state, self.content, self.snapshots, self.layers, leases, self.events)
        self.registries = RegistryClient(settings)
        downloads = LayerPuller(self.content, self.snapshots, self.layers, self.owner, settings.downloads)
        store = self.images.store
        self.puller = Puller(self.state, store, self.images.collector, leases, self.registries, downloads, self.owner)
        self.images.puller = self.puller
        self.images.pusher = Pusher(store, leases, self.registries, self.owner, settings.uploads)

    async def close(self) -> None:
        await self.owner.close()
        await self.registries.close()
        self.state.close()

    def contents(self) -> tuple[set[str], set[str], set[str]]:
        """Blobs, snapshots, and what has come of unfinished blobs."""
        ingest = {path.name for path in (self.root / "content/ingest").iterdir()}
        return {blob.digest for blob in self.content.walk()}, {info.key for info in self.snapshots.walk()}, ingest

    def file(self, name: str, path: str) -> Path:
        """A file of an image, in the topmost layer that has it."""
        image = self.images.store.view(self.images.store.lookup(name)[0])
        for layer in self.snapshots.layers(image.chain_id):
            if (layer / path).exists():
                return layer / path
        raise AssertionError(f"{path} is not in {name}")
