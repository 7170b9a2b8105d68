"""Who a process runs as: `user[:group]` against the container's own passwd(5) and group(5)."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from gantry.errors import InvalidArgument
from gantry.runtime import rootfs

_MAX_FILE = 8 << 20
_MAX_ID = (1 << 31) - 1
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}")


class ResolvedUser(msgspec.Struct, frozen=True):
    """Numbers for the kernel; `groups` are the supplementary ones, the primary one first."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = "/"


def resolve(root: Path, user: str, groups: Sequence[str] = ()) -> ResolvedUser:
    """Resolve inside the root file system at `root` (blocking); raises InvalidArgument with Docker's words."""

    def read(path: str) -> bytes:
        return rootfs.read_file(root, path, _MAX_FILE) or b""

    return resolve_from(lambda: read("/etc/passwd"), lambda: read("/etc/group"), user, groups)


def resolve_from(
    passwd: Callable[[], bytes], group: Callable[[], bytes], user: str, groups: Sequence[str] = ()
) -> ResolvedUser:
    """The same on the files' contents; each is read at most once, and only where it is needed."""
    user_part, _, group_part = user.partition(":")
    uid, gid, home, name = 0, 0, "/", ""
    wanted_uid = _number(user_part) if user_part else 0
    for entry in _passwd(passwd()):
        if entry[1] == wanted_uid if wanted_uid is not None else entry[0] == user_part:
            name, uid, gid, home = entry
            break
    else:
        if wanted_uid is None:
            raise InvalidArgument(f"unable to find user {user_part}: no matching entries in passwd file")
        uid = _in_range(wanted_uid)

    supplementary: list[int] = []
    table = list(_group(group())) if group_part or name or groups else []
    if group_part:
        gid = _find_group(table, group_part)
    elif name:
        supplementary = [number for _, number, members in table if name in members]
    supplementary += [_find_group(table, extra) for extra in groups]
    return ResolvedUser(uid, gid, tuple(dict.fromkeys((gid, *supplementary))), home or "/")


def _find_group(table: list[tuple[str, int, list[str]]], wanted: str) -> int:
    number = _number(wanted)
    for name, gid, _ in table:
        if gid == number if number is not None else name == wanted:
            return gid
    if number is None:
        raise InvalidArgument(f"unable to find group {wanted}: no matching entries in group file")
    return _in_range(number)


def _in_range(number: int) -> int:
    if not 0 <= number <= _MAX_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{_MAX_ID}")
    return number


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _passwd(data: bytes) -> Iterator[tuple[str, int, int, str]]:
    """Entries as (name, uid, gid, home); a line with a bad number is no entry."""
    for fields in _lines(data):
        uid, gid = (_number(fields[i]) if len(fields) > i else None for i in (2, 3))
        if uid is not None and gid is not None and 0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID:
            yield fields[0], uid, gid, fields[5] if len(fields) > 5 else ""


def _group(data: bytes) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _lines(data):
        gid = _number(fields[2]) if len(fields) > 2 else None
        if gid is not None and 0 <= gid <= _MAX_ID:
            yield fields[0], gid, fields[3].split(",") if len(fields) > 3 else []


def _lines(data: bytes) -> Iterator[list[str]]:
    for line in data.split(b"\n"):
        if text := line.strip():
            yield text.decode("utf-8", "replace").split(":")
