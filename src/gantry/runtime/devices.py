"""Devices of the host that a container is given (`--device`, `--privileged`, throttled block devices)."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import DeviceMapping, HostConfig
from gantry.runtime import defaults


class Device(msgspec.Struct, frozen=True):
    """A node to make in the container: `kind` is c or b, `access` the cgroup permissions (of "rwm")."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str = "rwm"

    def node(self) -> dict[str, Any]:
        """The entry of `linux.devices`."""
        return {
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }

    def rule(self) -> dict[str, Any]:
        """The entry of `linux.resources.devices`."""
        return {"allow": True, "type": self.kind, "major": self.major, "minor": self.minor, "access": self.access}


class DeviceNumbers(msgspec.Struct, frozen=True):
    """Everything about devices that needs a look at the host: nodes to make, and numbers of throttled paths."""

    nodes: tuple[Device, ...] = ()
    blocks: dict[str, tuple[int, int]] = {}


def resolve(config: HostConfig) -> DeviceNumbers:
    """Look the devices of a container up on the host (blocking); raises InvalidArgument with Docker's words."""
    nodes = list(_host_devices()) if config.privileged else []
    for mapping in config.devices or ():
        nodes += _mapped(mapping)
    weights = [(entry.path, "weight") for entry in config.blkio_weight_device or ()]
    for entries in (
        config.blkio_device_read_bps,
        config.blkio_device_write_bps,
        config.blkio_device_read_iops,
        config.blkio_device_write_iops,
    ):
        weights += [(entry.path, "throttle") for entry in entries or ()]
    return DeviceNumbers(tuple(nodes), {path: _block_numbers(path) for path, _ in weights})


def _mapped(mapping: DeviceMapping) -> list[Device]:
    source = mapping.path_on_host
    target = mapping.path_in_container or source
    access = mapping.cgroup_permissions or "rwm"
    what = f'error gathering device information while adding custom device "{source}"'
    if not source:
        raise InvalidArgument(f"{what}: no such file or directory")
    resolved = Path(os.path.realpath(source))
    if access.strip("rwm"):
        raise InvalidArgument(f"invalid device mode: {access}")
    try:
        info = resolved.stat()
    except OSError as error:
        raise InvalidArgument(f"{what}: {(error.strerror or str(error)).lower()}") from None
    if device := _device(info, target, access):
        return [device]
    if stat.S_ISDIR(info.st_mode):
        found = [
            Device(
                target.rstrip("/") + d.path[len(str(resolved)) :],
                d.kind,
                d.major,
                d.minor,
                d.mode,
                d.uid,
                d.gid,
                access,
            )
            for d in _walk(resolved, frozenset())
        ]
        if found:
            return found
    raise InvalidArgument(f"{what}: not a device node")


def _host_devices() -> Iterator[Device]:
    return _walk(Path("/dev"), defaults.HOST_DEVICES_SKIPPED)


def _walk(directory: Path, skipped: frozenset[str]) -> Iterator[Device]:
    for entry in os.scandir(directory):
        if entry.name in skipped:
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), frozenset())
            elif device := _device(entry.stat(follow_symlinks=False), entry.path, "rwm"):
                yield device
        except FileNotFoundError:
            continue  # devices come and go


def _device(info: os.stat_result, path: str, access: str) -> Device | None:
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
    if not kind:
        return None
    number = info.st_rdev
    return Device(
        path, kind, os.major(number), os.minor(number), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, access
    )


def _block_numbers(path: str) -> tuple[int, int]:
    try:
        info = Path(path).stat()
    except OSError as error:
        raise InvalidArgument(f"stat {path}: {(error.strerror or str(error)).lower()}") from None
    if not stat.S_ISBLK(info.st_mode):
        raise InvalidArgument(f"{path}: not a block device")
    return os.major(info.st_rdev), os.minor(info.st_rdev)
