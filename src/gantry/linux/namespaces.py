"""Namespaces: unshare(2), setns(2) and the files that name them (namespaces(7))."""

import ctypes
import os
from pathlib import Path

CLONE_FS = 0x200
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP = 0x80, 0x20000, 0x2000000
CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x4000000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (CLONE_NEW… flags); raises OSError."""
    if _libc.unshare(ctypes.c_int(flags)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def setns(descriptor: int, kind: int = 0) -> None:
    """Join the namespace behind `descriptor` (an nsfs file or a pidfd); `kind` 0 accepts any; raises OSError."""
    if _libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def namespace_path(pid: int, kind: str) -> Path:
    """The file that names a process's namespace; `kind` is mnt, net, ipc, uts, pid, user, cgroup or time."""
    return Path(f"/proc/{pid}/ns/{kind}")


def namespace_id(pid: int | str, kind: str) -> tuple[int, int]:
    """Device and inode of a namespace: equal for two processes that share it; raises OSError."""
    info = os.stat(f"/proc/{pid}/ns/{kind}")
    return info.st_dev, info.st_ino


def supported(kind: str) -> bool:
    """Whether the kernel has this kind of namespace."""
    return os.path.exists(f"/proc/self/ns/{kind}")
