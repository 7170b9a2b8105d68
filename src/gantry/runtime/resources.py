"""Limits: `HostConfig` becomes the runtime specification's `linux.resources`."""

from typing import Any

from gantry.errors import InvalidArgument
from gantry.model.container import HostConfig, ThrottleDevice
from gantry.runtime import defaults
from gantry.runtime.devices import DeviceNumbers
from gantry.runtime.facts import HostFacts


def resources(config: HostConfig, devices: DeviceNumbers, facts: HostFacts) -> dict[str, Any]:
    """Everything that a container's cgroup is told, devices included."""
    result = limits(config, devices, facts)
    result["devices"] = device_rules(config, devices)
    return result


def limits(config: HostConfig, devices: DeviceNumbers, facts: HostFacts) -> dict[str, Any]:
    """The limits that can also be changed while the container runs; only what is set appears."""
    result = {
        "memory": _memory(config, facts),
        "cpu": _cpu(config),
        "blockIO": _block_io(config, devices),
    }
    result = {key: value for key, value in result.items() if value}
    if config.pids_limit is not None and config.pids_limit > 0:
        result["pids"] = {"limit": config.pids_limit}
    return result


def _memory(config: HostConfig, facts: HostFacts) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if config.memory > 0:
        memory["limit"] = config.memory
    if config.memory_reservation > 0:
        memory["reservation"] = config.memory_reservation
    swap = config.memory_swap or (2 * config.memory if config.memory > 0 else 0)
    if swap and facts.swap_limit:
        memory["swap"] = max(swap, -1)
    if not facts.cgroup_unified:  # version 2 knows neither
        if config.memory_swappiness is not None and config.memory_swappiness >= 0:
            memory["swappiness"] = config.memory_swappiness
        if config.oom_kill_disable:
            memory["disableOOMKiller"] = True
    return memory


def _cpu(config: HostConfig) -> dict[str, Any]:
    cpu: dict[str, Any] = {
        "shares": config.cpu_shares,
        "quota": max(config.cpu_quota, 0),  # a negative one is no limit, which runtimes do not all understand
        "period": config.cpu_period,
        "realtimeRuntime": config.cpu_realtime_runtime,
        "realtimePeriod": config.cpu_realtime_period,
        "cpus": config.cpuset_cpus,
        "mems": config.cpuset_mems,
    }
    if config.nano_cpus > 0:
        cpu.update(period=defaults.CPU_PERIOD, quota=config.nano_cpus * defaults.CPU_PERIOD // 1_000_000_000)
    return {key: value for key, value in cpu.items() if value}


def _block_io(config: HostConfig, devices: DeviceNumbers) -> dict[str, Any]:
    def throttled(entries: list[ThrottleDevice] | None) -> list[dict[str, int]]:
        found = []
        for entry in entries or ():
            major, minor = devices.blocks[entry.path]
            found.append({"major": major, "minor": minor, "rate": entry.rate})
        return found

    weights = []
    for entry in config.blkio_weight_device or ():
        major, minor = devices.blocks[entry.path]
        weights.append({"major": major, "minor": minor, "weight": entry.weight})
    block: dict[str, Any] = {
        "weight": config.blkio_weight,
        "weightDevice": weights,
        "throttleReadBpsDevice": throttled(config.blkio_device_read_bps),
        "throttleWriteBpsDevice": throttled(config.blkio_device_write_bps),
        "throttleReadIOPSDevice": throttled(config.blkio_device_read_iops),
        "throttleWriteIOPSDevice": throttled(config.blkio_device_write_iops),
    }
    return {key: value for key, value in block.items() if value}


def device_rules(config: HostConfig, devices: DeviceNumbers) -> list[dict[str, Any]]:
    """The device cgroup's list: a later rule wins."""
    if config.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules = [dict(rule) for rule in defaults.DEVICE_RULES]
    rules += [device.rule() for device in devices.nodes]
    rules += [parse_rule(text) for text in config.device_cgroup_rules or ()]
    return rules


def parse_rule(text: str) -> dict[str, Any]:
    """`a|b|c MAJOR:MINOR ACCESS`, with * for any number; raises InvalidArgument."""
    wrong = InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    parts = text.split(" ")
    if len(parts) != 3 or parts[0] not in ("a", "b", "c") or not parts[2] or parts[2].strip("rwm"):
        raise wrong
    rule: dict[str, Any] = {"allow": True, "type": parts[0], "access": parts[2]}
    major, colon, minor = parts[1].partition(":")
    if not colon:
        raise wrong
    for key, value in (("major", major), ("minor", minor)):
        if value.isdecimal() and len(value) < 10:
            rule[key] = int(value)
        elif value != "*":  # any number is a number left out: what crun and runc both understand
            raise wrong
    return rule
