"""Limits: Docker's checks and words, and what a kernel cannot do."""

import msgspec
import pytest

from gantry.engine.resources import check_resources, parse_set
from gantry.engine.update import updated
from gantry.errors import Conflict, InvalidArgument
from gantry.model.container import HostConfig, Ulimit
from gantry.model.kernel import KernelLimits

ALL = KernelLimits()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(memory=1), "Minimum memory limit allowed is 6MB"),
        (HostConfig(memory=64 << 20, memory_swap=32 << 20), "Minimum memoryswap limit should be larger"),
        (HostConfig(memory_swap=64 << 20), "You should always set the Memory limit when using Memoryswap limit"),
        (HostConfig(memory_swappiness=101), "Invalid value: 101, valid memory swappiness range is 0-100"),
        (HostConfig(nano_cpus=10**13), "range of CPUs is from 0.01 to"),
        (HostConfig(nano_cpus=10**6, cpu_quota=1000), "Nano CPUs and CPU Quota cannot both be set"),
        (HostConfig(cpu_shares=-1), "invalid CPU shares \\(-1\\): value must be a positive integer"),
        (HostConfig(cpu_period=999), "CPU cfs period can not be less than 1ms"),
        (HostConfig(cpuset_cpus="0,99999"), "Invalid value 0,99999 for cpuset cpus: value of out range, maximum is"),
        (HostConfig(cpuset_cpus="1-0"), "Invalid value 1-0 for cpuset cpus: invalid format: 1-0"),
        (HostConfig(cpuset_cpus="8000"), "Requested CPUs are not available - requested 8000, available: "),
        (HostConfig(blkio_weight=5), "Range of blkio weight is from 10 to 1000"),
        (HostConfig(io_maximum_iops=1), "invalid option: QoS maximum IOPs configuration is not supported on linux"),
        (HostConfig(oom_score_adj=1001), "Invalid value 1001, range for oom score adj is \\[-1000, 1000\\]"),
        (HostConfig(ulimits=[Ulimit("core", hard=1, soft=2)]), "soft limit must be less than or equal to hard limit"),
    ],
)
def test_values_that_make_no_sense(host: HostConfig, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_resources(host, ALL)


def test_what_the_kernel_cannot_do_is_discarded() -> None:
    none = KernelLimits(**dict.fromkeys(KernelLimits.__struct_fields__, False))
    asked = HostConfig(
        memory=64 << 20, memory_swappiness=50, memory_reservation=32 << 20, oom_kill_disable=True, pids_limit=5,
        cpu_shares=5, cpu_quota=5000, cpuset_cpus="0", blkio_weight=100,
    )  # fmt: skip
    host, warnings = check_resources(asked, none)
    assert host == HostConfig()
    assert len(warnings) == 9
    assert all("discarded" in warning for warning in warnings)
    assert check_resources(asked, ALL)[0] == asked


def test_a_weight_that_is_discarded_may_have_any_value() -> None:
    host, warnings = check_resources(HostConfig(blkio_weight=5), KernelLimits(blkio_weight=False))
    assert host.blkio_weight == 0
    assert warnings == ["Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."]


def test_minus_one_asks_for_no_swappiness() -> None:
    host, warnings = check_resources(HostConfig(memory_swappiness=-1), KernelLimits(memory_swappiness=False))
    assert (host.memory_swappiness, warnings) == (None, [])


def test_memory_without_swap_accounting() -> None:
    host, warnings = check_resources(HostConfig(memory=64 << 20), KernelLimits(swap=False))
    assert (host.memory, host.memory_swap) == (64 << 20, -1)
    assert "Memory limited without swap." in warnings[0]


def test_sets_of_numbers() -> None:
    assert parse_set("0-2,4") == {0, 1, 2, 4}
    assert parse_set("") == set()
    assert [parse_set(text) for text in ("a", "2-1", "1-", "-1", "1,,2")] == [None] * 5


class TestUpdate:
    def test_zero_is_unchanged_and_minus_one_lifts(self) -> None:
        host = HostConfig(memory=64 << 20, memory_swap=128 << 20, pids_limit=10, cpu_shares=7)
        changed, _ = updated(host, HostConfig(pids_limit=-1, cpu_shares=9), ALL)
        assert changed == msgspec.structs.replace(host, pids_limit=None, cpu_shares=9)

    def test_what_does_not_fit(self) -> None:
        with pytest.raises(Conflict, match="Memory limit should be smaller than already set memoryswap limit"):
            updated(HostConfig(memory=64 << 20, memory_swap=64 << 20), HostConfig(memory=128 << 20), ALL)
        with pytest.raises(Conflict, match="Nano CPUs cannot be updated as CPU Quota has already been set"):
            updated(HostConfig(cpu_quota=5000), HostConfig(nano_cpus=10**9), ALL)
