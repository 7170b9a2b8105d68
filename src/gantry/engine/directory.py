"""A container's own directory. While its container is made or removed it also names the volumes that go with it.

A directory without a record is what a killed daemon left: the next one removes it, and these volumes.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

_VOLUMES = "volumes"


def name_volumes(directory: Path, names: Sequence[str]) -> None:
    """Write down the anonymous volumes that go where the container goes; none takes that back (blocking)."""
    path = directory / _VOLUMES
    if not names:
        path.unlink(missing_ok=True)
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o710)
    with path.open("w") as file:
        file.write("\n".join(names))
        file.flush()
        os.fsync(file.fileno())


def named_volumes(directory: Path) -> list[str]:
    """What `name_volumes` wrote (blocking)."""
    try:
        return (directory / _VOLUMES).read_text().split()
    except FileNotFoundError:
        return []


def empty_directory(directory: Path) -> None:
    """Remove everything but the names of volumes; nothing happens where there is no directory (blocking)."""
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name == _VOLUMES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_directory(directory: Path) -> None:
    """Remove it as a whole; nothing happens where there is none (blocking)."""
    if directory.exists():
        shutil.rmtree(directory)
