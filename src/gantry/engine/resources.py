"""Limits on memory, processors, processes and block devices: Docker's checks, for create and update."""

import os
from pathlib import Path

import msgspec

from gantry.engine.kernel import settle
from gantry.errors import InvalidArgument
from gantry.model.container import HostConfig
from gantry.model.kernel import KernelLimits

MEMORY_MINIMUM = 6 << 20
_PERIODS = (1000, 1_000_000)  # microseconds
_HIGHEST = 8192  # what Docker takes for the number of a processor
_NODES = Path("/sys/devices/system/node/online")


def check_resources(host: HostConfig, kernel: KernelLimits) -> tuple[HostConfig, list[str]]:
    """The configuration without what the kernel cannot do, and warnings; raises InvalidArgument."""
    _check_memory(host)
    if host.memory_swappiness == -1:  # older clients say so that nothing is asked
        host = msgspec.structs.replace(host, memory_swappiness=None)
    host, warnings = settle(host, kernel)
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    _check_processors(host)
    if host.cpu_percent:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        host = msgspec.structs.replace(host, cpu_percent=0)
    for value, what in ((host.io_maximum_bandwidth, "bandwidth"), (host.io_maximum_iops, "IOPs")):
        if value:
            raise InvalidArgument(f"invalid option: QoS maximum {what} configuration is not supported on linux")
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    for limit in host.ulimits or ():
        if limit.hard != -1 and not (limit.soft != -1 and limit.soft <= limit.hard):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    return host, warnings


def _check_memory(host: HostConfig) -> None:
    memory, swap = host.memory, host.memory_swap
    if memory and memory < MEMORY_MINIMUM:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if memory and 0 < swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not memory and swap > 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    reservation = host.memory_reservation
    if reservation and reservation < MEMORY_MINIMUM:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory and reservation and memory < reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_processors(host: HostConfig) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if host.nano_cpus and host.cpu_period:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus and host.cpu_quota:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if not 0 <= host.nano_cpus <= len(cpus) * 10**9:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {len(cpus)}.00, as there are only {len(cpus)} CPUs available"
        )
    if host.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not _PERIODS[0] <= host.cpu_period <= _PERIODS[1]:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < _PERIODS[0]:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _check_set(host.cpuset_cpus, set(cpus), "cpus", "CPUs")
    if host.cpuset_mems:
        _check_set(host.cpuset_mems, _memory_nodes(), "mems", "memory nodes")


def _check_set(text: str, available: set[int], name: str, what: str) -> None:
    wanted = parse_set(text)
    if wanted is None:
        raise InvalidArgument(f"Invalid value {text} for cpuset {name}: invalid format: {text}")
    if max(wanted, default=0) >= _HIGHEST:
        raise InvalidArgument(f"Invalid value {text} for cpuset {name}: value of out range, maximum is {_HIGHEST}")
    if not wanted <= available:
        raise InvalidArgument(f"Requested {what} are not available - requested {text}, available: {_ranges(available)}")


def parse_set(text: str) -> set[int] | None:
    """The numbers of `0-2,4`; None for what is no such list. An absurdly long range is cut short."""
    wanted: set[int] = set()
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        bounds = (low, high if dash else low)
        if not all(bound.isascii() and bound.isdecimal() and len(bound) <= 6 for bound in bounds):
            return None
        first, last = int(bounds[0]), int(bounds[1])
        if first > last:
            return None
        wanted.update(range(first, min(last, first + _HIGHEST) + 1))
    return wanted


def _ranges(numbers: set[int]) -> str:
    """`0-3,8` for a set of numbers."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in runs)


def _memory_nodes() -> set[int]:
    try:
        return parse_set(_NODES.read_text("ascii").strip()) or {0}
    except OSError:
        return {0}  # a kernel without NUMA has one node


def resource_defaults(host: HostConfig) -> HostConfig:
    """Docker's values for what follows from other values."""
    return msgspec.structs.replace(
        host,
        memory_swap=2 * host.memory if host.memory and not host.memory_swap else host.memory_swap,
        memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
        oom_kill_disable=bool(host.oom_kill_disable),
        pids_limit=host.pids_limit if host.pids_limit and host.pids_limit > 0 else None,
    )
