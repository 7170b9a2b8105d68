"""How a layer's deletions look in a tar and in an overlay directory (OCI layer specification; kernel overlayfs.rst)."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"


def is_whiteout(status: os.stat_result) -> bool:
    """In an overlay directory, a character device 0/0 hides the name in the layers below."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: str) -> bool:
    """Whether this directory hides the directory of the same name in the layers below."""
    try:
        return os.getxattr(path, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False


def below(lower: Sequence[Path], path: str) -> tuple[str, os.stat_result] | None:
    """Where `path` is in the stack (topmost first) and what it is, None where it is not there.

    Links in the way are not followed: below them there is nothing.
    """
    parts = path.strip("/").split("/")
    for directory in lower:
        current = str(directory)
        hidden = False
        for index, part in enumerate(parts):
            current = f"{current}/{part}"
            try:
                status = os.lstat(current)
            except (FileNotFoundError, NotADirectoryError):
                break
            if is_whiteout(status):
                return None
            if index == len(parts) - 1:
                return current, status
            if not stat.S_ISDIR(status.st_mode):
                return None
            hidden = hidden or is_opaque(current)
        if hidden:
            return None
    return None
