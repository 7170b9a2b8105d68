"""From the `--mount` flags of a RUN step to mounts that exist for the step, and no trace of them in its layer."""

import os
import shutil
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec

from gantry.aio import run_blocking
from gantry.build.cache_mounts import CacheMounts
from gantry.build.copy_files import Rules, Target, copy_path
from gantry.build.digest import source_digest
from gantry.build.errors import StepFailed
from gantry.build.run_mounts import SSH_SOCKET, MountRequest
from gantry.build.state import BuildState, key_of
from gantry.build.workspace import Workspace
from gantry.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, open_directory, openat2, real_path
from gantry.model.container import MountPoint
from gantry.model.task import Mount

_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_SECRET_MODE = 0o400


class StepMount(msgspec.Struct, frozen=True):
    """A request and where its content comes from: a context's directory, or one of the step's inputs by number.

    `input` is -1 for none.
    """

    request: MountRequest
    context: Path | None = None
    input: int = -1


class Lent(msgspec.Struct, frozen=True):
    """What a build lends to its steps: secrets by id, and sockets of SSH agents by id. Neither is part of a key."""

    secrets: Mapping[str, bytes] = {}
    agents: Mapping[str, str] = {}


class Realized(msgspec.Struct, frozen=True):
    """`points` for the container, `env` (NAME=value) for its process."""

    points: tuple[MountPoint, ...] = ()
    env: tuple[str, ...] = ()


class StepMounts:
    """The mounts of one RUN step."""

    def __init__(
        self, workspace: Workspace, caches: CacheMounts, lent: Lent, mounts: Sequence[StepMount], private: Path
    ) -> None:
        """`private` is a directory for secrets, in memory where the machine has such a place."""
        self._workspace = workspace
        self._caches = caches
        self._lent = lent
        self._mounts = tuple(mounts)
        self._private = private

    def __bool__(self) -> bool:
        return bool(self._mounts)

    @property
    def reads_context(self) -> bool:
        return any(mount.context is not None and mount.request.kind == "bind" for mount in self._mounts)

    # ------------------------------------------------------------------------------------------ keys

    def definition(self, inputs: Sequence[BuildState]) -> str:
        """The part of the step's key that follows from what was asked for: not what caches and secrets hold."""
        return key_of(
            *(
                key_of(
                    repr(msgspec.structs.astuple(mount.request)),
                    inputs[mount.input].identity if mount.input >= 0 and mount.request.kind == "bind" else "",
                )
                for mount in self._mounts
            )
        )

    def contents(self) -> str:
        """The part that the contexts' content makes (blocking). Raises StepFailed where a source is missing."""
        found = []
        for mount in self._mounts:
            if mount.context is None or mount.request.kind != "bind":
                continue
            root = os.open(mount.context, _ROOT)
            try:
                found.append("".join(source_digest(root, [mount.request.source.strip("/")], owners=False)))
            except OSError as error:
                raise _not_found(mount.request.source) from error
            finally:
                os.close(root)
        return key_of(*found)

    # ------------------------------------------------------------------------------------------ mounts

    @asynccontextmanager
    async def realized(self, inputs: Sequence[BuildState], scratch: Path) -> AsyncIterator[Realized]:
        """The mounts, made; all that was made for them is gone afterwards. Raises StepFailed."""
        points: list[MountPoint] = []
        env: list[str] = []
        async with AsyncExitStack() as stack:
            agents = 0
            for number, mount in enumerate(self._mounts):
                request = mount.request
                place = scratch / f"mount-{number}"
                if request.kind == "tmpfs":
                    size = (f"size={request.size}",) if request.size else ()
                    points.append(MountPoint("tmpfs", request.target, options=size))
                elif request.kind == "bind":
                    points.append(await self._bind(mount, inputs, place, stack))
                elif request.kind == "cache":
                    points.append(await self._cache(mount, inputs, place, stack))
                elif request.kind == "secret":
                    await self._secret(request, points, env, stack)
                elif (socket := self._agent(request)) is not None:
                    target = request.target or f"{SSH_SOCKET}{agents}"
                    agents += 1
                    points.append(MountPoint("bind", target, source=socket))
                    env = [*(item for item in env if not item.startswith("SSH_AUTH_SOCK=")), f"SSH_AUTH_SOCK={target}"]
            yield Realized(tuple(points), tuple(env))

    async def _origin(
        self, mount: StepMount, inputs: Sequence[BuildState], stack: AsyncExitStack, *, shifted: bool = False
    ) -> Path:
        if mount.context is not None:
            return mount.context
        return await stack.enter_async_context(self._workspace.view(inputs[mount.input], shifted=shifted))

    async def _bind(
        self, mount: StepMount, inputs: Sequence[BuildState], place: Path, stack: AsyncExitStack
    ) -> MountPoint:
        request = mount.request
        source = await run_blocking(_inside, await self._origin(mount, inputs, stack, shifted=True), request.source)
        if not request.read_only:
            source = await self._writable(source, place, stack)
        return MountPoint("bind", request.target, source=str(source), read_write=not request.read_only)

    async def _writable(self, source: Path, place: Path, stack: AsyncExitStack) -> Path:
        """A copy that the step may change, and that is forgotten with it."""
        if not await run_blocking(source.is_dir):
            await run_blocking(shutil.copy2, source, place)
            return place
        for name in ("upper", "work"):
            await run_blocking((place / name).mkdir, parents=True)
        paths = (f"lowerdir={source}", f"upperdir={place / 'upper'}", f"workdir={place / 'work'}")
        overlay = Mount("overlay", "overlay", options=paths)
        return await stack.enter_async_context(self._workspace.mounted([overlay], shifted=True))

    async def _cache(
        self, mount: StepMount, inputs: Sequence[BuildState], place: Path, stack: AsyncExitStack
    ) -> MountPoint:
        request = mount.request
        origin = None
        if mount.context is not None or mount.input >= 0:
            origin = await self._origin(mount, inputs, stack)

        def fill(target: Path) -> None:
            if origin is not None:
                _copy_tree(origin, request.source, target)

        path = await stack.enter_async_context(self._caches.use(request, fill))
        if request.read_only:
            path = await self._writable(path, place, stack)
        return MountPoint("bind", request.target, source=str(path))

    async def _secret(
        self, request: MountRequest, points: list[MountPoint], env: list[str], stack: AsyncExitStack
    ) -> None:
        value = self._lent.secrets.get(request.id)
        if value is None:
            if request.required:
                raise StepFailed(f"secret {request.id}: not found")
            return
        if request.variable:
            env.append(f"{request.variable}={value.decode('utf-8', 'surrogateescape')}")
        if request.target:
            path = await run_blocking(_write_secret, self._private, request, value)
            stack.push_async_callback(run_blocking, path.unlink)
            points.append(MountPoint("bind", request.target, source=str(path), read_write=False))

    def _agent(self, request: MountRequest) -> str | None:
        socket = self._lent.agents.get(request.id)
        if socket is None and request.required:
            raise StepFailed(f"unset ssh forward key {request.id}")
        return socket

    # ------------------------------------------------------------------------------------------ stubs

    def targets(self) -> tuple[str, ...]:
        """Every place in the container where something may be mounted."""
        agents = [m.request.target or f"{SSH_SOCKET}{n}" for n, m in enumerate(self._of("ssh"))]
        return (*(m.request.target for m in self._mounts if m.request.target and m.request.kind != "ssh"), *agents)

    def _of(self, kind: str) -> list[StepMount]:
        return [mount for mount in self._mounts if mount.request.kind == kind]


