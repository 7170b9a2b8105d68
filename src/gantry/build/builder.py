"""The builder: a request and a context become an image."""

import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gantry.aio import run_blocking
from gantry.build import context as contexts
from gantry.build.cache import CacheRecord, StepCache
from gantry.build.cache_mounts import CacheMounts
from gantry.build.checks import Report, check
from gantry.build.errors import DockerfileError, StepFailed
from gantry.build.mount_points import Lent
from gantry.build.options import BuildOptions
from gantry.build.parser import parse
from gantry.build.plan import Plan, Planner
from gantry.build.progress import StatusEvent, VertexEvent
from gantry.build.render import ClassicRenderer, Renderer, VertexRenderer
from gantry.build.run import Kitchen
from gantry.build.solver import Solver
from gantry.build.stage_builder import Tools
from gantry.build.stages import Stages
from gantry.build.state import BuildState, key_of
from gantry.build.trail import Trail
from gantry.build.variables import Arguments
from gantry.build.workspace import Workspace
from gantry.errors import GantryError, InvalidArgument, NotFound, Unavailable
from gantry.model import timestamp
from gantry.model.instance import Instance
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.ports import (
    Events,
    Images,
    Layers,
    LeaseHandle,
    Leases,
    Networks,
    ProgressSink,
    Runtime,
    Snapshotter,
    State,
    TaskStreams,
)

_NANOSECONDS = 1_000_000_000


