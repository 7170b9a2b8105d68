"""The files of one log: `NAME` is written to; `NAME.1`, `NAME.2`, ... were set aside, the higher the newer.

A file keeps its number for ever, also when it is compressed (`NAME.1.gz`): whoever reads finds its place again by it.
"""

import contextlib
import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from gantry.errors import Internal
from gantry.logs.settings import Rotation

_COPY = 1 << 20


class LogFile(NamedTuple):
    """The file that is written to has the number that it will get when it is set aside."""

    path: Path
    number: int
    inode: int
    current: bool = False

    @property
    def compressed(self) -> bool:
        return self.path.suffix == ".gz"


def existing(path: Path) -> list[LogFile]:
    """All files of a log, the oldest first (blocking)."""
    aside: dict[int, LogFile] = {}
    inode = 0
    try:
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if entry.name == path.name:
                    inode = entry.inode()
                elif number := _number(entry.name, path.name):
                    file = LogFile(path.parent / entry.name, number, entry.inode())
                    # Beside its compressed copy a file is the one to read: the copy may be unfinished.
                    if number not in aside or not file.compressed:
                        aside[number] = file
    except FileNotFoundError:
        return []
    found = [aside[number] for number in sorted(aside)]
    if inode:
        found.append(LogFile(path, max(aside, default=0) + 1, inode, current=True))
    return found


def _number(name: str, base: str) -> int:
    """The number in the name of a file that was set aside, 0 for any other name."""
    if not name.startswith(base + "."):
        return 0
    rest = name.removeprefix(base + ".").removesuffix(".gz")
    return int(rest) if rest.isascii() and rest.isdecimal() else 0


def open_log(file: LogFile) -> BinaryIO | None:
    """A log file for reading, seekable; None where it has gone. A compressed one is unpacked into a nameless file."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Internal(f"cannot read the log {file.path}: {error.strerror}") from error
    opened = cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0))
    if not file.compressed:
        return opened
    with opened:
        unpacked = cast("BinaryIO", tempfile.TemporaryFile(dir=file.path.parent, buffering=0))  # noqa: SIM115
        try:
            with gzip.open(opened) as source:
                shutil.copyfileobj(source, unpacked, _COPY)
        except (OSError, EOFError) as error:
            unpacked.close()
            raise Internal(f"cannot read the log {file.path}: {error}") from error
        unpacked.seek(0)
        return unpacked


def set_aside(path: Path, rotation: Rotation) -> bool:
    """Give the current file its number, and remove those that are too many; False where there is no current file.

    Blocking. Whoever writes goes on writing to the same file until it is told to open another one, so that each line is
    at every moment in a file that readers find.
    """
    files = existing(path)
    if not files or not files[-1].current:
        return False
    if rotation.files == 1:
        path.unlink()
    else:
        path.rename(path.with_name(f"{path.name}.{files[-1].number}"))
    for file in files[: max(0, len(files) - rotation.files + 1)]:
        if not file.current:
            file.path.unlink(missing_ok=True)
    return True


def compress(path: Path, rotation: Rotation) -> None:
    """Compress what was set aside and nobody writes to any more (blocking). One that is interrupted is done again."""
    if not rotation.compress:
        return
    for file in existing(path):
        if file.current or file.compressed:
            continue
        packed = file.path.with_name(file.path.name + ".gz")
        temporary = file.path.with_name("." + packed.name)
        with file.path.open("rb") as source, gzip.open(temporary, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target, _COPY)
        temporary.rename(packed)
        with contextlib.suppress(FileNotFoundError):
            file.path.unlink()


def remove(path: Path) -> None:
    """Remove every file of a log (blocking)."""
    for file in existing(path):
        file.path.unlink(missing_ok=True)
