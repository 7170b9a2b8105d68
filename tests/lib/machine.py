"""What is on this machine outside any directory: taken before and after, so that nothing of ours stays behind."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Everything that a daemon makes and must take away again, as sets of descriptive strings."""

    mounts: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    namespaces: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def look(cls) -> "Machine":
        return cls(_mounts(), _links(), _tables(), _namespaces(), _cgroups(), _processes())

    def added_since(self, before: "Machine") -> dict[str, list[str]]:
        """What is here now and was not then, by kind; empty kinds are left out."""
        found = {kind: sorted(getattr(self, kind) - getattr(before, kind)) for kind in self.__dataclass_fields__}
        return {kind: values for kind, values in found.items() if values}


def _mounts() -> frozenset[str]:
    # `ip netns add` makes /run/netns a mount of its own on first use and keeps it: the tool's, not ours.
    mounts = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return frozenset(mounts - {"/run/netns"})


def _links() -> frozenset[str]:
    return frozenset(path.name for path in Path("/sys/class/net").iterdir())


def _tables() -> frozenset[str]:
    answer = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, check=False)
    if answer.returncode:
        return frozenset()
    entries = json.loads(answer.stdout or b"{}").get("nftables", [])
    return frozenset(f"{e['table']['family']} {e['table']['name']}" for e in entries if "table" in e)


def _namespaces() -> frozenset[str]:
    directory = Path("/run/netns")
    return frozenset(path.name for path in directory.iterdir()) if directory.is_dir() else frozenset()


def _cgroups() -> frozenset[str]:
    found: set[str] = set()
    for directory, names, _ in os.walk("/sys/fs/cgroup"):  # groups of others come and go meanwhile
        found.update(f"{directory}/{name}" for name in names if name.startswith("gantry"))
    return frozenset(found)


def _processes() -> frozenset[str]:
    """Our daemons and the monitors of containers; test programs are children of the test run itself."""
    found = set()
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            command = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        names = {Path(part.decode(errors="replace")).name for part in command[:2] if part}
        resolver = any(part.endswith(b"gantry/network/dns/__main__.py") for part in command)
        if resolver or names & {"gantryd", "conmon", "crun", "runc"}:
            found.add(f"{directory.name} {b' '.join(command).decode(errors='replace')[:120]}")
    return frozenset(found)
