"""A task becomes an OCI runtime configuration (`config.json`): a pure function of what was asked and resolved."""

import posixpath
from typing import Any

import msgspec

from gantry.errors import Unavailable
from gantry.linux.process import limit_value
from gantry.model.container import HostConfig
from gantry.model.task import ProcessSpec, TaskSpec
from gantry.runtime import apparmor, defaults, mounts, seccomp
from gantry.runtime.devices import DeviceNumbers
from gantry.runtime.facts import HostFacts
from gantry.runtime.resources import resources
from gantry.runtime.security import SecurityOptions, capabilities, parse_security_options
from gantry.runtime.users import ResolvedUser

OCI_VERSION = "1.0.2"  # what both runtimes of Debian 12 accept; nothing newer is used


class Resolved(msgspec.Struct, frozen=True):
    """What had to be looked up before.

    `shm` is a host directory for /dev/shm, "" for a fresh one; `files` are the mount sources that are no directories.
    """

    user: ResolvedUser
    devices: DeviceNumbers
    facts: HostFacts
    root: str
    cgroups_path: str
    shm: str = ""
    files: frozenset[str] = frozenset()


def build(spec: TaskSpec, resolved: Resolved) -> dict[str, Any]:
    """The whole configuration; raises InvalidArgument for options that make no sense, Unavailable without `init`."""
    config, facts = spec.host_config, resolved.facts
    if spec.init and not facts.init_path:
        raise Unavailable("no init program was found: install tini (apt-get install tini)")
    security = parse_security_options(config.security_opt or ())
    granted = granted_capabilities(config, facts)
    all_mounts = mounts.all_mounts(
        spec, facts, resolved.shm, resolved.files, writable_cgroups=security.writable_cgroups
    )
    args = [defaults.INIT_PATH, "--", *spec.process.args] if spec.init else list(spec.process.args)
    process = process_document(spec.process, resolved.user, granted, args=args, ca_bundle=bool(spec.ca_bundle))
    process["noNewPrivileges"] = security.no_new_privileges
    process["oomScoreAdj"] = config.oom_score_adj
    if limits := _rlimits(config, facts):
        process["rlimits"] = limits
    profile = apparmor.profile(security.apparmor, facts.apparmor, privileged=config.privileged)
    if profile not in ("", apparmor.UNCONFINED):
        process["apparmorProfile"] = profile
    document: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": process,
        "root": {"path": resolved.root, "readonly": spec.readonly_rootfs},
        "mounts": all_mounts,
        "linux": _linux(spec, resolved, security, granted, all_mounts),
    }
    if spec.join_uts == 0:
        document["hostname"] = spec.hostname
    if spec.annotations:
        document["annotations"] = dict(spec.annotations)
    return document


def granted_capabilities(config: HostConfig, facts: HostFacts) -> tuple[str, ...]:
    return capabilities(
        privileged=config.privileged,
        add=config.cap_add,
        drop=config.cap_drop,
        available=facts.capabilities,
    )


def process_document(
    process: ProcessSpec,
    user: ResolvedUser,
    granted: tuple[str, ...],
    *,
    args: list[str],
    ca_bundle: bool = False,
) -> dict[str, Any]:
    """The specification's `process`, for a container's first process and for an exec alike."""
    environment = list(process.env)
    known = {entry.partition("=")[0] for entry in environment}
    if ca_bundle:
        environment += [
            f"{name}={defaults.CA_BUNDLE_PATH}" for name in defaults.CA_BUNDLE_VARIABLES if name not in known
        ]
    if "HOME" not in known:
        environment.append(f"HOME={user.home}")
    document: dict[str, Any] = {
        "terminal": process.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": args,
        "env": environment,
        "cwd": posixpath.normpath(process.cwd or "/"),
        # Inheritable and ambient stay empty: a program that the container starts gains nothing by them.
        "capabilities": {kind: list(granted) for kind in ("bounding", "effective", "permitted")},
    }
    if process.tty and process.console_size:
        height, width = process.console_size
        document["consoleSize"] = {"height": height, "width": width}
    return document


