"""What this machine can do, as far as a container's specification depends on it; probed once per daemon."""

import glob
import os
import platform
from pathlib import Path

import msgspec

from gantry.linux.capabilities import kernel_capabilities, own_bounding_set
from gantry.linux.cgroups import Hierarchies
from gantry.linux.process import find_program, hard_limits
from gantry.model.kernel import KernelLimits
from gantry.model.platform import Platform
from gantry.model.remap import Remap
from gantry.runtime import apparmor, defaults


class HostFacts(msgspec.Struct, frozen=True):
    """`capabilities` are those that can be given away, `hard_limits` bound what a process limit may be.

    `apparmor` is the profile of containers that name none: "" where it cannot be loaded, None where the kernel does
    not confine by profiles. `sysctls` are the default ones that this kernel has, `init_path` is "" without a static
    init program. `remap` is how the ids of containers are mapped, None where they are the host's.
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
    limits: KernelLimits = KernelLimits()
    apparmor: str | None = None
    cdi_directories: tuple[str, ...] = ()
    remap: Remap | None = None


def probe(hierarchies: Hierarchies) -> HostFacts:
    """Look at the running kernel and at what is installed (blocking, about a millisecond)."""
    own = frozenset(own_bounding_set())
    limits = kernel_limits(hierarchies)
    return HostFacts(
        capabilities=tuple(name for name in kernel_capabilities() if name in own),
        hard_limits=hard_limits(),
        architecture=Platform.host().architecture,
        kernel=kernel_version(),
        cgroup_unified=hierarchies.unified,
        swap_limit=limits.swap,
        seccomp=Path("/proc/sys/kernel/seccomp/actions_avail").exists(),
        sysctls=tuple(name for name, _ in defaults.SYSCTLS if Path("/proc/sys", *name.split(".")).exists()),
        masked_paths=defaults.MASKED_PATHS
        + tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))),
        init_path=_init_program(),
        limits=limits,
        apparmor=apparmor.load_default() if apparmor.enabled() else None,
    )


def kernel_limits(hierarchies: Hierarchies) -> KernelLimits:
    """Which limits can be set, by the files that the kernel offers in the control groups."""
    if hierarchies.unified:
        return _unified_limits(hierarchies)

    def has(controller: str, *files: str) -> bool:
        directory = hierarchies.mounts.get(controller)
        return directory is not None and any((directory / file).exists() for file in files)

    return KernelLimits(
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        memory_reservation=has("memory", "memory.soft_limit_in_bytes"),
        memory_swappiness=has("memory", "memory.swappiness"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        pids="pids" in hierarchies.mounts,
        cpu_cfs=has("cpu", "cpu.cfs_quota_us"),
        cpu_shares=has("cpu", "cpu.shares"),
        cpuset="cpuset" in hierarchies.mounts,
        blkio_weight=has("blkio", "blkio.weight", "blkio.bfq.weight"),
        blkio_weight_device=has("blkio", "blkio.weight_device", "blkio.bfq.weight_device"),
        blkio_read_bps=has("blkio", "blkio.throttle.read_bps_device"),
        blkio_write_bps=has("blkio", "blkio.throttle.write_bps_device"),
        blkio_read_iops=has("blkio", "blkio.throttle.read_iops_device"),
        blkio_write_iops=has("blkio", "blkio.throttle.write_iops_device"),
    )


def _unified_limits(hierarchies: Hierarchies) -> KernelLimits:
    """Version 2; swappiness and a disabled OOM killer are not of it."""
    files = hierarchies.unified_files()
    memory, cpu, blocks = "memory.max" in files, "cpu.max" in files, "io.max" in files
    weights = bool(files & {"io.weight", "io.bfq.weight"})
    return KernelLimits(
        unified=True,
        memory=memory,
        swap="memory.swap.max" in files,
        memory_reservation=memory,
        memory_swappiness=False,
        oom_kill_disable=False,
        pids="pids.max" in files,
        cpu_cfs=cpu,
        cpu_shares=cpu,
        cpuset="cpuset.cpus" in files,
        blkio_weight=weights,
        blkio_weight_device=weights,
        blkio_read_bps=blocks,
        blkio_write_bps=blocks,
        blkio_read_iops=blocks,
        blkio_write_iops=blocks,
    )


def kernel_version() -> tuple[int, int]:
    parts = platform.release().split("-")[0].split(".")
    return int(parts[0]), int(parts[1])


def _init_program() -> str:
    for name in defaults.INIT_PROGRAMS:
        if path := find_program(name):
            return os.path.realpath(path)
    return ""
