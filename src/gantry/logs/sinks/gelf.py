"""The gelf driver: Graylog Extended Log Format 1.1 over UDP (compressed, in chunks) and TCP (ended by a zero)."""

import gzip
import os
import socket
import zlib
from collections.abc import Mapping, Sequence

import msgspec

from gantry.errors import Unavailable
from gantry.logs.sinks.connection import Datagrams, Stream
from gantry.model import timestamp
from gantry.model.container import Container
from gantry.model.log_options import gelf_address
from gantry.ports import LogEntry

CHUNK_MAGIC = b"\x1e\x0f"
CHUNK_SIZE = 1420
_CHUNK_HEAD = 12
_MOST_CHUNKS = 128
_ERROR, _INFORMATION = 3, 6


class Gelf:
    """A `Sink`."""

    def __init__(
        self, options: Mapping[str, str], tag: str, container: Container, attributes: Mapping[str, str]
    ) -> None:
        scheme, self._address, self._port = gelf_address(options["gelf-address"])
        self._connection = (
            Stream("tcp", self._address, self._port) if scheme == "tcp" else Datagrams(self._address, self._port)
        )
        self._compression = options.get("gelf-compression-type", "gzip")
        self._level = int(options.get("gelf-compression-level", "1"))
        self._fixed = {
            "version": "1.1",
            "host": socket.gethostname(),
            "_command": " ".join((container.path, *container.args)),
            "_container_id": container.id,
            "_container_name": container.name,
            "_created": timestamp.rfc3339(container.created_at),
            "_image_id": container.image_id,
            "_image_name": container.image_ref,
            "_tag": tag,
            **{f"_{key}": value for key, value in attributes.items()},
        }

    async def connect(self) -> None:
        try:
            await self._connection.connect()
        except Unavailable as error:
            raise Unavailable(
                f"gelf: cannot connect to GELF endpoint: {self._address}:{self._port} {error.message}"
            ) from error

    async def send(self, entries: Sequence[LogEntry]) -> None:
        messages = [self._message(entry) for entry in entries if entry.data.strip(b"\n")]
        if isinstance(self._connection, Stream):
            await self._connection.write(b"".join(message + b"\0" for message in messages))
            return
        for message in messages:
            for datagram in chunks(self._compressed(message)):
                await self._connection.write(datagram)

    async def close(self) -> None:
        await self._connection.close()

    def _compressed(self, message: bytes) -> bytes:
        if self._compression == "gzip":
            return gzip.compress(message, 6 if self._level < 0 else self._level)
        return zlib.compress(message, self._level) if self._compression == "zlib" else message

    def _message(self, entry: LogEntry) -> bytes:
        return msgspec.json.encode(
            {
                **self._fixed,
                "short_message": entry.data.rstrip(b"\n").decode("utf-8", "replace"),
                "timestamp": entry.time // 1_000_000 / 1000,
                "level": _ERROR if entry.stream == 2 else _INFORMATION,
            }
        )


def chunks(message: bytes) -> list[bytes]:
    """The datagrams of one message; more than the format's 128 chunks are cut off."""
    if len(message) <= CHUNK_SIZE:
        return [message]
    room = CHUNK_SIZE - _CHUNK_HEAD
    parts = [message[start : start + room] for start in range(0, len(message), room)][:_MOST_CHUNKS]
    identity = os.urandom(8)
    return [CHUNK_MAGIC + identity + bytes((number, len(parts))) + part for number, part in enumerate(parts)]