def _linux(
    spec: TaskSpec,
    resolved: Resolved,
    security: SecurityOptions,
    granted: tuple[str, ...],
    all_mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    config, facts = spec.host_config, resolved.facts
    open_paths = config.privileged or security.system_paths_unconfined
    masked = config.masked_paths if config.masked_paths is not None else list(facts.masked_paths)
    readonly = config.readonly_paths if config.readonly_paths is not None else list(defaults.READONLY_PATHS)
    linux: dict[str, Any] = {
        "cgroupsPath": resolved.cgroups_path,
        "namespaces": _namespaces(spec, facts),
        "resources": resources(config, resolved.devices, facts),
        "sysctl": _sysctls(spec, facts),
        "maskedPaths": [] if open_paths else masked,
        "readonlyPaths": [] if open_paths else readonly,
        "devices": [device.node() for device in resolved.devices.nodes],
    }
    if facts.remap is not None and (remap := facts.remap.of(config)) is not None:
        linux["namespaces"].append({"type": "user", "path": remap.namespace})
        linux["uidMappings"] = [{"containerID": 0, "hostID": remap.uid, "size": remap.uids}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": remap.gid, "size": remap.gids}]
    if propagation := mounts.root_propagation(all_mounts):
        linux["rootfsPropagation"] = propagation
    if (filters := _seccomp(config, security, facts, granted)) is not None:
        linux["seccomp"] = filters
    return linux


def _namespaces(spec: TaskSpec, facts: HostFacts) -> list[dict[str, str]]:
    namespaces = [{"type": "mount"}]
    if spec.netns:
        namespaces.append({"type": "network", "path": spec.netns})
    for kind, file, joined in (
        ("pid", "pid", spec.join_pid),
        ("ipc", "ipc", spec.join_ipc),
        ("uts", "uts", spec.join_uts),
    ):
        if joined == 0:
            namespaces.append({"type": kind})
        elif joined > 0:
            namespaces.append({"type": kind, "path": f"/proc/{joined}/ns/{file}"})
    mode = spec.host_config.cgroupns_mode or ("private" if facts.cgroup_unified else "host")
    if mode == "private":
        namespaces.append({"type": "cgroup"})
    return namespaces


def _sysctls(spec: TaskSpec, facts: HostFacts) -> dict[str, str]:
    result: dict[str, str] = {}
    if spec.netns and not spec.host_config.network_mode.startswith("container:"):
        result = {name: value for name, value in defaults.SYSCTLS if name in facts.sysctls}
        if facts.remap is not None and facts.remap.of(spec.host_config) is not None:
            result.pop("net.ipv4.ping_group_range", None)  # names groups that are not there; the network room sets it
    if spec.domainname and spec.join_uts == 0:
        result["kernel.domainname"] = spec.domainname
    return result | (spec.host_config.sysctls or {})


def _seccomp(
    config: HostConfig, security: SecurityOptions, facts: HostFacts, granted: tuple[str, ...]
) -> dict[str, Any] | None:
    if security.seccomp == "unconfined" or not facts.seccomp:
        return None
    if security.seccomp:
        return seccomp.compile_profile(security.seccomp, facts.architecture, facts.kernel, granted)
    if config.privileged:
        return None
    return seccomp.default_filter(facts.architecture, facts.kernel, frozenset(granted))


def _rlimits(config: HostConfig, facts: HostFacts) -> list[dict[str, Any]]:
    entries = []
    for limit in config.ulimits or ():
        highest = facts.hard_limits.get(limit.name, limit_value(-1))
        hard = min(limit_value(limit.hard), highest)
        entries.append(
            {"type": f"RLIMIT_{limit.name.upper()}", "hard": hard, "soft": min(limit_value(limit.soft), hard)}
        )
    return entries
