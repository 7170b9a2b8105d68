"""Cgroup files of both versions in the Engine API's shape."""

import os
from pathlib import Path

from gantry.linux.cgroups import Hierarchies, Mode
from gantry.runtime import stats


def write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def test_version_2(tmp_path: Path) -> None:
    write(
        tmp_path / "g",
        {
            "cpu.stat": "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n",
            "memory.current": "1000\n",
            "memory.max": "max\n",
            "memory.stat": "anon 5\nfile 6\n",
            "memory.events": "max 4\noom_kill 0\n",
            "pids.current": "3\n",
            "pids.max": "max\n",
            "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n",
        },
    )
    found = stats.read(Hierarchies(Mode.UNIFIED, {"": tmp_path}), "/g", 0)
    cpu = found["cpu_stats"]
    assert cpu["cpu_usage"] == {"total_usage": 10000, "usage_in_kernelmode": 4000, "usage_in_usermode": 6000}
    assert cpu["throttling_data"] == {"periods": 3, "throttled_periods": 2, "throttled_time": 1000}
    assert cpu["online_cpus"] == os.cpu_count()
    assert cpu["system_cpu_usage"] > 0
    memory = found["memory_stats"]
    assert (memory["usage"], memory["stats"], memory["failcnt"]) == (1000, {"anon": 5, "file": 6}, 4)
    assert memory["limit"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["pids_stats"] == {"current": 3}
    assert found["blkio_stats"]["io_service_bytes_recursive"] == [
        {"major": 8, "minor": 0, "op": "read", "value": 1},
        {"major": 8, "minor": 0, "op": "write", "value": 2},
    ]
    assert "networks" not in found


def test_version_1(tmp_path: Path) -> None:
    mounts = {name: tmp_path / name for name in ("cpu", "cpuacct", "memory", "pids", "blkio")}
    write(mounts["cpu"] / "g", {"cpu.stat": "nr_periods 1\nnr_throttled 0\nthrottled_time 9\n"})
    write(
        mounts["cpuacct"] / "g",
        {"cpuacct.usage": "77\n", "cpuacct.usage_percpu": "70 7 \n", "cpuacct.stat": "user 2\nsystem 1\n"},
    )
    write(
        mounts["memory"] / "g",
        {
            "memory.usage_in_bytes": "10\n",
            "memory.max_usage_in_bytes": "20\n",
            "memory.limit_in_bytes": "9223372036854771712\n",
            "memory.stat": "cache 1\n",
        },
    )
    write(mounts["pids"] / "g", {"pids.current": "1\n", "pids.max": "9\n"})
    write(mounts["blkio"] / "g", {"blkio.throttle.io_serviced_recursive": "8:0 Read 5\n8:0 Total 5\nTotal 5\n"})
    found = stats.read(Hierarchies(Mode.LEGACY, mounts), "/g", os.getpid())
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert found["cpu_stats"]["cpu_usage"] == {
        "total_usage": 77,
        "percpu_usage": [70, 7],
        "usage_in_kernelmode": tick,
        "usage_in_usermode": 2 * tick,
    }
    assert found["memory_stats"]["max_usage"] == 20
    assert found["memory_stats"]["limit"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["pids_stats"] == {"current": 1, "limit": 9}
    assert [entry["op"] for entry in found["blkio_stats"]["io_serviced_recursive"]] == ["read", "total"]


def test_a_group_that_has_gone(tmp_path: Path) -> None:
    found = stats.read(Hierarchies(Mode.UNIFIED, {"": tmp_path}), "/gone", 0)
    assert found["memory_stats"] == {}
    assert found["pids_stats"] == {"current": 0}


def test_network_counters_leave_the_loopback_out() -> None:
    assert "lo" not in stats.network_counters(os.getpid())
    assert stats.network_counters(2**22 + 1) == {}
