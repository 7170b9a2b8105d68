"""The OCI runtimes: which there are, whether each can really start something here, and their commands.

crun's `start` and `delete` are done in-process, for they are a byte in a fifo and the removal of a
directory; starting crun for it would take longer than all the rest of a container's start.
"""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import msgspec

from gantry.errors import Conflict, Internal, InvalidArgument, Unavailable
from gantry.linux.process import Completed, find_program, run
from gantry.ports import RuntimeInfo


class OCIRuntime:
    """One runtime: its program, arguments and state directory. Every method blocks for a short time."""

    def __init__(self, info: RuntimeInfo, root: Path) -> None:
        self.info = info
        self.root = root
        self.is_crun = Path(info.path).name.startswith("crun") or info.version.startswith("crun ")

    @property
    def arguments(self) -> tuple[str, ...]:
        """What stands before every command."""
        own = (f"--root={self.root}", *self.info.args)
        return (*own, "--cgroup-manager=cgroupfs") if self.is_crun else own

    def call(self, *command: str, data: bytes = b"", timeout: float = 60.0) -> Completed:
        try:
            return run([self.info.path, *self.arguments, *command], data=data, timeout=timeout)
        except OSError as error:
            raise Unavailable(f"cannot run {self.info.path}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise Internal(f"{self.info.name} {command[0]}: no answer within {timeout:.0f} seconds") from error

    def start(self, container_id: str) -> None:
        """Release the created process; raises Conflict where it has gone, Internal with the runtime's words."""
        if self.is_crun and self._release(container_id):
            return
        done = self.call("start", container_id)
        if done.code:
            raise Internal(done.stderr.decode("utf-8", "replace").strip())

    def _release(self, container_id: str) -> bool:
        """crun's start: its waiting process reads one byte from this fifo. False where there is no fifo."""
        fifo = self.root / container_id / "exec.fifo"
        try:
            descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise Conflict(f"container {container_id} is not running") from None
            return False
        try:
            if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                return False
            fifo.unlink()
            os.write(descriptor, b"\0")
        finally:
            os.close(descriptor)
        return True

    def delete(self, container_id: str) -> None:
        """Forget a container whose processes and cgroup are gone; nothing happens where it is not known."""
        state = self.root / container_id
        if self.is_crun:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(state)
        elif state.exists():
            done = self.call("delete", "--force", container_id)
            if done.code and state.exists():
                raise Internal(done.stderr.decode("utf-8", "replace").strip())

    def update(self, container_id: str, limits: dict[str, object]) -> None:
        """Change a running container's limits; raises InvalidArgument with the runtime's words."""
        # crun takes "-" for /dev/stdin, which a bare system does not have.
        done = self.call("update", "--resources", "/proc/self/fd/0", container_id, data=msgspec.json.encode(limits))
        if done.code:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise InvalidArgument(f"Cannot update container {container_id}: {said}")


def find(name: str, path: str, args: tuple[str, ...] = ()) -> RuntimeInfo:
    """Look a runtime's program and version up (blocking); `problem` says what is wrong."""
    program = find_program(path)
    if not program:
        return RuntimeInfo(name, path, "", "", f"{path}: not found or not executable", args)
    try:
        done = run([program, "--version"], timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return RuntimeInfo(name, program, "", "", f"{program} --version: {error}", args)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.code or not lines:
        return RuntimeInfo(name, program, "", "", f"{program} --version failed with status {done.code}", args)
    commit = next((line.partition(":")[2].strip() for line in lines if line.startswith("commit:")), "")
    return RuntimeInfo(name, program, lines[0].removesuffix(" ").strip(), commit, "", args)
