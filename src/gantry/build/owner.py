"""`--chown=user[:group]`, looked up in the passwd(5) and group(5) of the file system that is written to."""

import os
import stat
from collections.abc import Iterator

from gantry.build.errors import StepFailed
from gantry.linux.openat2 import openat2

_MAX_FILE = 8 << 20
_MAX_ID = (1 << 31) - 1


def resolve_owner(root: int, text: str) -> tuple[int, int]:
    """(uid, gid); a user without a group has its own primary group, a number stands for both. Raises StepFailed."""
    user, colon, group = text.partition(":")
    if not user or (colon and not group) or ":" in group:
        raise StepFailed(f"invalid chown string passed: {text}")
    primary: int | None
    if user.isascii() and user.isdigit():
        uid = primary = _number(user)
    else:
        entry = next((fields for fields in _lines(root, "/etc/passwd") if fields[0] == user and len(fields) > 3), None)
        if entry is None or not (entry[2].isascii() and entry[2].isdigit()):
            raise _unknown("uid", "user", user)
        uid = _number(entry[2])
        primary = _number(entry[3]) if entry[3].isascii() and entry[3].isdigit() else uid
    if not group:
        return uid, primary
    if group.isascii() and group.isdigit():
        return uid, _number(group)
    entry = next((fields for fields in _lines(root, "/etc/group") if fields[0] == group and len(fields) > 2), None)
    if entry is None or not (entry[2].isascii() and entry[2].isdigit()):
        raise _unknown("gid", "group", group)
    return uid, _number(entry[2])


def _unknown(kind: str, noun: str, name: str) -> StepFailed:
    return StepFailed(
        f"unable to convert uid/gid chown string to host mapping: can't find {kind} for {noun} {name}: "
        f"no such {noun}: {name}"
    )


def _number(text: str) -> int:
    if len(text) > 10 or int(text) > _MAX_ID:
        raise StepFailed(f"uids and gids must be in range 0-{_MAX_ID}")
    return int(text)


def _lines(root: int, path: str) -> Iterator[list[str]]:
    try:
        descriptor = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MAX_FILE)
    for line in data.decode("utf-8", "replace").split("\n"):
        yield line.split(":")
