"""The journald driver: systemd's native journal protocol, one datagram for each entry."""

import re
import struct
from collections.abc import Mapping, Sequence

from gantry.errors import Unavailable
from gantry.logs.sinks.connection import Datagrams
from gantry.model import timestamp
from gantry.model.container import Container
from gantry.ports import LogEntry

SOCKET = "/run/systemd/journal/socket"
_ERROR, _INFORMATION = b"3", b"6"
_NOT_IN_NAMES = re.compile("[^A-Z0-9_]")


class Journald:
    """A `Sink`."""

    def __init__(self, tag: str, container: Container, attributes: Mapping[str, str], path: str = SOCKET) -> None:
        self._connection = Datagrams(path)
        fields = {
            "CONTAINER_ID": container.id[:12],
            "CONTAINER_ID_FULL": container.id,
            "CONTAINER_NAME": container.name,
            "CONTAINER_TAG": tag,
            "IMAGE_NAME": container.image_ref,
            "SYSLOG_IDENTIFIER": tag,
        }
        for key, value in attributes.items():
            if name := _NOT_IN_NAMES.sub("_", key.upper()).lstrip("_0123456789"):
                fields[name] = value
        self._fixed = b"".join(field(name, value.encode()) for name, value in fields.items())

    async def connect(self) -> None:
        try:
            await self._connection.connect()
        except Unavailable as error:
            raise Unavailable("journald is not enabled on this host") from error

    async def send(self, entries: Sequence[LogEntry]) -> None:
        for entry in entries:
            whole = entry.data.endswith(b"\n")
            text = entry.data.removesuffix(b"\n")
            if not text:
                continue
            await self._connection.write(
                self._fixed
                + field("PRIORITY", _ERROR if entry.stream == 2 else _INFORMATION)
                + field("SYSLOG_TIMESTAMP", timestamp.rfc3339(entry.time).encode())
                + (b"" if whole else field("CONTAINER_PARTIAL_MESSAGE", b"true"))
                + field("MESSAGE", text)
            )

    async def close(self) -> None:
        await self._connection.close()


def field(name: str, value: bytes) -> bytes:
    """One field: on a line where it has no newline, else with its length before it."""
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
