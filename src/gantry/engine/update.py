"""`update`: new limits and a new restart policy over what a container has. Pure."""

import msgspec

from gantry.engine.resources import check_resources
from gantry.engine.validate import check_restart_policy
from gantry.errors import Conflict
from gantry.model.container import HostConfig
from gantry.model.kernel import KernelLimits

_RESOURCES = (
    "cpu_shares", "memory", "nano_cpus", "blkio_weight", "blkio_weight_device", "blkio_device_read_bps",
    "blkio_device_write_bps", "blkio_device_read_iops", "blkio_device_write_iops", "cpu_period", "cpu_quota",
    "cpu_realtime_period", "cpu_realtime_runtime", "cpuset_cpus", "cpuset_mems", "memory_reservation", "memory_swap",
    "pids_limit", "ulimits", "oom_kill_disable", "memory_swappiness",
)  # fmt: skip
_CLASHES = (
    ("nano_cpus", "cpu_period", "Nano CPUs cannot be updated as CPU Period has already been set"),
    ("nano_cpus", "cpu_quota", "Nano CPUs cannot be updated as CPU Quota has already been set"),
    ("cpu_period", "nano_cpus", "CPU Period cannot be updated as NanoCPUs has already been set"),
    ("cpu_quota", "nano_cpus", "CPU Quota cannot be updated as NanoCPUs has already been set"),
)


def updated(host: HostConfig, asked: HostConfig, kernel: KernelLimits) -> tuple[HostConfig, list[str]]:
    """The changed configuration and warnings; zero means unchanged, -1 takes the limit on processes away.

    Raises InvalidArgument for values that make no sense, Conflict for those that do not fit to what is set.
    """
    asked, warnings = check_resources(asked, kernel)
    check_restart_policy(asked.restart_policy)
    for new, old, message in _CLASHES:
        if getattr(asked, new) and getattr(host, old):
            raise Conflict(f"Conflicting options: {message}")
    if asked.memory and not asked.memory_swap and asked.memory > host.memory_swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    changes = {name: value for name in _RESOURCES if (value := getattr(asked, name))}
    if (limit := changes.get("pids_limit")) is not None and limit < 0:
        changes["pids_limit"] = None
    if asked.restart_policy.name:
        if host.auto_remove and asked.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = asked.restart_policy
    return msgspec.structs.replace(host, **changes), warnings