class Stubs:
    """The mount points that a runtime makes in a step's file system, and that its layer must not have.

    Only what was not there before is removed, and only where it is still empty; every path is looked up inside the
    root and without following a link that the step may have put there (CVE-2024-23652).
    """

    def __init__(self, root: Path, targets: Sequence[str]) -> None:
        """`root` is the mounted file system before the step (blocking)."""
        self._missing: dict[str, tuple[str, int]] = {}  # path: its parent, and that one's modification time
        opened = os.open(root, _ROOT)
        try:
            base = real_path(opened)
            for target in targets:
                self._look(opened, base, target)
        finally:
            os.close(opened)

    def _look(self, root: int, base: str, target: str) -> None:
        current = os.dup(root)
        try:
            walked = ""
            for part in (part for part in target.split("/") if part not in ("", ".", "..")):
                walked = f"{walked}/{part}"
                try:
                    following = openat2(root, walked, os.O_PATH)
                except FileNotFoundError:
                    with suppress(FileNotFoundError):
                        os.stat(part, dir_fd=current, follow_symlinks=False)
                        return  # a link to nowhere is the image's own
                    parent = real_path(current).removeprefix(base)
                    modified = os.fstat(current).st_mtime_ns
                    rest = target.strip("/").split("/")[walked.count("/") - 1 :]
                    for name in (name for name in rest if name not in ("", ".", "..")):
                        self._missing.setdefault(f"{parent}/{name}", (parent, modified))
                        parent, modified = f"{parent}/{name}", 0
                    return
                except NotADirectoryError:
                    return  # the runtime will say so
                os.close(current)
                current = following
        finally:
            os.close(current)

    def remove(self, root: Path) -> None:
        """Take the empty ones away; `root` is the mounted file system after the step (blocking)."""
        opened = os.open(root, _ROOT)
        try:
            for path, (parent, modified) in sorted(self._missing.items(), key=lambda item: -item[0].count("/")):
                self._take(opened, path, parent, modified)
        finally:
            os.close(opened)

    def _take(self, root: int, path: str, parent: str, modified: int) -> None:
        try:
            resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
            directory = openat2(root, parent or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=resolve)
        except OSError:
            return  # the step has changed it: it is the step's
        try:
            name = path.rpartition("/")[2]
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(name, dir_fd=directory)
            elif stat.S_ISREG(status.st_mode) and not status.st_size:
                os.unlink(name, dir_fd=directory)
            if modified:
                os.utime(directory, ns=(modified, modified))
        except OSError:
            pass  # gone, or no longer empty: what the step wrote stays
        finally:
            os.close(directory)


def _inside(root: Path, source: str) -> Path:
    """Where `source` is below `root`, with every link resolved inside it."""
    top = os.open(root, _ROOT)
    try:
        opened = openat2(top, source or ".", os.O_PATH)
        try:
            return Path(real_path(opened))
        finally:
            os.close(opened)
    except OSError as error:
        raise _not_found(source) from error
    finally:
        os.close(top)


def _copy_tree(root: Path, source: str, target: Path) -> None:
    from_root, to_root = os.open(root, _ROOT), os.open(target, _ROOT)
    try:
        os.close(open_directory(from_root, source))
        copy_path(from_root, source.strip("/"), Target(to_root), "/", Rules(None), into=True)
    except OSError as error:
        raise _not_found(source) from error
    finally:
        os.close(from_root)
        os.close(to_root)


def _not_found(source: str) -> StepFailed:
    return StepFailed(f'failed to compute cache key: "/{source.strip("/")}": not found')


def _write_secret(directory: Path, request: MountRequest, value: bytes) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / os.urandom(16).hex()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
        os.fchown(descriptor, request.uid or 0, request.gid or 0)
        os.fchmod(descriptor, _SECRET_MODE if request.mode is None else request.mode)
    return path
