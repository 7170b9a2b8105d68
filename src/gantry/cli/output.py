"""--output: a stream of bytes into a file, or to standard output where that is no terminal."""

from __future__ import annotations

import os

from gantry.cli.errors import CommandError
from gantry.cli.streams import write_all
from gantry.cli.terminal import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def check(target: str, what: str) -> None:
    """Refuse a terminal and places where no file can be, before anything is asked of the daemon.

    `what` begins the message: "failed to export container".
    """
    if not target:
        if is_terminal(1):
            raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        return
    directory = os.path.dirname(os.path.normpath(target))
    if directory and not os.path.exists(directory):
        raise CommandError(f"{what}: invalid output path: stat {directory}: no such file or directory")
    if os.path.isdir(target):
        raise CommandError(f"{what}: cannot write to a directory")
    if os.path.exists(target) and not os.path.isfile(target):
        raise CommandError(f"{what}: {target!r} is no regular file")


def write(blocks: Iterable[bytes], target: str) -> None:
    """Write all blocks; a file of the name `target` appears when all have arrived."""
    if not target:
        for block in blocks:
            write_all(1, block)
        return
    place = os.path.realpath(target)
    temporary = f"{place}.{os.getpid()}.partial"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for block in blocks:
                write_all(descriptor, block)
        finally:
            os.close(descriptor)
        os.replace(temporary, place)
    except OSError as error:
        raise CommandError(f"{target}: {os.strerror(error.errno or 0).lower()}") from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
