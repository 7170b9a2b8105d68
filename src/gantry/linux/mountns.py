"""The daemon's own mount namespace: its mounts are nobody else's, and end with the last process in it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gantry.linux import cgroups
from gantry.linux.mount import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    is_mounted,
    mount_raw,
    set_propagation,
    unmount,
)
from gantry.linux.namespaces import CLONE_NEWNS, namespace_id, setns, unshare
from gantry.model.instance import Instance

log = logging.getLogger(__name__)


def enter(instance: Instance, surviving_pids: Sequence[int]) -> bool:
    """Join the mount namespace of an earlier daemon's survivors, else make a new one. True where it was joined.

    `surviving_pids` are processes of this instance (conmon) that are alive: the caller has verified them.
    Must be called while the process has one thread; raises OSError where namespaces are not permitted.
    """
    joined = _join(surviving_pids)
    if not joined:
        unshare(CLONE_NEWNS)
    for directory in (instance.data_root, instance.exec_root):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        _make_private(directory)
    _hide_unified_cgroup()
    return joined


def _join(pids: Sequence[int]) -> bool:
    own = namespace_id("self", "mnt")
    for pid in pids:
        try:
            if namespace_id(pid, "mnt") == own:
                continue
            descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            continue
        try:
            setns(descriptor, CLONE_NEWNS)
        finally:
            os.close(descriptor)
        return True
    return False


def _make_private(directory: Path) -> None:
    resolved = directory.resolve()
    if not is_mounted(resolved):
        mount_raw(resolved, resolved, "", MS_BIND | MS_REC, "")
    set_propagation(resolved, MS_PRIVATE | MS_REC)


def _hide_unified_cgroup() -> None:
    """On hosts with both cgroup versions, leave only version 1 in this namespace: crun refuses the mix."""
    unified = cgroups.ROOT / "unified"
    if cgroups.detect_mode() is not cgroups.Mode.HYBRID:
        return
    set_propagation(cgroups.ROOT, MS_PRIVATE | MS_REC)
    unmount(unified, lazy=True)
    # crun makes directories here all the same: in a file system of our own they are nobody else's.
    mount_raw("unified", unified, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m")
    log.debug("hid %s in the daemon's mount namespace", unified)
