"""The daemon about itself: version, information, missing parts, traces."""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from gantry import trace
from gantry.aio import run_blocking
from gantry.model import timestamp
from gantry.model.container import Container, Phase
from gantry.model.image import Image
from gantry.ports import RuntimeInfo, TaskFacts

_TRACES = 32


class Host(msgspec.Struct, frozen=True):
    """This machine, as far as it does not change while the daemon runs. `mem_total` in bytes."""

    name: str
    operating_system: str
    os_version: str
    kernel_version: str
    machine: str
    architecture: str
    ncpu: int
    mem_total: int
    backing_filesystem: str
    cgroup_version: str
    memory_limit: bool
    swap_limit: bool
    cpu_cfs: bool
    cpu_shares: bool
    cpuset: bool
    pids_limit: bool
    oom_kill_disable: bool
    security_options: tuple[str, ...]
    init_binary: str = ""


class Settings(msgspec.Struct, frozen=True):
    """What of the configuration is shown. `warnings` are those of configuration and network."""

    id: str
    data_root: str
    debug: bool = False
    labels: tuple[str, ...] = ()
    live_restore: bool = False
    log_driver: str = "json-file"
    cdi_spec_dirs: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    address_pools: tuple[tuple[str, int], ...] = ()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    warnings: tuple[str, ...] = ()


class Info(msgspec.Struct, frozen=True):
    """`GET /info` before encoding."""

    host: Host
    settings: Settings
    running: int
    paused: int
    stopped: int
    images: int
    descriptors: int
    tasks: int
    listeners: int
    ipv4_forwarding: bool
    runtimes: dict[str, RuntimeInfo]
    default_runtime: str
    warnings: tuple[str, ...]
    now: str
    devices: tuple[str, ...] = ()


class Component(NamedTuple):
    """A part of the daemon and its version."""

    name: str
    version: str
    details: dict[str, str]


class Part(NamedTuple):
    """A program from outside that Gantry uses."""

    program: str
    package: str
    purpose: str
    needed: bool = True


class PartState(msgspec.Struct, frozen=True):
    """Whether a part is there; `problem` is "" where it is usable, `install` the command that brings it."""

    name: str
    purpose: str
    path: str
    version: str
    needed: bool
    problem: str
    install: str


PARTS = (
    Part("conmon", "conmon", "holds each container's terminal, output and exit code"),
    Part("nft", "nftables", "published ports, NAT and the isolation of networks"),
    Part("tini-static", "tini", "`--init`", needed=False),
    Part("git", "git", "building from a git repository", needed=False),
    Part("mmdebstrap", "mmdebstrap", "base images from Debian's packages (`image bootstrap`)", needed=False),
    Part("busybox", "busybox-static", "`image bootstrap busybox`, and trying out the runtimes", needed=False),
)
_RUNTIME_PACKAGES = {"crun": "crun", "runc": "runc"}


class ImageList(Protocol):
    """What of the images is asked here."""

    async def all(self, *, intermediate: bool = False) -> Sequence[Image]: ...


class System:
    """`settings` and `listeners` are asked anew each time, for a reload changes them.

    `components` runs programs to ask for their versions (blocking): it is called once, when first needed.
    """

    def __init__(
        self,
        host: Host,
        settings: Callable[[], Settings],
        *,
        tasks: TaskFacts,
        containers: Iterable[Container],
        images: ImageList,
        components: Callable[[], Sequence[Component]],
        listeners: Callable[[], int],
    ) -> None:
        self._host = host
        self._settings = settings
        self._tasks = tasks
        self._containers = containers
        self._images = images
        self._look_at_components = components
        self._components: Sequence[Component] | None = None
        self._listeners = listeners
        self._traces: deque[trace.Trace] = deque(maxlen=_TRACES)

    @property
    def host(self) -> Host:
        return self._host

    def record_trace(self, finished: trace.Trace) -> None:
        """Keep a trace for `traces`; the oldest of 32 gives way."""
        self._traces.append(finished)

    def traces(self) -> list[trace.Trace]:
        return list(self._traces)

    async def info(self) -> Info:
        phases = [container.status.phase for container in self._containers]
        running = phases.count(Phase.RUNNING) + phases.count(Phase.RESTARTING)
        paused = phases.count(Phase.PAUSED)
        settings = self._settings()
        forwarding = await run_blocking(_forwarding)
        return Info(
            host=self._host,
            settings=settings,
            running=running,
            paused=paused,
            stopped=len(phases) - running - paused,
            images=len(await self._images.all(intermediate=True)),
            descriptors=_count("/proc/self/fd"),
            tasks=_count("/proc/self/task"),
            listeners=self._listeners(),
            ipv4_forwarding=forwarding,
            runtimes=self._tasks.runtimes(),
            default_runtime=self._tasks.default_runtime(),
            warnings=tuple(dict.fromkeys((*self._warnings(forwarding), *settings.warnings))),
            now=timestamp.rfc3339(timestamp.now()),
            devices=tuple(await self._tasks.devices()),
        )

    def _warnings(self, forwarding: bool) -> list[str]:
        """What `docker info` warns about."""
        host = self._host
        lacking = (
            (host.memory_limit, "memory limit"),
            (host.swap_limit, "swap limit"),
            (host.cpu_cfs, "cpu cfs quota"),
            (host.cpu_shares, "cpu shares"),
            (host.cpuset, "cpuset"),
            (host.pids_limit, "pids limit"),
        )
        warnings = [f"WARNING: No {words} support" for there, words in lacking if not there]
        return warnings if forwarding else [*warnings, "WARNING: IPv4 forwarding is disabled"]

    async def components(self) -> list[Component]:
        """The parts that make containers, the OCI runtimes among them."""
        if self._components is None:
            self._components = await run_blocking(self._look_at_components)
        runtimes = self._tasks.runtimes()
        default = self._tasks.default_runtime()
        usable = sorted((name for name, info in runtimes.items() if info.path and not info.problem), key=default.__ne__)
        return [
            *self._components,
            *(
                Component(
                    name,
                    runtimes[name].version.removeprefix(f"{name} version "),
                    {"GitCommit": runtimes[name].commit} | ({"Default": "true"} if name == default else {}),
                )
                for name in usable
            ),
        ]

    async def check(self) -> list[PartState]:
        """Every part from outside, with what is wrong with it and the command that mends it."""
        versions = {component.name: component.version for component in await self.components()}
        parts = [await run_blocking(_look, part, versions.get(part.program, "")) for part in PARTS]
        runtimes = self._tasks.runtimes()
        working = any(not info.problem for info in runtimes.values())
        for name, info in runtimes.items():
            package = _RUNTIME_PACKAGES.get(name, "")
            parts.append(
                PartState(
                    name,
                    "OCI runtime: makes the container's process",
                    info.path,
                    info.version,
                    needed=not working,
                    problem=info.problem,
                    install=_install(package) if package and not info.path else "",
                )
            )
        return parts


def _look(part: Part, version: str) -> PartState:
    path = shutil.which(part.program) or ""
    return PartState(
        part.program,
        part.purpose,
        path,
        version,
        part.needed,
        "" if path else "not installed",
        "" if path else _install(part.package),
    )


def _install(package: str) -> str:
    return f"apt-get install {package}"


def _forwarding() -> bool:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


def _count(directory: str) -> int:
    return sum(1 for _ in Path(directory).iterdir())
