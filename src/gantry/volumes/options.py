"""The `local` driver's names and options (`type`, `o`, `device`), with Docker's messages."""

import ipaddress
import os
import re
import socket
from pathlib import Path

from gantry.errors import Internal, InvalidArgument, Unsupported
from gantry.linux.mount import mount, parse_options
from gantry.model.task import Mount

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_KNOWN = ("type", "o", "device", "size")
_NETWORK_TYPES = ("nfs", "nfs4", "cifs", "smb3")


def check_name(name: str) -> None:
    """Raises InvalidArgument for what cannot be a volume's name."""
    if len(name) == 1:
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not NAME.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if len(name) > 255:
        raise InvalidArgument(f"create {name}: volume name is too long, names are at most 255 characters")


def check_options(name: str, options: dict[str, str]) -> None:
    """Raises InvalidArgument for an unknown or missing option, Unsupported for a quota."""
    for key in options:
        if key not in _KNOWN:
            raise InvalidArgument(f'create {name}: invalid option: "{key}"')
    if "size" in options:
        raise Unsupported(f"create {name}: quota size requested but no quota support")
    for key in ("device", "type"):
        if options and not options.get(key):
            raise InvalidArgument(f'create {name}: missing required option: "{key}"')


def mount_options(options: dict[str, str], target: Path) -> None:
    """Mount what the options ask for; raises Internal with Docker's message."""
    words = [word for word in options.get("o", "").split(",") if word]
    kind, device = options["type"], options["device"]
    try:
        if kind in _NETWORK_TYPES:
            words = [_resolved(word) for word in words]
        mount(Mount(kind, device, options=tuple(words)), target)
    except OSError as error:
        parsed = parse_options(words)
        data = f", data: {parsed.data}" if parsed.data else ""
        what = f"mount {device}:{target}, flags: {parsed.flags:#x}{data}"
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise Internal(
            f"error while mounting volume '{target}': failed to mount local volume: {what}: {reason}"
        ) from error


def _resolved(word: str) -> str:
    """The kernel wants `addr=` as a number."""
    key, _, value = word.partition("=")
    if key != "addr":
        return word
    try:
        ipaddress.ip_address(value)
    except ValueError:
        found = socket.getaddrinfo(value, None, type=socket.SOCK_STREAM)
        return f"addr={found[0][4][0]}"
    return word
