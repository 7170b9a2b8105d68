"""What processes hold: memory, descriptors, threads; read from /proc."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Holding(NamedTuple):
    """Megabytes resident and proportional (shared pages divided by their users), descriptors and threads."""

    resident: float
    proportional: float
    descriptors: int
    threads: int


def holding(pids: Iterable[int]) -> Holding:
    """The sum over processes; one that has ended meanwhile holds nothing."""
    total = Holding(0, 0, 0, 0)
    for pid in pids:
        directory = Path(f"/proc/{pid}")
        try:
            rollup = (directory / "smaps_rollup").read_text()
            one = Holding(
                _field(rollup, "Rss:"), _field(rollup, "Pss:"),
                sum(1 for _ in (directory / "fd").iterdir()), sum(1 for _ in (directory / "task").iterdir()),
            )  # fmt: skip
        except (OSError, ValueError):
            continue
        total = Holding(
            total.resident + one.resident, total.proportional + one.proportional,
            total.descriptors + one.descriptors, total.threads + one.threads,
        )  # fmt: skip
    return total


def _field(rollup: str, name: str) -> float:
    for line in rollup.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise ValueError(name)


def tree(pid: int) -> list[int]:
    """A process and its descendants that are the engine's own programs."""
    children: dict[int, list[int]] = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(directory.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children.get(one, ())
    return found


def naming(words: Iterable[str], programs: Iterable[str]) -> list[int]:
    """Processes of these programs whose command line has one of the words in it: monitors, shims, proxies."""
    wanted, allowed = [word.encode() for word in words], set(programs)
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            line = (directory / "cmdline").read_bytes()
            name = (directory / "comm").read_text().strip()
        except OSError:
            continue
        if name in allowed and any(word in line for word in wanted):
            found.append(int(directory.name))
    return found


def resources() -> dict[str, int]:
    """Mounts and interfaces of this machine."""
    return {
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "interfaces": sum(1 for _ in Path("/sys/class/net").iterdir()),
    }
