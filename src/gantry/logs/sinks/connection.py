"""Connections to log servers: streams and datagrams, with Go's words for what fails."""

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Protocol

from gantry.errors import Unavailable
from gantry.ports import LogEntry

_CONNECT_TIMEOUT = 10.0


class Sink(Protocol):
    """A log server. OSError and Unavailable mean: connect again, and send the same once more."""

    async def connect(self) -> None:
        """Raises Unavailable with the words that a failed start shows."""
        ...

    async def send(self, entries: Sequence[LogEntry]) -> None: ...

    async def close(self) -> None: ...


class Stream:
    """A stream to `scheme` (tcp, tls, unix), host or path, and port."""

    def __init__(self, scheme: str, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._scheme, self._host, self._port, self._tls = scheme, host, port, tls
        self.reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        await self.close()
        unix = self._scheme == "unix"
        where = f"unix {self._host}" if unix else f"tcp {self._host}:{self._port}"
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                if unix:
                    self.reader, self._writer = await asyncio.open_unix_connection(self._host)
                else:
                    self.reader, self._writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        except TimeoutError:
            raise Unavailable(f"dial {where}: i/o timeout") from None
        except socket.gaierror as error:
            raise Unavailable(f"dial tcp: lookup {self._host}: {(error.strerror or 'failed').lower()}") from error
        except OSError as error:
            raise Unavailable(f"dial {where}: connect: {words(error)}") from error

    async def write(self, data: bytes) -> None:
        """Raises OSError where the connection is broken."""
        if self._writer is None or self._writer.is_closing() or (self.reader is not None and self.reader.at_eof()):
            raise ConnectionResetError("not connected")
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Datagrams:
    """Datagrams to a UDP address or the path of a unix socket; a server that does not listen is no error with UDP."""

    def __init__(self, host: str, port: int = 0) -> None:
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        self._address: tuple[object, ...] = ()

    async def connect(self) -> None:
        await self.close()
        loop = asyncio.get_running_loop()
        if not self._port:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.setblocking(False)
            try:
                made.connect(self._host)
            except OSError as error:
                made.close()
                raise Unavailable(f"dial unixgram {self._host}: connect: {words(error)}") from error
            self._socket = made
            return
        try:
            family, _, _, _, self._address = (await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM))[0]
        except OSError as error:
            raise Unavailable(f"dial udp: lookup {self._host}: {words(error)}") from error
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    async def write(self, data: bytes) -> None:
        if self._socket is None:
            raise ConnectionResetError("not connected")
        loop = asyncio.get_running_loop()
        if self._port:
            await loop.sock_sendto(self._socket, data, self._address)
        else:
            await loop.sock_sendall(self._socket, data)

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def words(error: OSError) -> str:
    """What the system says, in lower case."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error).lower()
