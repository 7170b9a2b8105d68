"""What this machine can do, as far as a container's specification depends on it; probed once per daemon."""

import glob
import os
import platform
from pathlib import Path

import msgspec

from gantry.linux.capabilities import kernel_capabilities, own_bounding_set
from gantry.linux.cgroups import Hierarchies
from gantry.linux.process import find_program, hard_limits
from gantry.model.platform import Platform
from gantry.runtime import defaults


class HostFacts(msgspec.Struct, frozen=True):
    """`capabilities` are those that can be given away, `hard_limits` bound what a process limit may be.

    `sysctls` are the default ones that this kernel has; `init_path` is "" without a static init program.
    """

    capabilities: tuple[str, ...]
    hard_limits: dict[str, int]
    architecture: str
    kernel: tuple[int, int]
    cgroup_unified: bool
    swap_limit: bool
    seccomp: bool
    sysctls: tuple[str, ...]
    masked_paths: tuple[str, ...]
    init_path: str


def probe(hierarchies: Hierarchies) -> HostFacts:
    """Look at the running kernel and at what is installed (blocking, about a millisecond)."""
    own = frozenset(own_bounding_set())
    return HostFacts(
        capabilities=tuple(name for name in kernel_capabilities() if name in own),
        hard_limits=hard_limits(),
        architecture=Platform.host().architecture,
        kernel=kernel_version(),
        cgroup_unified=hierarchies.unified,
        swap_limit=_swap_limit(hierarchies),
        seccomp=Path("/proc/sys/kernel/seccomp/actions_avail").exists(),
        sysctls=tuple(name for name, _ in defaults.SYSCTLS if Path("/proc/sys", *name.split(".")).exists()),
        masked_paths=defaults.MASKED_PATHS
        + tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))),
        init_path=_init_program(),
    )


def kernel_version() -> tuple[int, int]:
    parts = platform.release().split("-")[0].split(".")
    return int(parts[0]), int(parts[1])


def _swap_limit(hierarchies: Hierarchies) -> bool:
    if not hierarchies.unified:
        directory = hierarchies.mounts.get("memory")
        return directory is not None and (directory / "memory.memsw.limit_in_bytes").exists()
    # The root group has no limits of its own; every other one has the file where swap is accounted.
    return any(hierarchies.mounts[""].glob("*/memory.swap.max"))


def _init_program() -> str:
    for name in defaults.INIT_PROGRAMS:
        if path := find_program(name):
            return os.path.realpath(path)
    return ""
