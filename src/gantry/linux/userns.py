"""User namespaces that live without a process, mounts with shifted ids, and threads that act under shifted ids.

user_namespaces(7), mount_setattr(2), setfsuid(2), capabilities(7).
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from gantry.linux.mount import MS_BIND, mount_raw
from gantry.linux.process import ENVIRONMENT

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on all architectures
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _AT_EMPTY_PATH = 1, 4, 0x1000
_MOUNT_ATTR_IDMAP = 0x00100000
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def make_user_namespace(path: Path, uids: tuple[int, int], gids: tuple[int, int]) -> None:
    """Pin a new user namespace on file `path`; `uids` and `gids` are (first id on the host, how many).

    Raises OSError.
    """
    with _held(["unshare", "--user", "cat"]) as pid:
        for kind, (first, count) in (("uid", uids), ("gid", gids)):
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {first} {count}")
        mount_raw(f"/proc/{pid}/ns/user", path, "", MS_BIND, "")


def make_network_namespace(path: Path, owner: str) -> None:
    """Pin a new network namespace on file `path`; it belongs to the user namespace of file `owner`.

    Only a process with one thread can enter a user namespace, so a helper does it. Raises OSError.
    """
    with _held(["nsenter", f"--user={owner}", "unshare", "--net", "cat"]) as pid:
        mount_raw(f"/proc/{pid}/ns/net", path, "", MS_BIND, "")


@contextlib.contextmanager
def _held(command: Sequence[str]) -> Iterator[int]:
    """The process id of a command that ends in `cat`, which answers as soon as all before it is done."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd="/"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"+")
            process.stdin.flush()
        if process.stdout.read(1) != b"+":
            said = process.stderr.read(500).decode(errors="replace").strip()
            raise OSError(f"{command[0]}: {said or 'ended too early'}")
        try:
            yield process.pid
        finally:
            process.stdin.close()


def mount_shifted(source: Path, target: Path, namespace: Path) -> None:
    """Mount directory `source` on `target` with its files' ids shifted as user namespace `namespace` says.

    Raises OSError: ENOSYS or EINVAL where the kernel or the file system cannot.
    """
    owner = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        tree = _called(_OPEN_TREE, -100, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC)
        try:
            attributes = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, owner)
            size = ctypes.c_size_t(ctypes.sizeof(attributes))
            _called(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size)
            _called(_MOVE_MOUNT, tree, b"", -100, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
        finally:
            os.close(tree)
    finally:
        os.close(owner)


@contextlib.contextmanager
def filesystem_ids(uid: int, gid: int) -> Iterator[None]:
    """This thread makes files as `uid` and `gid`, and keeps all capabilities; threads that it starts do so too.

    A file system with shifted ids has no place for files of the host's root (EOVERFLOW).
    """
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)  # takes the capabilities over files out of the effective set
    try:
        _raise_capabilities()
        yield
    finally:
        _libc.setfsuid(0)  # brings them back
        _libc.setfsgid(0)


def _raise_capabilities() -> None:
    """Make every permitted capability of this thread effective."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    if _libc.capget(ctypes.byref(header), sets):
        _fail("capget")
    sets[0], sets[3] = sets[1], sets[4]
    if _libc.capset(ctypes.byref(header), sets):
        _fail("capset")


def _called(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        _fail({_OPEN_TREE: "open_tree", _MOVE_MOUNT: "move_mount", _MOUNT_SETATTR: "mount_setattr"}[number])
    return result


def _fail(call: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{call}: {os.strerror(code)}")
