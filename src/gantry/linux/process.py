"""Starting programs cheaply, and what a process may hand to its children.

`subprocess` uses vfork(2) where neither a pre-exec function nor a change of user is asked for, so that a
large parent costs no more than a small one.
"""

import os
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from gantry.aio import run_blocking
from gantry.linux.capabilities import own_bounding_set

# What helpers need and nothing else: the daemon's own environment must not reach a container.
ENVIRONMENT: dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class Completed(msgspec.Struct, frozen=True):
    """A program that has ended: `code` is its status, negative for a signal."""

    code: int
    stdout: bytes
    stderr: bytes


def spawn(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    keep: Sequence[int] = (),
    stderr: int = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start a program that may outlive this process: own session, no standard streams, only `keep` descriptors.

    Takes about a millisecond; raises OSError where it cannot be started.
    """
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        cwd=directory,
        env=dict(environment),
        pass_fds=tuple(keep),
        start_new_session=True,
    )


def disown(process: "subprocess.Popen[bytes]") -> None:
    """Let a program go on without us: nobody will wait for it, and that is no mistake."""
    if process.returncode is None:
        process.returncode = 0


def run(arguments: Sequence[str], *, timeout: float = 60.0, data: bytes = b"") -> Completed:
    """Run a helper to its end (blocking); raises OSError, or subprocess.TimeoutExpired after killing it."""
    done = subprocess.run(
        arguments,
        input=data,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=timeout,
        check=False,
        cwd="/",
    )
    return Completed(done.returncode, done.stdout, done.stderr)


async def run_async(arguments: Sequence[str], *, timeout: float = 60.0, data: bytes = b"") -> Completed:  # noqa: ASYNC109
    """`run` without blocking the event loop."""
    return await run_blocking(run, arguments, timeout=timeout, data=data)


RLIMITS: dict[str, int] = {  # Docker's ulimit names
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}
_UNLIMITED = (1 << 64) - 1


def hard_limits() -> dict[str, int]:
    """The highest value of each limit that this process can give: without CAP_SYS_RESOURCE its own hard limit."""
    if "CAP_SYS_RESOURCE" in own_bounding_set():
        return {}
    own = {name: resource.getrlimit(number)[1] for name, number in RLIMITS.items()}
    return {name: value for name, value in own.items() if value != resource.RLIM_INFINITY}


def limit_value(value: int) -> int:
    """A limit as the runtime specification writes it: unsigned, -1 is without limit."""
    return _UNLIMITED if value < 0 else value


def find_program(name: str) -> str:
    """The absolute path of a program on the helpers' PATH, "" where there is none."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else ""
    for directory in ENVIRONMENT["PATH"].split(":"):
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""
