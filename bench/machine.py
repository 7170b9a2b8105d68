"""The machine that the numbers are from."""

import os
import platform
from pathlib import Path


def describe() -> dict[str, str]:
    """Processor, memory, kernel, file system, control groups, and how busy it was before the run."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 1024:.0f} MB",
        "kernel": platform.release(),
        "system": _release(),
        "python": platform.python_version(),
        "file system": _file_system("/var/tmp"),
        "control groups": _cgroups(),
        "load before": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _release() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _file_system(path: str) -> str:
    best = ("", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _cgroups() -> str:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "v2"
    return "hybrid" if Path("/sys/fs/cgroup/unified").exists() else "v1"
