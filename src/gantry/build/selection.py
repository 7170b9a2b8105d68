"""Which paths of a tree a COPY means: Go's `filepath.Match` patterns, one path component at a time."""

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator

from gantry.build.errors import StepFailed
from gantry.linux.openat2 import open_directory, openat2

_WILD = frozenset("*?[\\")


def select(root: int, pattern: str) -> list[str]:
    """The paths below descriptor `root` that `pattern` names, sorted; one without wildcards names itself.

    Raises StepFailed for a malformed pattern, FileNotFoundError for a plain path that is not there.
    """
    path = posixpath.normpath("/" + pattern.lstrip("/")).lstrip("/")
    if not _WILD & set(pattern):
        os.close(openat2(root, path or ".", os.O_PATH))
        return [path]
    found = [""]
    for part in path.split("/"):
        if not _WILD & set(part):
            found = [posixpath.join(above, part) for above in found]
            continue
        try:
            regex = re.compile(translate(part))
        except re.error:
            raise StepFailed(f"syntax error in pattern: {pattern}") from None
        found = [
            posixpath.join(above, name) for above in found for name in _names(root, above) if regex.fullmatch(name)
        ]
    return [each for each in found if _exists(root, each)]


def _names(root: int, directory: str) -> list[str]:
    try:
        opened = open_directory(root, directory)
    except OSError:
        return []
    try:
        return sorted(os.listdir(opened))  # noqa: PTH208
    finally:
        os.close(opened)


def _exists(root: int, path: str) -> bool:
    try:
        os.close(openat2(root, path, os.O_PATH))
    except OSError:
        return False
    return True


def translate(pattern: str) -> str:
    """A regular expression for one path component. Raises re.error for a malformed pattern."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if parts[-1:] != ["[^/]*"]:
                parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "\\":
            if at == len(pattern):
                raise re.error("escape at the end")
            parts.append(re.escape(pattern[at]))
            at += 1
        elif char == "[":
            end = _class_end(pattern, at)
            inside = pattern[at:end]
            negated = inside.startswith("^")
            members = re.sub(r"\\(.)", r"\1", inside[negated:])
            parts.append(f"[{'^' if negated else ''}{_escape_class(members)}]")
            at = end + 1
        else:
            parts.append(re.escape(char))
    return "".join(parts)


def _class_end(pattern: str, at: int) -> int:
    start = at + (pattern[at : at + 1] == "^")
    end = start
    while end < len(pattern) and (pattern[end] != "]" or end == start):
        end += 2 if pattern[end] == "\\" else 1
    if end >= len(pattern):
        raise re.error("unterminated class")
    return end


def _escape_class(members: str) -> str:
    return "".join("\\" + char if char in "[]\\^&~|" else char for char in members)


def walk(
    root: int, top: str, excluded: Callable[[str], bool] | None = None
) -> Iterator[tuple[str, os.stat_result, int]]:
    """Everything below directory `top`, parents first, each as (path relative to it, status, its directory's fd).

    The descriptor is valid until the next item is asked for; links are not followed below `top`. What is `excluded`
    is passed over with all that lies below it.
    """
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        directory = open_directory(root, posixpath.join(top, inner) or ".")
        try:
            below = []
            for name in sorted(os.listdir(directory)):  # noqa: PTH208
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                path = f"{inner}/{name}" if inner else name
                if excluded is not None and excluded(path):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    below.append(path)
                yield path, status, directory
            waiting.extend(reversed(below))
        finally:
            os.close(directory)
