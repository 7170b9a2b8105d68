"""Named points at which a test lets the daemon die, as SIGKILL or a power cut would: between any two steps.

`point` does nothing unless `GANTRY_FAULTS` names a directory when the daemon starts. Then every point that is passed
is written to its file `passed`, and the daemon kills itself at the one that its file `kill` names: `NAME`, or
`NAME#N` for the Nth time since `passed` was removed.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def _nothing(name: str) -> None:
    """No test is watching."""


def watched(directory: Path) -> Callable[[str], None]:
    """A `point` that keeps the record in `directory`."""
    lock = threading.Lock()

    def passed(name: str) -> None:
        with lock:
            with (directory / "passed").open("a+") as record:
                record.write(name + "\n")
                record.seek(0)
                count = record.read().split("\n").count(name)
            wanted = ""
            with suppress(FileNotFoundError):
                wanted = (directory / "kill").read_text()
            if wanted in (name, f"{name}#{count}"):
                os.kill(os.getpid(), signal.SIGKILL)

    return passed


_directory = os.environ.get("GANTRY_FAULTS", "")
point: Callable[[str], None] = watched(Path(_directory)) if _directory else _nothing
