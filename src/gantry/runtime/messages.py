"""What the runtimes say when they refuse, in the words that Docker's users know."""

import errno
import os
import re

from gantry.errors import GantryError, Internal, InvalidArgument

CREATE = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "

_TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\dT\S+\s*:?\s*")
_RUNC_PREFIX = re.compile(r'^(?:time="[^"]*" level=\w+ msg=)"?|"$')
_CRUN_NOT_FOUND = re.compile(r"executable file [`'](.*?)['`] not found(?: in \$PATH)?(?:: (.*))?$", re.DOTALL)
_CRUN_OPEN = re.compile(r"open executable(?: [`'](.*?)['`])?: (.*)$", re.DOTALL)
_CRUN_CHDIR = re.compile(r"chdir(?: to)? [`'](.*?)['`]: (.*)$", re.DOTALL)
_SYSTEM_ERRORS = frozenset(os.strerror(code) for code in errno.errorcode)  # Go writes them in lower case
_NOT_A_DIRECTORY = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)


def create_error(runtime: str, said: str, command: str) -> GantryError:
    """The error of a failed start; `command` is the first word of what should have run."""
    text = _clean(said)
    if (cause := _cause(text, command)) is not None:
        return InvalidArgument(f"{CREATE}runc create failed: unable to start container process: {cause}")
    return Internal(f"{CREATE}{runtime}: {text or 'the runtime gave no reason'}")


def exec_error(said: str, command: str) -> GantryError:
    """The error of a failed exec."""
    text = _clean(said)
    cause = _cause(text, command, exec_=True)
    if cause is not None:
        return InvalidArgument(EXEC + cause)
    return Internal(f"OCI runtime exec failed: exec failed: {text or 'the runtime gave no reason'}")


def _clean(said: str) -> str:
    """The last line that says something, without time and level."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "level=error" in line or "level=" not in line] or lines
    if not errors:
        return ""
    text = _RUNC_PREFIX.sub("", errors[-1]) if "level=" in errors[-1] else errors[-1]
    text = _TIMESTAMP.sub("", text).replace('\\"', '"').strip()
    head, colon, reason = text.rpartition(": ")
    return f"{head}: {reason.lower()}" if colon and reason in _SYSTEM_ERRORS else text


def _cause(text: str, command: str, *, exec_: bool = False) -> str | None:
    """Docker's words for what is the user's mistake, None for any other failure."""
    if text.startswith(("runc ", "exec failed: ")):  # runc's own words are Docker's
        return text.partition("unable to start container process: ")[2] or None
    init = "" if exec_ else "error during container init: "
    if match := _CRUN_NOT_FOUND.search(text):
        return f"{init}{_bad_command(match[1], match[2] or 'No such file or directory')}"
    if match := _CRUN_OPEN.search(text):
        return f"{init}{_bad_command(match[1] or command, match[2])}"
    if match := _CRUN_CHDIR.search(text):
        reason = match[2].strip().lower()
        return f'chdir to cwd ("{match[1]}") set in config.json failed: {reason}' + (
            _NOT_A_DIRECTORY if reason == "not a directory" else ""
        )
    return None


def _bad_command(command: str, reason: str) -> str:
    reason = reason.strip().lower()
    if "no such file" in reason:
        if "/" in command:
            return f'exec: "{command}": stat {command}: no such file or directory'
        return f'exec: "{command}": executable file not found in $PATH'
    if "is a directory" in reason or "operation not permitted" in reason:  # crun's word for a directory
        return f'exec: "{command}": is a directory: permission denied'
    return f'exec: "{command}": {reason}'
