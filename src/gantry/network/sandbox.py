"""Network namespaces that live without a process: a bind mount keeps each under `<exec root>/netns/<id>`.

Namespaces are made and entered in threads of their own, which end afterwards: a thread of the pool never
changes its namespace. The empty file is made before the mount, so every namespace has its entry.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gantry import faults
from gantry.errors import Internal
from gantry.linux import netlink
from gantry.linux.mount import MS_BIND, mount_raw, unmount
from gantry.linux.namespaces import CLONE_NEWNET, setns, unshare
from gantry.linux.userns import make_network_namespace

T = TypeVar("T")

# Docker's two, and IPv6 off for interfaces that come later, until a network with IPv6 turns it on for its own.
_SYSCTLS = (
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv6/conf/default/disable_ipv6", "1"),
)


class Sandboxes:
    """The pinned network namespaces of one daemon. All methods block for a millisecond or two."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, container_id: str) -> Path:
        return self._directory / container_id

    def open(self, container_id: str, inside: Callable[[], None] | None = None, owner: str = "") -> Path:
        """A new namespace with `lo` up; one that is left from an earlier life is given up. Raises Internal.

        `inside` is called in it. It belongs to the user namespace of file `owner`, else to the daemon's own.
        """
        path = self.path(container_id)
        self._directory.mkdir(parents=True, exist_ok=True)
        self.close(container_id)
        path.touch(mode=0o600)
        faults.point("sandbox.file")

        def make() -> None:
            unshare(CLONE_NEWNET)
            settle()
            mount_raw("/proc/thread-self/ns/net", path, "", MS_BIND, "")

        def settle() -> None:
            for name, value in _SYSCTLS:
                write_sysctl(name, value)
            with netlink.RouteSocket() as kernel:
                kernel.request(netlink.set_link("lo", up=True))
            if inside is not None:
                inside()

        try:
            if owner:
                make_network_namespace(path, owner)
                self.run(container_id, settle)
            else:
                _in_thread(make)
        except OSError as error:
            self.close(container_id)
            raise Internal(f"cannot make a network namespace: {error}") from error
        return path

    def close(self, container_id: str) -> None:
        """Unpin; the kernel removes the namespace and what is in it when no process is left. Idempotent."""
        path = self.path(container_id)
        if path.exists():
            unmount(path, lazy=True)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def existing(self) -> list[str]:
        """The containers that have an entry, whether or not a namespace is mounted there."""
        return sorted(entry.name for entry in self._directory.iterdir()) if self._directory.is_dir() else []

    def run(self, container_id: str, function: Callable[[], T]) -> T:
        """Call `function` inside a container's namespace, in a thread that ends with it."""
        descriptor = os.open(self.path(container_id), os.O_RDONLY | os.O_CLOEXEC)

        def inside() -> T:
            setns(descriptor, CLONE_NEWNET)
            return function()

        try:
            return _in_thread(inside)
        finally:
            os.close(descriptor)


def write_sysctl(name: str, value: str, *, required: bool = False) -> None:
    """Set a `net/…` setting of this thread's network namespace; raises OSError where it is refused.

    Nothing happens where the kernel lacks it, unless it is `required`.
    """
    try:
        Path("/proc/sys/net", name).write_text(value)
    except FileNotFoundError:
        if required:
            raise


def _in_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="gantry-netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
