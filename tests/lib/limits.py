"""Limits as a container's own control group shows them, on both versions of the control groups."""

from pathlib import Path

from lib.daemon import Client

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()

# By what is limited: the controller and file of version 1, the file of version 2.
_FILES = {
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "reservation": ("memory/memory.soft_limit_in_bytes", "memory.low"),
    "swap": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "swappiness": ("memory/memory.swappiness", ""),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
    "quota": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "period": ("cpu/cpu.cfs_period_us", "cpu.max"),
    "cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "mems": ("cpuset/cpuset.mems", "cpuset.mems"),
    "pids": ("pids/pids.max", "pids.max"),
    "read_bps": ("blkio/blkio.throttle.read_bps_device", "io.max"),
    "write_iops": ("blkio/blkio.throttle.write_iops_device", "io.max"),
    "devices": ("devices/devices.list", ""),
}


def limits(client: Client, container: str, *kinds: str) -> list[str]:
    """What the kernel says inside a running container, by kind; for version 2 in version 1's terms."""
    files = [f"/sys/fs/cgroup/{_FILES[kind][UNIFIED]}" for kind in kinds]
    text = client.out("exec", container, "sh", "-c", "; echo ---; ".join(f"cat {file}" for file in files))
    found = [part.strip() for part in text.split("---")]
    return [_of_version_1(kind, value) for kind, value in zip(kinds, found, strict=True)]


def _of_version_1(kind: str, value: str) -> str:
    if not UNIFIED:
        return value
    if kind == "quota":
        return value.split()[0].replace("max", "-1")
    if kind == "period":
        return value.split()[1]
    return value


def weight(shares: int) -> int:
    """The `cpu.weight` of version 2 that runtimes make of shares."""
    return 1 + ((shares - 2) * 9999) // 262142
