"""The mounts of a container, in order: Docker's defaults, the user's, the files of the network."""

import posixpath
from collections.abc import Collection, Iterable
from typing import Any

from gantry.model.container import BindOptions, HostConfig, MountPoint, MountRequest
from gantry.model.task import TaskSpec
from gantry.runtime import defaults
from gantry.runtime.facts import HostFacts

Entry = dict[str, Any]  # one of the specification's `mounts`

_RECURSIVE_READONLY_KERNEL = (5, 12)
_OPPOSITES = {
    "exec": "noexec", "noexec": "exec", "suid": "nosuid", "nosuid": "suid", "dev": "nodev", "nodev": "dev",
    "ro": "rw", "rw": "ro", "atime": "noatime", "noatime": "atime", "diratime": "nodiratime",
    "nodiratime": "diratime", "sync": "async", "async": "sync",
}  # fmt: skip
_PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})


def all_mounts(
    spec: TaskSpec, facts: HostFacts, shm: str, files: Collection[str], *, writable_cgroups: bool
) -> list[Entry]:
    """Every mount; `shm` is a host directory for /dev/shm, "" for a fresh one; `files` are sources
    that are no directories."""
    user = user_mounts(spec, facts, files)
    userns = facts.remap is not None and facts.remap.of(spec.host_config) is not None
    taken = {entry["destination"] for entry in user}
    base = [
        entry
        for entry in default_mounts(spec, shm, writable_cgroups=writable_cgroups, userns=userns)
        if entry["destination"] not in taken and not ("/dev" in taken and entry["destination"].startswith("/dev/"))
    ]
    network = [entry for entry in network_files(spec) if entry["destination"] not in taken]
    ordered = sorted(user + network, key=lambda entry: _depth(entry["destination"]))
    return base + ordered + list(_lent_files(spec, facts))


def default_mounts(spec: TaskSpec, shm: str, *, writable_cgroups: bool = False, userns: bool = False) -> list[Entry]:
    """Docker's default mounts, adjusted to privileges, read-only root and IPC mode."""
    config = spec.host_config
    entries: list[Entry] = []
    for destination, kind, source, options in defaults.MOUNTS:
        entry: Entry = {"destination": destination, "type": kind, "source": source, "options": list(options)}
        if destination == "/dev/mqueue" and spec.join_ipc == -1 and userns:
            continue  # only the host's root may mount the queues of the host's IPC namespace
        if destination == "/dev/shm":  # noqa: S108
            if config.ipc_mode == "none":
                continue
            if spec.join_ipc == -1:
                entry = _bind("/dev/shm", "/dev/shm", ["rbind", "rprivate"])  # noqa: S108
            elif shm:
                entry = _bind(destination, shm, ["bind", "rprivate", *options[:3]])
            else:
                entry["options"].append(f"size={config.shm_size or defaults.SHM_SIZE}")
        writable = config.privileged or (writable_cgroups and destination == "/sys/fs/cgroup")
        if writable and destination in ("/sys", "/sys/fs/cgroup"):
            entry["options"].remove("ro")
        if spec.readonly_rootfs and destination not in defaults.WRITABLE_MOUNTS and "ro" not in entry["options"]:
            entry["options"].append("ro")
        entries.append(entry)
    return entries


def user_mounts(spec: TaskSpec, facts: HostFacts, files: Collection[str] = ()) -> list[Entry]:
    """What the user asked for: binds, volumes and tmpfs, one for each destination."""
    requests = {request.target: request for request in spec.host_config.mounts or ()}
    entries: dict[str, Entry] = {}
    for destination, options in (spec.host_config.tmpfs or {}).items():
        clean = posixpath.normpath(destination)
        entries[clean] = _tmpfs(clean, options.split(","))
    for point in spec.mounts:
        clean = posixpath.normpath(point.destination)
        request = requests.get(point.destination)
        if point.type == "tmpfs":
            if clean not in entries or point.options:
                entries[clean] = _tmpfs(clean, point.options or _tmpfs_request(request))
        else:
            entries[clean] = _bind(
                clean, point.source, bind_options(point, request, facts, is_file=point.source in files)
            )
    return list(entries.values())


def bind_options(
    point: MountPoint, request: MountRequest | None, facts: HostFacts, *, is_file: bool = False
) -> list[str]:
    """Options of a bind mount: recursive and private unless asked otherwise; read-only reaches all below."""
    asked = (request.bind_options if request else None) or BindOptions()
    propagation = point.propagation or asked.propagation or "rprivate"
    options = ["bind" if asked.non_recursive else "rbind", propagation]
    if not point.read_write:
        recursive = (
            facts.kernel >= _RECURSIVE_READONLY_KERNEL
            and propagation in ("rprivate", "private")
            and not asked.read_only_non_recursive
            and not asked.non_recursive
            and not is_file  # nothing is below it, and crun 1.8 asks for a directory
        )
        options.append("rro" if recursive else "ro")
    return options


def merge_tmpfs_options(options: Iterable[str]) -> list[str]:
    """Docker's defaults with the user's options on top: the later of two opposites wins."""
    merged: dict[str, str] = {}
    for option in (*defaults.TMPFS_OPTIONS, *options):
        if not option or option == "defaults":
            continue
        key = option.partition("=")[0]
        merged.pop(_OPPOSITES.get(key, ""), None)
        merged[key] = option
    return list(merged.values())


def root_propagation(mounts: Iterable[Entry]) -> str:
    """What the root mount must allow for the propagation of the mounts below; "" for the default."""
    found = ""
    for entry in mounts:
        used = _PROPAGATIONS.intersection(entry["options"])
        if used & {"shared", "rshared"}:
            return "shared"
        if used & {"slave", "rslave"}:
            found = "rslave"
    return found


def network_files(spec: TaskSpec) -> list[Entry]:
    """/etc/resolv.conf, /etc/hostname and /etc/hosts, each where the network made one."""
    options = ["rbind", "rprivate"] + (["ro"] if spec.readonly_rootfs else [])
    pairs = (
        ("/etc/resolv.conf", spec.resolv_conf_file),
        ("/etc/hostname", spec.hostname_file),
        ("/etc/hosts", spec.hosts_file),
    )
    return [_bind(destination, source, list(options)) for destination, source in pairs if source]


def _lent_files(spec: TaskSpec, facts: HostFacts) -> Iterable[Entry]:
    if spec.init:
        yield _bind(defaults.INIT_PATH, facts.init_path, ["bind", "ro"])
    if spec.ca_bundle:
        yield _bind(defaults.CA_BUNDLE_PATH, spec.ca_bundle, ["bind", "ro", "nosuid", "nodev", "noexec"])


def _tmpfs_request(request: MountRequest | None) -> list[str]:
    asked = request.tmpfs_options if request else None
    options = ["ro"] if request and request.read_only else []
    if asked is None:
        return options
    if asked.size_bytes:
        options.append(f"size={asked.size_bytes}")
    if asked.mode:
        options.append(f"mode={asked.mode:o}")
    return options + ["=".join(pair) for pair in asked.options or ()]


def _tmpfs(destination: str, options: Iterable[str]) -> Entry:
    return {
        "destination": destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": [*merge_tmpfs_options(options), "rprivate"],
    }


def _bind(destination: str, source: str, options: list[str]) -> Entry:
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def _depth(path: str) -> int:
    return path.rstrip("/").count("/")


def uses_shared_shm(config: HostConfig) -> bool:
    """Whether other containers may join this one's IPC namespace, so that its /dev/shm must be on the host."""
    return config.ipc_mode == "shareable"
