"""RUN: a command in a container of its own, on the state before; what it changed becomes a layer."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from gantry import faults
from gantry.aio import run_blocking
from gantry.build.errors import StepFailed
from gantry.build.metadata import config_text
from gantry.build.mount_points import StepMounts, Stubs
from gantry.build.progress import StepLog
from gantry.build.state import BuildState, key_of
from gantry.build.workspace import Active, Definition, Workspace
from gantry.errors import Conflict, InvalidArgument, NotFound
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, MountPoint
from gantry.model.identity import short_id
from gantry.model.network import EndpointSettings
from gantry.model.task import ProcessSpec, TaskSpec
from gantry.ports import EndpointRequest, Networks, Runtime, TaskStreams

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONTAINER = "container"  # the status that names a step's container
SCRIPT_PATH = "/dev/pipes/"


class Kitchen(msgspec.Struct, frozen=True):
    """The rooms that run processes. `ca_bundle` is the host's, lent to the step; "" for none."""

    runtime: Runtime
    streams: TaskStreams
    networks: Networks
    ca_bundle: str = ""
    runtime_name: str = ""


class RunSpec(msgspec.Struct, frozen=True):
    """One command. `env` is all it sees, `secret_env` what it sees and the key does not (proxies).

    `scripts` are (name, text) of files under /dev/pipes.
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    secret_env: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()
    user: str = ""
    cwd: str = "/"
    network: str = "default"
    host_config: HostConfig = HostConfig()
    scripts: tuple[tuple[str, str], ...] = ()


class RunOp:
    def __init__(
        self, workspace: Workspace, kitchen: Kitchen, spec: RunSpec, definition: Definition, mounts: StepMounts
    ) -> None:
        self._workspace = workspace
        self._kitchen = kitchen
        self._spec = spec
        self._definition = definition
        self._mounts = mounts
        # A context belongs to one build and goes away with it.
        self.shareable = not mounts.reads_context

    def cache_key(self, inputs: Sequence[BuildState]) -> str:
        return "" if self._mounts.reads_context else self._key(inputs)

    def _key(self, inputs: Sequence[BuildState]) -> str:
        spec = self._spec
        mounts = (self._mounts.definition(inputs),) if self._mounts else ()
        return key_of(
            "run", inputs[0].identity, self._definition.created_by, config_text(self._definition), spec.user, spec.cwd,
            spec.network, *("\0".join(part) for part in (spec.args, spec.env, spec.build_args)),
            *(text for script in spec.scripts for text in script), *mounts,
        )  # fmt: skip

    async def content_key(self, inputs: Sequence[BuildState]) -> str:
        if not self._mounts.reads_context:
            return ""
        return key_of("run-with-context", self._key(inputs), await run_blocking(self._mounts.contents))

    async def run(self, inputs: Sequence[BuildState], log: StepLog) -> BuildState:
        parent = inputs[0]
        async with self._workspace.active(parent) as active:
            code = await self._execute(active, inputs, log)
            if code:
                command = " ".join(self._spec.args)
                raise StepFailed(f"The command '{command}' returned a non-zero code: {code}", code=code)
            faults.point("build.ran")
            layer, chain = await self._workspace.commit(active, parent)
            faults.point("build.committed")
            return await self._workspace.image(parent, self._definition, layer, chain)

    async def _execute(self, active: Active, inputs: Sequence[BuildState], log: StepLog) -> int:
        """Run the command to its end; whatever happens, no process, mount or interface is left."""
        log.status(CONTAINER, text=short_id(active.id))
        scratch = await self._workspace.scratch()
        try:
            scripts = [await run_blocking(_script, scratch, name, text) for name, text in self._spec.scripts]
            if not self._mounts:
                return await self._to_its_end(active, inputs[0], scratch, tuple(scripts), (), log)
            async with self._workspace.mounted(active.mounts) as root:
                stubs = await run_blocking(Stubs, root, self._mounts.targets())
            async with self._mounts.realized(inputs, scratch) as lent:
                points = (*scripts, *lent.points)
                code = await self._to_its_end(active, inputs[0], scratch, points, lent.env, log)
            async with self._workspace.mounted(active.mounts) as root:
                await run_blocking(stubs.remove, root)
            return code
        finally:
            await self._workspace.discard(scratch)

    async def _to_its_end(
        self,
        active: Active,
        parent: BuildState,
        scratch: Path,
        mounts: tuple[MountPoint, ...],
        env: tuple[str, ...],
        log: StepLog,
    ) -> int:
        """What the container holds (mounts of other steps' files, caches) is free again when this returns."""
        try:
            return await self._in_container(active, parent, str(scratch / "log"), mounts, env, log)
        finally:
            await self._workspace.finish(self._clean(active.id))

    async def _in_container(
        self,
        active: Active,
        parent: BuildState,
        log_path: str,
        mounts: tuple[MountPoint, ...],
        env: tuple[str, ...],
        log: StepLog,
    ) -> int:
        kitchen, spec = self._kitchen, self._spec
        container = self._container(active, parent, log_path)
        host = spec.network == "host"
        sandbox = await kitchen.networks.open_sandbox(container, host=host)
        task = TaskSpec(
            id=active.id,
            name=container.name,
            process=ProcessSpec(spec.args, (*self._environment(active.id), *env), spec.cwd or "/", spec.user),
            rootfs=active.mounts,
            hostname=container.config.hostname,
            domainname="",
            host_config=spec.host_config,
            mounts=mounts,
            own_mounts=True,
            netns=sandbox.path,
            hosts_file=sandbox.hosts,
            hostname_file=sandbox.hostname,
            resolv_conf_file=sandbox.resolv_conf,
            log_path=log_path,
            runtime=kitchen.runtime_name,
            ca_bundle=kitchen.ca_bundle,
        )
        if spec.network in ("host", "none"):
            await kitchen.runtime.create(task)
        else:
            network = await kitchen.networks.get("bridge" if spec.network == "default" else spec.network)
            request = EndpointRequest(EndpointSettings(), hostname=container.config.hostname)
            # Both end before anything is cleaned up, also where one of them fails.
            made = await asyncio.gather(
                kitchen.networks.attach(container, network, request),
                kitchen.runtime.create(task),
                return_exceptions=True,
            )
            if error := next((each for each in made if isinstance(each, BaseException)), None):
                raise error
        output = await kitchen.streams.attach(active.id)
        try:
            await kitchen.runtime.start(active.id)
            async for stream, data in output:
                log.log(stream, data)
        finally:
            await output.close()
        return (await kitchen.runtime.wait(active.id)).code

    async def _clean(self, step: str) -> None:
        kitchen = self._kitchen
        with suppress(NotFound, Conflict, InvalidArgument):
            await kitchen.runtime.kill(step, signal.SIGKILL)
            await kitchen.runtime.wait(step)
        await asyncio.gather(kitchen.runtime.delete(step), kitchen.networks.close_sandbox(step))

    def _environment(self, step: str) -> tuple[str, ...]:
        spec = self._spec
        path = () if any(item.startswith("PATH=") for item in spec.env) else (DEFAULT_PATH,)
        return (*path, f"HOSTNAME={short_id(step)}", *spec.secret_env, *spec.build_args, *spec.env)

    def _container(self, active: Active, parent: BuildState, log_path: str) -> Container:
        spec = self._spec
        return Container(
            id=active.id,
            name=active.key[:18],
            created_at=timestamp.now(),
            image_id=parent.image_id,
            image_ref=parent.image_id,
            platform=str(parent.platform),
            path=spec.args[0],
            args=spec.args[1:],
            config=ContainerConfig(hostname=short_id(active.id), user=spec.user, working_dir=spec.cwd),
            host_config=spec.host_config,
            runtime=self._kitchen.runtime_name,
            driver="overlay2",
            log_path=log_path,
            chain_id=parent.chain_id,
        )


def _script(directory: Path, name: str, text: str) -> MountPoint:
    """A here-document with an interpreter line, as a file that the container sees read-only."""
    path = directory / f"script-{name}"
    path.write_text(text)
    path.chmod(0o755)
    return MountPoint("bind", SCRIPT_PATH + name, source=str(path), read_write=False)
