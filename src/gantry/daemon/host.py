"""What this machine is, for `/info` and `/version`: looked at once, when the daemon starts."""

import os
import platform
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

from gantry.engine.system import Component, Host
from gantry.linux.cgroups import Hierarchies
from gantry.linux.process import find_program, run
from gantry.model.platform import Platform
from gantry.runtime import apparmor
from gantry.runtime.defaults import INIT_PROGRAMS
from gantry.runtime.facts import kernel_limits

_OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))


def describe(data_root: Path, *, remapped: bool = False) -> Host:
    """Blocking; some milliseconds."""
    hierarchies = Hierarchies.find()
    release = _os_release()
    limits = kernel_limits(hierarchies)
    v2 = hierarchies.unified
    return Host(
        name=socket.gethostname(),
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        kernel_version=platform.release(),
        machine=platform.machine(),
        architecture=Platform.host().architecture,
        ncpu=len(os.sched_getaffinity(0)),
        mem_total=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        backing_filesystem=_filesystem(data_root),
        cgroup_version="2" if v2 else "1",
        memory_limit=limits.memory,
        swap_limit=limits.swap,
        cpu_cfs=limits.cpu_cfs,
        cpu_shares=limits.cpu_shares,
        cpuset=limits.cpuset,
        pids_limit=limits.pids,
        oom_kill_disable=limits.oom_kill_disable,
        security_options=tuple(_security_options(cgroup_namespaces=v2, remapped=remapped)),
        init_binary=next((path.rpartition("/")[2] for name in INIT_PROGRAMS if (path := find_program(name))), ""),
    )


def _os_release() -> dict[str, str]:
    for path in _OS_RELEASE:
        if path.exists():
            pairs = (line.partition("=") for line in path.read_text("utf-8", "replace").splitlines() if "=" in line)
            return {key: " ".join(shlex.split(value)) for key, _, value in pairs}
    return {}


def _security_options(*, cgroup_namespaces: bool, remapped: bool) -> Iterator[str]:
    if apparmor.enabled():
        yield "name=apparmor"
    if Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        yield "name=seccomp,profile=builtin"
    if remapped:
        yield "name=userns"
    if cgroup_namespaces:
        yield "name=cgroupns"


def _filesystem(path: Path) -> str:
    """The type of the file system that holds `path`, by Docker's names."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4]
        if len(point) >= len(best) and (path == Path(point) or Path(point) in path.parents):
            best, kind = point, rest.split()[0]
    return "extfs" if kind in ("ext2", "ext3", "ext4") else kind


def components() -> list[Component]:
    """The parts from outside, but for the OCI runtimes, and their versions (blocking)."""
    found = []
    if path := find_program("conmon"):
        words = run([path, "--version"], timeout=10).stdout.decode("utf-8", "replace").split()
        version = words[words.index("version") + 1] if "version" in words[:-1] else ""
        commit = words[words.index("commit:") + 1] if "commit:" in words[:-1] else ""
        found.append(Component("conmon", version, {"GitCommit": "" if commit == "unknown" else commit}))
    if path := find_program("nft"):
        words = run([path, "--version"], timeout=10).stdout.decode("utf-8", "replace").split()
        found.append(Component("nft", words[1].removeprefix("v") if len(words) > 1 else "", {}))
    return found
