"""One daemon per data root: an exclusive lock, and the pid file that people and scripts look at."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from gantry.errors import Unavailable


@contextlib.contextmanager
def locked(data_root: Path) -> Iterator[None]:
    """Hold the data root. Raises Unavailable where another daemon does; the kernel frees it with the process."""
    data_root.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(data_root / "gantryd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"failed to start daemon: another gantryd is using the data root {data_root}") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Write our process id; a stale file is replaced. Raises Unavailable where its process still runs."""
    if (pid := _living(path)) is not None:
        raise Unavailable(
            f"failed to start daemon, ensure gantryd is not running or delete {path}: process with PID {pid} "
            "is still running"
        )
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(f"{os.getpid()}")
    except OSError as error:
        raise Unavailable(f"failed to start daemon: cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            if path.read_text().strip() == str(os.getpid()):
                path.unlink()


def _living(path: Path) -> int | None:
    """The other daemon whose id is in the file, None where there is none (process ids are used again)."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    if not text.isdigit() or int(text) == os.getpid():
        return None
    try:
        command = Path(f"/proc/{text}/cmdline").read_bytes()
    except OSError:
        return None
    return int(text) if b"gantryd" in command or b"gantry.daemon" in command else None
