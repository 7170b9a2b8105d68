"""A container's cgroup numbers in the shape of the Engine API (`GET /containers/{id}/stats`)."""

import os
from pathlib import Path
from typing import Any

from gantry.linux.cgroups import Hierarchies, read_number, read_table, read_text

_TICKS = os.sysconf("SC_CLK_TCK")
_NETWORK_COLUMNS = (
    ("rx_bytes", 0), ("rx_packets", 1), ("rx_errors", 2), ("rx_dropped", 3),
    ("tx_bytes", 8), ("tx_packets", 9), ("tx_errors", 10), ("tx_dropped", 11),
)  # fmt: skip
_BLOCK_KEYS = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_PAGE = 4096
_UNLIMITED = (1 << 63) // _PAGE * _PAGE - _PAGE  # version 1 writes its largest number for no limit


def read(hierarchies: Hierarchies, group: str, network_pid: int) -> dict[str, Any]:
    """The parts of a stats answer; `networks` where `network_pid` is given (blocking)."""
    result: dict[str, Any] = {
        "pids_stats": _pids(hierarchies, group),
        "blkio_stats": _block(hierarchies, group),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(hierarchies, group),
        "memory_stats": _memory(hierarchies, group),
    }
    if network_pid and (networks := network_counters(network_pid)):
        result["networks"] = networks
    return result


def system_cpu_usage() -> int:
    """Nanoseconds that all processors have spent since boot (the first eight columns of /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        columns = file.readline().split()[1:9]
    # user, nice, system, idle, iowait, irq, softirq, steal: as Docker adds them up
    return sum(int(column) for column in columns) * 1_000_000_000 // _TICKS


def network_counters(pid: int) -> dict[str, dict[str, int]]:
    """Counters of each interface of a process's network namespace, without the loopback."""
    networks = {}
    for line in read_text(Path(f"/proc/{pid}/net/dev")).splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() != "lo" and len(fields) >= 12:
            networks[name.strip()] = {key: int(fields[column]) for key, column in _NETWORK_COLUMNS}
    return networks


def _pids(hierarchies: Hierarchies, group: str) -> dict[str, int]:
    directory = hierarchies.directory(group, "pids")
    if directory is None:
        return {}
    stats = {"current": read_number(directory / "pids.current")}
    limit = read_number(directory / "pids.max")
    return stats | ({"limit": limit} if limit else {})


def _cpu(hierarchies: Hierarchies, group: str) -> dict[str, Any]:
    usage: dict[str, Any]
    throttled = {}
    directory = hierarchies.directory(group, "cpu")
    table = read_table(directory / "cpu.stat") if directory else {}
    if hierarchies.unified:
        usage = {
            "total_usage": table.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": table.get("system_usec", 0) * 1000,
            "usage_in_usermode": table.get("user_usec", 0) * 1000,
        }
        throttled = {"throttled_time": table.get("throttled_usec", 0) * 1000}
    else:
        accounting = hierarchies.directory(group, "cpuacct")
        usage = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
        if accounting is not None:
            modes = read_table(accounting / "cpuacct.stat")
            usage = {
                "total_usage": read_number(accounting / "cpuacct.usage"),
                "percpu_usage": [int(n) for n in read_text(accounting / "cpuacct.usage_percpu").split()],
                "usage_in_kernelmode": modes.get("system", 0) * 1_000_000_000 // _TICKS,
                "usage_in_usermode": modes.get("user", 0) * 1_000_000_000 // _TICKS,
            }
        throttled = {"throttled_time": table.get("throttled_time", 0)}
    return {
        "cpu_usage": usage,
        "system_cpu_usage": system_cpu_usage(),
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": table.get("nr_periods", 0),
            "throttled_periods": table.get("nr_throttled", 0),
            **throttled,
        },
    }


def _memory(hierarchies: Hierarchies, group: str) -> dict[str, Any]:
    directory = hierarchies.directory(group, "memory")
    if directory is None or not directory.exists():
        return {}
    numbers = read_table(directory / "memory.stat")
    if hierarchies.unified:
        limit = read_number(directory / "memory.max")
        usage = {"usage": read_number(directory / "memory.current")}
        failures = read_table(directory / "memory.events").get("max", 0)
    else:
        limit = read_number(directory / "memory.limit_in_bytes")
        limit = 0 if limit >= _UNLIMITED else limit
        usage = {
            "usage": read_number(directory / "memory.usage_in_bytes"),
            "max_usage": read_number(directory / "memory.max_usage_in_bytes"),
        }
        failures = read_number(directory / "memory.failcnt")
    result: dict[str, Any] = {**usage, "stats": numbers, "limit": limit or _physical_memory()}
    return result | ({"failcnt": failures} if failures else {})


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _block(hierarchies: Hierarchies, group: str) -> dict[str, Any]:
    result: dict[str, list[dict[str, Any]] | None] = {key: [] for key in _BLOCK_KEYS}
    if hierarchies.unified:
        directory = hierarchies.directory(group, "io")
        result = dict.fromkeys(_BLOCK_KEYS)
        if directory is not None:
            result["io_service_bytes_recursive"], result["io_serviced_recursive"] = _io_stat(directory / "io.stat")
        return result
    directory = hierarchies.directory(group, "blkio")
    if directory is not None:
        for key, name in (("io_service_bytes_recursive", "io_service_bytes"), ("io_serviced_recursive", "io_serviced")):
            for prefix in ("blkio.bfq.", "blkio.", "blkio.throttle."):
                if found := _block_table(directory / f"{prefix}{name}_recursive"):
                    result[key] = found
                    break
    return result


def _io_stat(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Version 2: `8:0 rbytes=… wbytes=… rios=… wios=…`."""
    sizes: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    for line in read_text(path).splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.partition("=")[::2] for pair in pairs)
        for target, operation, key in (
            (sizes, "read", "rbytes"),
            (sizes, "write", "wbytes"),
            (counts, "read", "rios"),
            (counts, "write", "wios"),
        ):
            if key in values:
                target.append({"major": int(major), "minor": int(minor), "op": operation, "value": int(values[key])})
    return sizes, counts


def _block_table(path: Path) -> list[dict[str, Any]]:
    """Version 1: `8:0 Read 4096`, with a last line for the total."""
    entries = []
    for line in read_text(path).splitlines():
        fields = line.split()
        if len(fields) == 3:
            major, _, minor = fields[0].partition(":")
            entries.append({"major": int(major), "minor": int(minor), "op": fields[1].lower(), "value": int(fields[2])})
    return entries
