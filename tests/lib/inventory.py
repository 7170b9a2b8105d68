"""A machine held against a daemon's database: whatever one of them has and the other does not know of."""

import json
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gantry.model.identity import ID_FORM
from gantry.model.instance import Instance
from lib.daemon import Daemon


def differences(daemon: Daemon) -> list[str]:
    """What is on the machine without a record, and what has a record and is not there; empty where all is well."""
    return _Look(daemon).differences()


class _Look:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._data, self._run = daemon.data_root, daemon.exec_root
        self._instance = Instance.of(daemon.data_root, daemon.exec_root)
        self._tables = _tables(self._data / "state.db")
        self._containers = self._tables.get("container", [])
        self._alive = {one["id"] for one in self._containers if one["status"]["phase"] in ("running", "paused")}

    def differences(self) -> list[str]:
        everyone = {one["id"] for one in self._containers}
        snapshots = self._tables.get("snapshot", [])
        networks = self._tables.get("networks", [])
        endpoints = self._tables.get("endpoints", [])
        pinned = {one["id"] for one in self._containers if one["id"] in self._alive and _own_network(one)}
        ports = sum(len(one["endpoint"].get("ports") or ()) for one in endpoints)
        bridges = {one["bridge"] for one in networks if one.get("bridge")}
        pairs = [
            ("container directory", everyone, _names(self._data / "containers")),
            ("snapshot", everyone, {one["key"] for one in snapshots if one["kind"] != "committed"}),
            ("snapshot directory", {str(one["number"]) for one in snapshots}, _names(self._data / "snapshots")),
            ("volume directory", {one["volume"]["Name"] for one in self._tables.get("volumes", [])},
             _names(self._data / "volumes")),
            ("unfinished blob", set(), _names(self._data / "content" / "ingest")),
            ("build context", set(), _names(self._data / "build" / "tmp")),
            ("short-lived mount", set(), _names(self._run / "mounts")),
            ("task", self._alive, _names(self._run / "tasks")),
            ("runtime state", self._alive, {n for top in _paths(self._run / "runtimes") for n in _names(top)}),
            ("network namespace", pinned, _names(self._run / "netns")),
            ("endpoint", {one for one in pinned if _on_a_network(self._containers, one)},
             {one["endpoint"]["container_id"] for one in endpoints}),
            ("monitor", self._alive, self._monitors()),
            ("cgroup", self._alive, self._cgroups()),
            ("mount", self._alive, self._mounts()),
            ("interface", bridges | {one["link"] for one in endpoints if one["link"]}, self._links(bridges)),
            ("published port", {str(ports)}, {str(self._ports())}),
        ]  # fmt: skip
        found = []
        for kind, recorded, there in pairs:
            found += [f"{kind} {name}: on the machine, not in the database" for name in sorted(there - recorded)]
            found += [f"{kind} {name}: in the database, not on the machine" for name in sorted(recorded - there)]
        return found

    def _monitors(self) -> set[str]:
        """The containers of our conmon processes; those of execs are shown as what they are."""
        found = set()
        for path in Path("/proc").iterdir():
            if not path.name.isdecimal():
                continue
            try:
                arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if arguments[0].endswith("conmon") and any(each.startswith(f"{self._run}/") for each in arguments):
                name = arguments[arguments.index("-c") + 1]
                found.add(f"{name} (exec)" if "-e" in arguments else name)
        return found

    def _cgroups(self) -> set[str]:
        top = Path("/sys/fs/cgroup")
        groups = [path.parent for path in top.glob(f"*{self._instance.cgroup_parent}/*/cgroup.procs")]
        groups += [path.parent for path in top.glob(f"{self._instance.cgroup_parent[1:]}/*/cgroup.procs")]
        return {path.name for path in groups if path.name not in ("monitors", "resolver")}

    def _mounts(self) -> set[str]:
        """By the identifier in the path of what is mounted below our directories, in the daemon's namespace."""
        found = set()
        for line in Path(f"/proc/{self._daemon.pid}/mounts").read_text().splitlines():
            place = line.split()[1]
            if not place.startswith((f"{self._run}/", f"{self._data}/")):
                continue
            name = next((part for part in place.split("/") if ID_FORM.fullmatch(part)), place)
            found.add(name)
        return found

    def _links(self, bridges: Iterable[str]) -> set[str]:
        tag, own = self._instance.tag, set(bridges)
        names = _names(Path("/sys/class/net"))
        return {name for name in names if name in own or (name.startswith(tag) and len(name) == 15)}

    def _ports(self) -> int:
        table = self._instance.nft_table
        answer = subprocess.run(["nft", "-j", "list", "table", "inet", table], capture_output=True, check=False)
        entries = json.loads(answer.stdout or b"{}").get("nftables", [])
        maps = [one["map"] for one in entries if one.get("map", {}).get("name") in ("address4", "any4")]
        return sum(len(each.get("elem", [])) for each in maps)


def _own_network(container: dict[str, Any]) -> bool:
    mode = container["host_config"]["NetworkMode"]
    return mode != "host" and not mode.startswith("container:")


def _on_a_network(containers: list[dict[str, Any]], name: str) -> bool:
    return any(one["id"] == name and one["networks"] for one in containers)


def _tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for kind, record in connection.execute("SELECT kind, json FROM records"):
            found.setdefault(kind, []).append(json.loads(record))
    finally:
        connection.close()
    return found


def _paths(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _names(directory: Path) -> set[str]:
    return {path.name for path in _paths(directory)}
