"""Devices by name: the Container Device Interface (CNCF CDI specification 0.3 to 1.0).

Specification files (JSON or YAML) in some directories say what a container needs for `vendor.com/class=name`:
device nodes, mounts, environment, hooks. They are the administrator's: they are trusted as the host's own files.
"""

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import DeviceRequest

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
_LIMIT = 4 << 20  # bytes of one specification file
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_GPUS = ("nvidia.com/gpu", "amd.com/gpu")  # what `--gpus` means, the first of them that is there
_DRIVERS = ("", "nvidia", "amd", "cdi")


class _Camel(msgspec.Struct, frozen=True, rename="camel"):
    pass


class _Node(_Camel, frozen=True):
    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = "rwm"
    uid: int | None = None
    gid: int | None = None


class _Mount(_Camel, frozen=True):
    host_path: str
    container_path: str
    options: list[str] = []
    type: str = ""


class _Hook(_Camel, frozen=True):
    hook_name: str
    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class Edits(_Camel, frozen=True):
    """`containerEdits`: what is added to a container's configuration."""

    env: list[str] = []
    device_nodes: list[_Node] = []
    mounts: list[_Mount] = []
    hooks: list[_Hook] = []
    additional_gids: list[int] = []


class _Device(_Camel, frozen=True):
    name: str
    container_edits: Edits = Edits()


class _Specification(_Camel, frozen=True):
    cdi_version: str
    kind: str
    devices: list[_Device]
    container_edits: Edits = Edits()


class Registry:
    """Every device that the specifications name, with what it needs. A later directory wins over an earlier one."""

    def __init__(self) -> None:
        self.devices: dict[str, tuple[Edits, ...]] = {}
        self.problems: list[str] = []

    @classmethod
    def load(cls, directories: Sequence[str]) -> "Registry":
        """Read all files (blocking); one that cannot be used is told in `problems`."""
        found = cls()
        for directory in directories:
            found._take(Path(directory))
        return found

    def _take(self, directory: Path) -> None:
        own: dict[str, tuple[Edits, ...]] = {}
        for path in sorted(directory.glob("*")) if directory.is_dir() else ():
            if path.suffix not in (".json", ".yaml", ".yml"):
                continue
            try:
                specification = _read(path)
            except (OSError, ValueError, RecursionError) as error:
                self.problems.append(f"{path}: {error}")
                continue
            for device in specification.devices:
                name = f"{specification.kind}={device.name}"
                if name in own:
                    self.problems.append(f"{path}: conflicting device {name}")
                own[name] = (specification.container_edits, device.container_edits)
        self.devices |= own

    def edits(self, names: Iterable[str]) -> list[Edits]:
        """What the named devices need, each part once; raises InvalidArgument for names that are not there."""
        wanted = list(dict.fromkeys(names))
        if missing := [name for name in wanted if name not in self.devices]:
            raise InvalidArgument(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
        found: list[Edits] = []
        for name in wanted:
            found += [edits for edits in self.devices[name] if edits not in found]
        return found


def _read(path: Path) -> _Specification:
    with path.open("rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ValueError("the file is too large")
    if path.suffix == ".json":
        plain = json.loads(data)
    else:
        from ruamel.yaml import YAML  # few machines have such files
        from ruamel.yaml.error import YAMLError

        try:
            plain = YAML(typ="safe", pure=True).load(data)
        except YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error
    specification = msgspec.convert(plain, _Specification)
    if not _KIND.fullmatch(specification.kind):
        raise ValueError(f"invalid kind {specification.kind!r}")
    if bad := [device.name for device in specification.devices if not _NAME.fullmatch(device.name)]:
        raise ValueError(f"invalid device name {bad[0]!r}")
    if any(hook.hook_name not in _HOOKS for edits in _all_edits(specification) for hook in edits.hooks):
        raise ValueError("an unknown kind of hook")
    return specification


def _all_edits(specification: _Specification) -> Iterator[Edits]:
    yield specification.container_edits
    yield from (device.container_edits for device in specification.devices)


def names_of(requests: Iterable[DeviceRequest], registry: Registry) -> list[str]:
    """The qualified names that device requests mean; raises InvalidArgument with Docker's words."""
    names: list[str] = []
    for request in requests:
        if request.driver == "cdi":
            names += request.device_ids or ()
            continue
        groups = request.capabilities or []
        kinds = [kind for kind in _GPUS if request.driver in ("", "cdi", kind.partition(".")[0])]
        kind = next((kind for kind in kinds if any(name.startswith(f"{kind}=") for name in registry.devices)), "")
        if not kind or request.driver not in _DRIVERS or not any("gpu" in group for group in groups):
            wanted = " ".join("[" + " ".join(group) + "]" for group in groups)
            raise InvalidArgument(f'could not select device driver "{request.driver}" with capabilities: [{wanted}]')
        if request.device_ids:
            names += [f"{kind}={device}" for device in request.device_ids]
        elif request.count < 0:
            names.append(f"{kind}=all")
        else:
            names += [f"{kind}={number}" for number in range(request.count or 1)]
    return names


def inject(document: dict[str, Any], edits: Iterable[Edits]) -> None:
    """Add devices to an OCI configuration (blocking: numbers are looked up on the host); raises InvalidArgument."""
    process, linux = document["process"], document["linux"]
    for each in edits:
        given = {entry.partition("=")[0] for entry in each.env}
        process["env"] = [entry for entry in process["env"] if entry.partition("=")[0] not in given] + each.env
        for node in each.device_nodes:
            entry = _node(node)
            linux["devices"] = [old for old in linux["devices"] if old["path"] != entry["path"]] + [entry]
            if entry["type"] != "p":
                rule = {key: entry[key] for key in ("type", "major", "minor")}
                linux["resources"]["devices"].append({"allow": True, **rule, "access": node.permissions})
        document["mounts"] += [
            {
                "destination": mount.container_path,
                "type": mount.type or "bind",
                "source": mount.host_path,
                "options": mount.options or ["rbind", "rprivate"],
            }
            for mount in each.mounts
        ]
        for hook in each.hooks:
            told: dict[str, Any] = {"path": hook.path, "args": hook.args, "env": hook.env}
            if hook.timeout is not None:
                told["timeout"] = hook.timeout
            document.setdefault("hooks", {}).setdefault(hook.hook_name, []).append(told)
        groups = process["user"].setdefault("additionalGids", [])
        groups += [gid for gid in each.additional_gids if gid not in groups]


def _node(node: _Node) -> dict[str, Any]:
    """The entry of `linux.devices`; what the specification leaves out is the host's."""
    path = node.host_path or node.path
    kind, major, minor, mode = node.type, node.major, node.minor, node.file_mode
    uid, gid = node.uid or 0, node.gid or 0
    if not kind or (kind != "p" and not major):
        try:
            info = Path(path).stat()
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            raise InvalidArgument(
                f'CDI device injection failed: failed to stat CDI host device "{path}": {words}'
            ) from None
        found = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else "p"
        if kind and kind != found:
            raise InvalidArgument(f'CDI device injection failed: "{path}" is not of type {kind}')
        kind, major, minor = found, os.major(info.st_rdev), os.minor(info.st_rdev)
        mode = stat.S_IMODE(info.st_mode) if mode is None else mode
    entry = {"path": node.path, "type": kind, "major": major, "minor": minor, "uid": uid, "gid": gid}
    return entry if mode is None else {**entry, "fileMode": mode}