class Builder:
    """Builds images from Dockerfiles; one for the whole daemon."""

    def __init__(
        self,
        instance: Instance,
        state: State,
        images: Images,
        snapshots: Snapshotter,
        layers: Layers,
        leases: Leases,
        runtime: Runtime,
        streams: TaskStreams,
        networks: Networks,
        events: Events,
        *,
        ca_bundle: str = "",
        host_ca: bool = False,
        default_runtime: str = "",
        parallel: int = 8,
    ) -> None:
        """`ca_bundle` is the host's list of authorities, lent to RUN steps on request, or always with `host_ca`."""
        self._images = images
        self._leases = leases
        self._events = events
        self._ca_bundle = ca_bundle
        self._host_ca = host_ca
        self._kitchen = Kitchen(runtime, streams, networks, "", default_runtime)
        self._workspace = Workspace(instance, images, snapshots, layers, runtime, networks)
        self._cache = StepCache(state, images)
        self._cache_mounts = CacheMounts(instance.data_root / "build" / "cache", state)
        self._private = instance.exec_root / "build"  # secrets, while a step sees them
        self._solver: Solver[BuildState] = Solver(self._cache, parallel=parallel)

    async def recover(self) -> None:
        """Remove what builds of a killed daemon left. Call it once, before the first build."""
        await self._workspace.recover()
        await self._cache_mounts.recover()
        await run_blocking(shutil.rmtree, self._private, ignore_errors=True)

    async def close(self) -> None:
        """Stop every build, and leave nothing of them."""
        await self._solver.close()
        await self._workspace.close()

    # ----------------------------------------------------------------------------------------- build

    async def build(
        self, options: BuildOptions, read: contexts.Read, sink: ProgressSink, *, vertexes: bool = False
    ) -> str:
        """Build, tag and return the image's id; `read` gives the request's body, b"" at its end.

        Raises GantryError; a DockerfileError or a StepFailed says what is wrong where.
        """
        tags = [Reference.parse(tag) for tag in options.tags]
        if any(tag.digest for tag in tags):
            raise InvalidArgument("refusing to create a tag with a digest reference")
        if options.host_ca and not self._ca_bundle:
            raise Unavailable("this host has no list of certificate authorities: apt-get install ca-certificates")
        scratch = await self._workspace.scratch()
        try:
            with self._leases.lease() as lease:
                return await self._build(options, read, sink, scratch, [tag.familiar for tag in tags], vertexes, lease)
        finally:
            await self._workspace.discard(scratch)

    async def _build(
        self,
        options: BuildOptions,
        read: contexts.Read,
        sink: ProgressSink,
        scratch: Path,
        tags: Sequence[str],
        vertexes: bool,
        lease: LeaseHandle,
    ) -> str:
        directory = scratch / "context"
        await run_blocking(directory.mkdir)
        name, data = await self._context(options, read, directory, scratch)
        dockerfile = await run_blocking(parse, data, name)
        renderer: Renderer = (
            VertexRenderer(sink)
            if vertexes
            else ClassicRenderer(sink, remove=options.remove, force_remove=options.force_remove, quiet=options.quiet)
        )
        for warning in dockerfile.warnings:
            renderer.warn(warning)
        arguments = Arguments(options.build_args, options.platform or Platform.host())
        kitchen = self._kitchen
        if options.host_ca or (self._host_ca and self._ca_bundle):
            kitchen = Kitchen(kitchen.runtime, kitchen.streams, kitchen.networks, self._ca_bundle, kitchen.runtime_name)
        named = await contexts.named(options.contexts, directory, scratch)
        tools = Tools(
            self._workspace, kitchen, options, arguments, directory, scratch, dockerfile.escape, named,
            self._cache_mounts, Lent(options.secrets, options.agents), self._private,
        )  # fmt: skip
        plan: Plan | None = None
        trail = Trail(renderer, lease)
        try:
            plan = await Planner(tools, Stages(dockerfile, arguments), self._resolver(options, renderer)).plan()
            renderer.plan(plan.steps)
            (state,) = await self._solver.solve([plan.target], trail)
            if not state.image_id:
                raise DockerfileError("No image was generated. Is your Dockerfile empty?", numbered=False)
        except GantryError as error:
            renderer.failed()
            if isinstance(error, DockerfileError):
                error.located(dockerfile.name, dockerfile.source)
            elif isinstance(error, StepFailed) and plan is not None:
                trail.explain(error, plan, dockerfile)
            raise
        if unused := arguments.unused():
            renderer.warn(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed")
        self._events.publish("image", "create", state.image_id, {"name": state.image_id})
        for tag in tags:
            await self._images.tag(state.image_id, tag)
        renderer.finished(state.image_id, tags)
        return state.image_id

    async def check(self, options: BuildOptions, read: contexts.Read) -> tuple[Report, str, str]:
        """`--check`: what was found, with the Dockerfile's name and text. Raises DockerfileError for a broken one."""
        scratch = await self._workspace.scratch()
        try:
            directory = scratch / "context"
            await run_blocking(directory.mkdir)
            name, data = await self._context(options, read, directory, scratch)
            dockerfile = await run_blocking(parse, data, name)
            arguments = Arguments(options.build_args, options.platform or Platform.host())
            return (
                check(dockerfile, arguments, await run_blocking(contexts.excluded, directory)),
                name,
                dockerfile.source,
            )
        finally:
            await self._workspace.discard(scratch)

    async def _context(
        self, options: BuildOptions, read: contexts.Read, directory: Path, scratch: Path
    ) -> tuple[str, bytes]:
        """Fill the context's directory; returns the Dockerfile's name and content."""
        text = ""
        if options.remote:
            text = await contexts.fetch(options.remote, directory, scratch)
        if not options.remote or contexts.any_sent(options.contexts):
            await contexts.receive(read, directory)
        if text:
            return "Dockerfile", text.encode()
        name, data = await run_blocking(contexts.read_dockerfile, directory, options.dockerfile)
        await run_blocking(contexts.hide_ignored, directory, name)
        return name, data

    def _resolver(
        self, options: BuildOptions, renderer: Renderer
    ) -> "Callable[[str, Platform | None], Awaitable[BuildState]]":
        async def resolve(name: str, platform: Platform | None) -> BuildState:
            shown = VertexEvent(
                "sha256:" + key_of("resolve", name, str(platform)), f"[internal] load metadata for {name}",
                started=timestamp.now(),
            )  # fmt: skip
            renderer(shown)

            def progress(message: dict[str, Any], /) -> None:
                renderer(StatusEvent(shown.digest, str(message.get("id", "")), timestamp.now(), message=message))

            image = None
            if not options.pull:
                with suppress(NotFound):
                    image = await self._images.get(name, platform)
            if image is None:
                auth = options.auths.get(_registry(name), "")
                image = await self._images.pull(name, platform, progress, auth)
            renderer(VertexEvent(shown.digest, shown.name, started=shown.started, completed=timestamp.now()))
            return BuildState(
                image.id, image.chain_id, await self._images.layer_infos(image), image.history, image.config,
                Platform(image.os, image.architecture, image.variant), image.author,
            )  # fmt: skip

        return resolve

    # ----------------------------------------------------------------------------------------- cache

    async def cache_records(self) -> list[CacheRecord]:
        return await self._cache.records()

    async def prune(self, *, unused_for: int = 0, keys: Sequence[str] = ()) -> tuple[list[str], int]:
        """Forget remembered steps; returns their keys and the bytes that this frees.

        `unused_for` (seconds) spares what was used since. The layers belong to the steps' images, so nothing is
        freed here: `image prune` frees them.
        """
        limit = timestamp.now() - unused_for * _NANOSECONDS
        chosen = [
            record.key
            for record in await self._cache.records()
            if record.last_used <= limit and (not keys or any(record.key.startswith(key) for key in keys))
        ]
        await self._cache.forget(chosen)
        self._events.publish("builder", "prune", "", {"reclaimed": "0"})
        return chosen, 0


def _registry(name: str) -> str:
    """The registry of an image's name, as the client's credentials are keyed."""
    try:
        return Reference.parse(name).domain
    except InvalidArgument:
        return ""
