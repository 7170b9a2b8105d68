"""Docker's `pull`: from a reference to an image that is ready to run."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gantry.aio import TaskOwner, run_blocking
from gantry.engine.image_garbage import Collector
from gantry.engine.image_index import NESTING
from gantry.engine.image_layers import LayerPuller, caught
from gantry.engine.image_store import ImageStore
from gantry.engine.transfers import Transfers
from gantry.errors import Forbidden, GantryError, Internal, InvalidArgument, NotFound, Unauthorized, Unsupported
from gantry.model import timestamp
from gantry.model.digest import Digest
from gantry.model.image import Descriptor
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.oci import documents
from gantry.ports import LeaseHandle, Leases, ProgressSink, Registries, Remote, State, Table

log = logging.getLogger(__name__)

UNFINISHED = 86400 * 1_000_000_000  # nanoseconds for which the parts of an interrupted pull are kept
_ATTESTATION = "vnd.docker.reference.digest"
_NESTED = 16  # indexes of one level that are searched
_ATTESTATION_LIMIT = 32 << 20  # bytes of one image's attestations


class PullRecord(msgspec.Struct, frozen=True):
    """What a pull is putting together: digests and chain IDs, safe from the collector while the record is young."""

    key: str
    resources: tuple[str, ...]
    begun_at: int


PULLS = Table("pull", PullRecord)


class Target(msgspec.Struct, frozen=True):
    """What a reference names (`top`: an index or a manifest), and the manifest in it that is wanted.

    `between` are the indexes in `top` that lead to the manifest.
    """

    top: Descriptor
    top_data: bytes
    manifest: Descriptor
    manifest_data: bytes
    between: tuple[bytes, ...] = ()


class Puller:
    """Brings images from registries into the store. One object serves the daemon."""

    def __init__(
        self,
        state: State,
        store: ImageStore,
        collector: Collector,
        leases: Leases,
        registries: Registries,
        layers: LayerPuller,
        owner: TaskOwner,
    ) -> None:
        self._state = state
        self._store = store
        self._collector = collector
        self._leases = leases
        self._registries = registries
        self._layers = layers
        self._images = Transfers(owner)
        self._running: dict[str, int] = {}
        collector.roots.append(self._unfinished)

    # --------------------------------------------------------------------------------------- unfinished

    def _unfinished(self) -> Iterable[str]:
        """The parts of interrupted pulls: whoever tries again need not fetch them again."""
        since = timestamp.now() - UNFINISHED
        with self._state.view() as tx:
            for record in tx.list(PULLS):
                if record.begun_at > since:
                    yield from record.resources

    def forget_unfinished(self, *, older: int = 0) -> int:
        """Blocking. Let the parts of interrupted pulls go; returns the bytes of half-fetched blobs that went."""
        since = timestamp.now() - older
        with self._state.update() as tx:
            for record in list(tx.list(PULLS)):
                if record.begun_at <= since and record.key not in self._running:
                    tx.delete(PULLS, record.key)
        return self._store.content.forget_partials(older=older)

    def _note(self, key: str, resources: Iterable[str]) -> None:
        with self._state.update() as tx:
            tx.put(PULLS, key, PullRecord(key, tuple(resources), timestamp.now()))

    def _strike(self, key: str) -> None:
        with self._state.update() as tx:
            tx.delete(PULLS, key)

    # ---------------------------------------------------------------------------------------------- pull

    async def pull(self, reference: Reference, platform: Platform | None, progress: ProgressSink, auth: str) -> str:
        """Fetch one image, and give it the reference's name; returns its id. Raises with Docker's words."""
        newer, image_id = await self._pull(reference, platform, progress, auth)
        progress({"status": status(reference.familiar, newer=newer)})
        return image_id

    async def pull_all(
        self, repository: Reference, platform: Platform | None, progress: ProgressSink, auth: str
    ) -> list[str]:
        """Fetch every tag of a repository; returns the ids."""
        remote = self._registries.repository(repository, auth)
        try:
            tags = await remote.tags()
        except GantryError as error:
            raise explained(error, repository) from error
        newer, found = False, []
        for tag in tags:
            reference = Reference.parse(f"{repository.repository}:{tag}")
            fresh, image_id = await self._pull(reference, platform, progress, auth)
            newer = newer or fresh
            found.append(image_id)
        progress({"status": status(repository.familiar_name, newer=newer)})
        return found

    async def _pull(
        self, reference: Reference, platform: Platform | None, progress: ProgressSink, auth: str
    ) -> tuple[bool, str]:
        remote = self._registries.repository(reference, auth)
        version = reference.digest or reference.tag
        try:
            top, data = await remote.manifest(version)
        except Unauthorized as error:
            if "denied" in error.message:
                raise explained(error, reference) from error
            raise Internal(error.message) from error  # Docker's status: its client would ask for a login after 401
        except GantryError as error:
            raise explained(error, reference) from error
        shown = str(reference) if reference.digest else reference.tag
        progress({"status": f"Pulling from {reference.path}", "id": shown})
        target = await self._choose(remote, top, data, platform)
        before = await run_blocking(self._present)
        try:
            with self._leases.lease() as lease:
                await self._complete(remote, reference, target, platform, progress, lease)
                newer = await run_blocking(self._register, target, reference)
        except (InvalidArgument, NotFound, Unsupported):
            await run_blocking(self._undo, target, before)
            raise
        progress({"status": f"Digest: {top.digest}"})
        return newer, top.digest

    async def _choose(self, remote: Remote, top: Descriptor, data: bytes, platform: Platform | None) -> Target:
        if top.media_type not in documents.INDEXES:
            return Target(top, data, top, data)
        chosen, between = await _search(remote, data, platform)
        found, manifest = await _announced(remote, chosen)
        return Target(top, data, found, manifest, between)

    async def _complete(
        self,
        remote: Remote,
        reference: Reference,
        target: Target,
        platform: Platform | None,
        progress: ProgressSink,
        lease: LeaseHandle,
    ) -> None:
        """Everything of the image is in the store afterwards; shared with whoever pulls the same at the same time."""
        key = f"{target.top.digest} {target.manifest.digest}"

        async def work(sink: ProgressSink) -> None:
            self._running[key] = self._running.get(key, 0) + 1
            try:
                await self._work(remote, reference, target, platform, sink, key)
            finally:
                self._running.pop(key, None)

        lease.add(target.top.digest, target.manifest.digest)
        await self._images.join(key, progress, work)

    async def _work(
        self,
        remote: Remote,
        reference: Reference,
        target: Target,
        platform: Platform | None,
        sink: ProgressSink,
        key: str,
    ) -> None:
        manifest = documents.decode_manifest(target.manifest_data)
        check_manifest(manifest, reference)
        with self._leases.lease() as lease:
            config = await self._config(remote, manifest.config)
            diff_ids = check_config(config, manifest, platform, reference)
            chains = documents.chain_ids(diff_ids)
            digests = [target.top.digest, target.manifest.digest, manifest.config.digest]
            digests += [str(Digest.of(data)) for data in target.between]
            lease.add(*digests)
            await run_blocking(self._note, key, [*digests, *(layer.digest for layer in manifest.layers), *chains])
            async with TaskOwner("pull") as owner:
                others = owner.spawn(caught([], self._others(remote, target)))
                await self._layers.pull(remote, manifest.layers, diff_ids, sink, lease)
                kept, _ = await others
            await run_blocking(self._write, [target.top_data, *target.between, target.manifest_data, *kept])

    def _undo(self, target: Target, before: set[str]) -> None:
        """What was sent is wrong: nothing of it stays, and nobody tries to go on with it."""
        self._strike(f"{target.top.digest} {target.manifest.digest}")
        try:
            layers = documents.decode_manifest(target.manifest_data).layers
        except InvalidArgument:
            layers = []
        self._store.content.forget_partials({layer.digest for layer in layers})
        self._collector.collect(self._present() - before)

    def _present(self) -> set[str]:
        return {info.digest for info in self._store.content.walk()} | {
            info.key for info in self._store.snapshots.walk()
        }

    def _write(self, contents: Sequence[bytes]) -> None:
        for data in contents:
            if not exists(self._store, Digest.of(data)):
                self._store.write(data)

    def _register(self, target: Target, reference: Reference) -> bool:
        """Give the image its name; whether the name meant something else before, or nothing."""
        with self._store.lock:
            known = self._store.known(target.top.digest) and any(
                str(name) == str(reference) for name in self._store.names(target.top.digest)
            )
            self._store.register(target.top.digest, target.top.media_type, references=[str(reference)])
            self._strike(f"{target.top.digest} {target.manifest.digest}")
            return not known

    async def _config(self, remote: Remote, config: Descriptor) -> bytes:
        if not await run_blocking(exists, self._store, config.digest):
            await fetch_small(remote, self._store, config)
        return await run_blocking(self._store.content.read, config.digest, documents.MANIFEST_LIMIT)

    async def _others(self, remote: Remote, target: Target) -> list[bytes]:
        """The manifests of the other platforms, so that the index can be pushed, and the attestations of this one.

        What the registry does not have is left out: an index may be sparse.
        """
        if target.top is target.manifest:
            return []
        found: list[bytes] = []
        indexes = (documents.decode_index(data) for data in (target.top_data, *target.between))
        for descriptor in (part for index in indexes for part in index.manifests):
            if descriptor.digest == target.manifest.digest or descriptor.media_type not in documents.MANIFESTS:
                continue
            if await run_blocking(exists, self._store, descriptor.digest):
                continue
            try:
                _, data = await remote.manifest(descriptor.digest)
                if (descriptor.annotations or {}).get(_ATTESTATION) == target.manifest.digest:
                    await self._attestation(remote, documents.decode_manifest(data))
            except GantryError as error:
                log.debug("manifest %s of index %s: %s", descriptor.digest, target.top.digest, error)
                continue
            found.append(data)
        return found

    async def _attestation(self, remote: Remote, manifest: documents.Manifest) -> None:
        parts = [manifest.config, *manifest.layers]
        if sum(part.size for part in parts) > _ATTESTATION_LIMIT:
            return
        for part in parts:
            if not await run_blocking(exists, self._store, part.digest):
                await fetch_small(remote, self._store, part, limit=_ATTESTATION_LIMIT)


async def fetch_small(
    remote: Remote, store: ImageStore, blob: Descriptor, *, limit: int = documents.MANIFEST_LIMIT
) -> None:
    """Store a blob that is no layer; raises InvalidArgument beyond `limit` bytes."""
    if not 0 <= blob.size <= limit:
        raise InvalidArgument(f"blob {blob.digest} of {blob.size} bytes: at most {limit} are accepted")
    partial = await run_blocking(store.content.partial, blob.digest, blob.size)
    try:
        await remote.fetch(blob, partial, lambda done, wait=0: None)  # noqa: ARG005
        await run_blocking(partial.commit)
    except InvalidArgument:
        await run_blocking(partial.discard)
        raise
    except BaseException:
        await run_blocking(partial.close)
        raise


def exists(store: ImageStore, digest: str) -> bool:
    try:
        store.content.stat(digest)
    except NotFound:
        return False
    return True


def status(name: str, *, newer: bool) -> str:
    if newer:
        return f"Status: Downloaded newer image for {name}"
    return f"Status: Image is up to date for {name}"


def platform_of(descriptor: Descriptor) -> Platform:
    about: dict[str, Any] = descriptor.platform or {}
    return Platform(
        str(about.get("os") or "linux"), str(about.get("architecture") or ""), str(about.get("variant") or "")
    )


async def _search(remote: Remote, data: bytes, platform: Platform | None) -> tuple[Descriptor, tuple[bytes, ...]]:
    """The manifest for a platform, and the indexes in the index `data` that lead there. Raises NotFound."""
    wanted = platform or Platform.host()
    level: list[tuple[bytes, tuple[bytes, ...]]] = [(data, ())]
    for depth in range(NESTING + 1):
        further: list[tuple[Descriptor, tuple[bytes, ...]]] = []
        for index, path in level:
            parts = documents.decode_index(index).manifests
            try:
                return choose(parts, platform), path
            except NotFound:
                further += [(part, path) for part in parts if part.media_type in documents.INDEXES]
        level = []
        for part, path in further[:_NESTED] if depth < NESTING else ():
            if part.platform is None or platform_of(part).matches(wanted):
                _, inner = await _announced(remote, part)
                level.append((inner, (*path, inner)))
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")


async def _announced(remote: Remote, part: Descriptor) -> tuple[Descriptor, bytes]:
    """Fetch what an index names; raises InvalidArgument where it is something else."""
    found, data = await remote.manifest(part.digest)
    if (found.media_type, found.size) != (part.media_type, part.size):
        raise InvalidArgument(
            f"manifest {part.digest} is {found.size} bytes of {found.media_type}, its index says "
            f"{part.size} bytes of {part.media_type}"
        )
    return found, data


def choose(manifests: Sequence[Descriptor], platform: Platform | None) -> Descriptor:
    """The manifest for a platform, the host's where none is asked for; raises NotFound with Docker's words."""
    wanted = platform or Platform.host()
    fitting = [
        descriptor
        for descriptor in manifests
        if descriptor.media_type in documents.MANIFESTS
        and _ATTESTATION not in (descriptor.annotations or {})
        and (descriptor.platform is None or platform_of(descriptor).matches(wanted))
    ]
    if not fitting:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    fitting.sort(key=lambda part: (part.platform is None, platform_of(part).variant != wanted.variant))
    return fitting[0]


def check_manifest(manifest: documents.Manifest, reference: Reference) -> None:
    """Refuse before anything is fetched what could not become an image. Raises InvalidArgument or Unsupported."""
    if manifest.config.media_type not in documents.CONFIGS:
        raise Unsupported(
            f"unsupported media type {manifest.config.media_type}: {reference.familiar} is an artifact, not an image"
        )
    for part in (manifest.config, *manifest.layers):
        if Digest(part.digest).algorithm != "sha256":
            raise InvalidArgument(f"unsupported digest algorithm: {part.digest.partition(':')[0]}")
        if part.size < 0:
            raise InvalidArgument(f"invalid size of {part.digest}: {part.size}")
    for layer in manifest.layers:
        if layer.media_type in documents.FOREIGN or (layer.urls and layer.media_type not in documents.LAYERS):
            raise InvalidArgument(
                f"layer {layer.digest} is not in the registry but at a foreign URL ({(layer.urls or ['none'])[0]}): "
                "refused"
            )
        if layer.media_type not in documents.LAYERS:
            raise InvalidArgument(f"unsupported media type {layer.media_type} of layer {layer.digest}")


def check_config(
    data: bytes, manifest: documents.Manifest, platform: Platform | None, reference: Reference
) -> tuple[str, ...]:
    """The diff IDs of an image's layers; raises InvalidArgument, NotFound where the platform is another."""
    config = documents.decode_config(data)
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidArgument(
            f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(manifest.layers)}"
        )
    for diff_id in diff_ids:
        Digest(diff_id)
    has = Platform(config.os or "linux", config.architecture, config.variant)
    if platform is not None and not has.matches(platform):
        raise NotFound(
            f"image with reference {reference.familiar} was found but its platform ({has}) "
            f"does not match the specified platform ({platform})"
        )
    return tuple(diff_ids)


def explained(error: GantryError, reference: Reference) -> GantryError:
    """Docker's words for a registry that does not give out an image."""
    said = error.message
    if isinstance(error, Forbidden | Unauthorized) and "denied" in said:
        return NotFound(
            f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
            f"'docker login': {said}"
        )
    if isinstance(error, NotFound) and said.startswith("name unknown"):
        return NotFound(f"repository {reference.familiar_name} not found: {said}")
    if isinstance(error, NotFound):
        return NotFound(f"manifest for {reference.familiar} not found: {said}")
    return error
