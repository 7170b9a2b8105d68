"""mount(2) and umount2(2): fstab-like option strings become flags and data."""

import contextlib
import ctypes
import errno
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from gantry.linux.namespaces import CLONE_FS, unshare
from gantry.model.task import Mount

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC = 32, 4096, 8192, 16384
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

_FLAGS: dict[str, tuple[int, int]] = {  # option: (bits to set, bits to clear)
    "defaults": (0, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "nosuid": (MS_NOSUID, 0),
    "suid": (0, MS_NOSUID),
    "nodev": (MS_NODEV, 0),
    "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0),
    "exec": (0, MS_NOEXEC),
    "sync": (16, 0),
    "async": (0, 16),
    "mand": (64, 0),
    "nomand": (0, 64),
    "dirsync": (128, 0),
    "nosymfollow": (256, 0),
    "noatime": (1024, 0),
    "atime": (0, 1024),
    "nodiratime": (2048, 0),
    "diratime": (0, 2048),
    "bind": (MS_BIND, 0),
    "rbind": (MS_BIND | MS_REC, 0),
    "remount": (MS_REMOUNT, 0),
    "relatime": (1 << 21, 0),
    "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0),
    "nostrictatime": (0, 1 << 24),
    "lazytime": (1 << 25, 0),
    "silent": (1 << 15, 0),
}
_PROPAGATION: dict[str, int] = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
VOLATILE = "volatile"  # overlay's option for files that need not outlive the machine: unmounting syncs no disk
_DATA_LIMIT = os.sysconf("SC_PAGE_SIZE")
_OVERLAY_PATHS = frozenset({"lowerdir", "upperdir", "workdir"})
_KEPT_ON_BIND = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | 1024 | 2048 | (1 << 21)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


class MountOptions(msgspec.Struct, frozen=True):
    """What an option list means: `flags` of mount(2), `propagation` flags (0: leave), `data` for the file system."""

    flags: int
    propagation: int
    data: str


def parse_options(options: Iterable[str]) -> MountOptions:
    """Split fstab options into flags, propagation and file system data; a later option wins."""
    flags = propagation = 0
    data: list[str] = []
    for option in options:
        if option in _FLAGS:
            bits, cleared = _FLAGS[option]
            flags = (flags | bits) & ~cleared
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option:
            data.append(option)
    return MountOptions(flags, propagation, ",".join(data))


def mount(request: Mount, target: Path) -> None:
    """Mount `request` on `target` (its own `target` field is not looked at); raises OSError.

    A bind mount with further flags (ro, nosuid, …) takes the second mount call that the kernel wants.
    """
    options = parse_options(request.options)
    flags = options.flags
    if flags & MS_BIND and not flags & MS_REMOUNT:
        mount_raw(request.source, target, "", flags & (MS_BIND | MS_REC), "")
        wanted = flags & _KEPT_ON_BIND
        if wanted:
            mount_raw("none", target, "", MS_REMOUNT | MS_BIND | wanted | _current_flags(target), "")
    elif request.type == "overlay":
        if VOLATILE in request.options:
            _forget_volatile(request.options)
        if len(options.data) >= _DATA_LIMIT:
            _mount_overlay(request.source, target, flags, options.data)
        else:
            mount_raw(request.source, target, request.type, flags, options.data)
    else:
        mount_raw(request.source, target, request.type, flags, options.data)
    if options.propagation:
        set_propagation(target, options.propagation)


def _forget_volatile(options: Iterable[str]) -> None:
    """Overlay refuses a work directory that an earlier volatile mount has marked; its files are good in this boot."""
    for option in options:
        key, _, path = option.partition("=")
        if key == "workdir":
            mark = re.sub(r"\\(.)", r"\1", path) + "/work/incompat/volatile"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(mark + "/dirty")  # the kernel's mark of a mount that was not unmounted yet, or not synced
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(mark)


def _mount_overlay(source: str, target: Path, flags: int, data: str) -> None:
    """Mount with more layers than fit into the kernel's one page of options: paths relative to a common directory.

    The working directory belongs to a thread of its own, which ends afterwards.
    """
    pairs = [option.partition("=") for option in data.split(",")]
    paths = [path for key, _, value in pairs if key in _OVERLAY_PATHS for path in value.split(":")]
    base = os.path.commonpath(paths)

    def shorten(key: str, value: str) -> str:
        if key not in _OVERLAY_PATHS:
            return value
        return ":".join(os.path.relpath(path, base) for path in value.split(":"))

    short = ",".join(f"{key}{equals}{shorten(key, value)}" for key, equals, value in pairs)
    failure: list[OSError] = []

    def work() -> None:
        try:
            unshare(CLONE_FS)
            os.chdir(base)
            mount_raw(source, target, "overlay", flags, short)
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="overlay mount")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def mount_raw(source: str | Path, target: str | Path, kind: str, flags: int, data: str) -> None:
    """One mount(2) call; raises OSError that names source and target."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        flags,
        os.fsencode(data) or None,
    )
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))


def set_propagation(target: Path, flags: int) -> None:
    """Change how mounts spread: one of the MS_PRIVATE, MS_SLAVE, MS_SHARED flags, with MS_REC for all below."""
    mount_raw("none", target, "", flags, "")


def unmount(target: Path, *, lazy: bool = False) -> bool:
    """Unmount what is on top at `target`, never following a symbolic link; False where nothing is mounted.

    Raises OSError (EBUSY while it is in use, unless `lazy`).
    """
    result = _libc.umount2(os.fsencode(target), UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0))
    if result:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):
            raise OSError(code, os.strerror(code), os.fspath(target))
        return False
    return True


def unmount_all(target: Path, *, lazy: bool = True) -> None:
    """Unmount every layer of mounts on `target`, however often something was mounted there."""
    while unmount(target, lazy=lazy):
        pass


def is_mounted(target: Path) -> bool:
    """Whether `target` is the root of a mount in this mount namespace; links in its parents are followed."""
    wanted = os.path.join(os.path.realpath(target.parent), target.name)
    return any(point == wanted for point in mount_points())


def mount_points() -> Iterator[str]:
    """The mount points of this process's namespace, in order of mounting (/proc/self/mountinfo)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            yield _unescape(line.split(" ", 5)[4])


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    parts = text.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])


def _current_flags(target: Path) -> int:
    """Flags that the source of a bind mount has already: a remount must not drop them."""
    seen = os.statvfs(target).f_flag
    pairs = (
        (os.ST_RDONLY, MS_RDONLY),
        (os.ST_NOSUID, MS_NOSUID),
        (os.ST_NODEV, MS_NODEV),
        (os.ST_NOEXEC, MS_NOEXEC),
        (os.ST_NOATIME, 1024),
        (os.ST_NODIRATIME, 2048),
        (os.ST_RELATIME, 1 << 21),
    )
    return sum(flag for bit, flag in pairs if seen & bit)
