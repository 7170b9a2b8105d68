"""Limits that this host's kernel cannot set are discarded, with Docker's warnings."""

from typing import Any, NamedTuple

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import HostConfig
from gantry.model.kernel import KernelLimits


class _Discard(NamedTuple):
    """Where the kernel lacks `limit` and one of `fields` is set, they become `value` and the user is told."""

    limit: str
    fields: tuple[str, ...]
    warning: str
    value: Any = 0


_NOT_MOUNTED = "or the cgroup is not mounted"
_DISCARDS = (
    _Discard(
        "memory", ("memory",),
        f"Your kernel does not support memory limit capabilities {_NOT_MOUNTED}. Limitation discarded.",
    ),
    _Discard(
        "memory_swappiness", ("memory_swappiness",),
        f"Your kernel does not support memory swappiness capabilities, {_NOT_MOUNTED}. Memory swappiness discarded.",
        None,
    ),
    _Discard(
        "memory_reservation", ("memory_reservation",),
        f"Your kernel does not support memory soft limit capabilities {_NOT_MOUNTED}. Limitation discarded.",
    ),
    _Discard(
        "oom_kill_disable", ("oom_kill_disable",),
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.", None,
    ),
    _Discard(
        "pids", ("pids_limit",),
        f"Your kernel does not support PIDs limit capabilities {_NOT_MOUNTED}. PIDs limit discarded.", None,
    ),
    _Discard(
        "cpu_shares", ("cpu_shares",), f"Your kernel does not support CPU shares {_NOT_MOUNTED}. Shares discarded."
    ),
    _Discard(
        "cpu_cfs", ("cpu_period", "cpu_quota"),
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
    ),
    _Discard(
        "cpuset", ("cpuset_cpus", "cpuset_mems"),
        f"Your kernel does not support cpuset {_NOT_MOUNTED}. Cpuset discarded.", "",
    ),
    _Discard(
        "blkio_weight", ("blkio_weight",),
        f"Your kernel does not support Block I/O weight {_NOT_MOUNTED}. Weight discarded.",
    ),
    _Discard(
        "blkio_weight_device", ("blkio_weight_device",),
        f"Your kernel does not support Block I/O weight_device {_NOT_MOUNTED}. Weight-device discarded.", None,
    ),
    _Discard(
        "blkio_read_bps", ("blkio_device_read_bps",),
        f"Your kernel does not support BPS Block I/O read limit {_NOT_MOUNTED}. Block I/O BPS read limit discarded.",
        None,
    ),
    _Discard(
        "blkio_write_bps", ("blkio_device_write_bps",),
        f"Your kernel does not support BPS Block I/O write limit {_NOT_MOUNTED}. Block I/O BPS write limit discarded.",
        None,
    ),
    _Discard(
        "blkio_read_iops", ("blkio_device_read_iops",),
        f"Your kernel does not support IOPS Block read limit {_NOT_MOUNTED}. Block I/O IOPS read limit discarded.",
        None,
    ),
    _Discard(
        "blkio_write_iops", ("blkio_device_write_iops",),
        f"Your kernel does not support IOPS Block write limit {_NOT_MOUNTED}. Block I/O IOPS write limit discarded.",
        None,
    ),
)  # fmt: skip


def settle(host: HostConfig, kernel: KernelLimits) -> tuple[HostConfig, list[str]]:
    """The configuration without what the kernel cannot do, and the warnings about it; raises InvalidArgument."""
    if host.nano_cpus > 0 and not kernel.cpu_cfs:
        raise InvalidArgument(
            f"NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler {_NOT_MOUNTED}"
        )
    warnings: list[str] = []
    changes: dict[str, Any] = {}
    for discard in _DISCARDS:
        if not getattr(kernel, discard.limit) and any(getattr(host, field) for field in discard.fields):
            warnings.append(discard.warning)
            changes |= dict.fromkeys(discard.fields, discard.value)
    if host.memory > 0 and not kernel.memory:
        changes["memory_swap"] = 0
    elif host.memory > 0 and host.memory_swap != -1 and not kernel.swap:
        warnings.append(
            f"Your kernel does not support swap limit capabilities {_NOT_MOUNTED}. Memory limited without swap."
        )
        changes["memory_swap"] = -1
    return (msgspec.structs.replace(host, **changes) if changes else host), warnings
