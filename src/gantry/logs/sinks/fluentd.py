"""The fluentd driver: the forward protocol (MessagePack `[tag, time, record]`) over TCP, TLS, unix sockets."""

import asyncio
import base64
import os
import ssl
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gantry.errors import Unavailable
from gantry.logs.sinks.connection import Stream
from gantry.model.container import Container
from gantry.model.log_options import duration, fluentd_address, truth
from gantry.ports import LogEntry

_SECOND = 1_000_000_000
_EVENT_TIME = 0  # the extension type of a time with nanoseconds
_ACK_TIMEOUT = 30.0
_ANSWER_LIMIT = 1 << 16


class Fluentd:
    """A `Sink`."""

    def __init__(
        self, options: Mapping[str, str], tag: str, container: Container, attributes: Mapping[str, str]
    ) -> None:
        scheme, host, port = fluentd_address(options.get("fluentd-address", ""))
        tls = ssl.create_default_context() if scheme == "tls" else None
        self._connection = Stream("unix" if scheme == "unix" else "tcp", host, port, tls)
        self.later = any(truth(options.get(name) or "0") for name in ("fluentd-async", "fluentd-async-connect"))
        self._precise = truth(options.get("fluentd-sub-second-precision") or "0")
        self._acknowledged = truth(options.get("fluentd-request-ack") or "0")
        self._timeout = duration(options.get("fluentd-write-timeout") or "0") or None
        self._tag = tag
        self._fixed = {"container_id": container.id, "container_name": f"/{container.name}", **attributes}

    async def connect(self) -> None:
        await self._connection.connect()

    async def send(self, entries: Sequence[LogEntry]) -> None:
        if not self._acknowledged:
            await self._write(b"".join(msgspec.msgpack.encode(self._event(entry)) for entry in entries))
            return
        for entry in entries:
            chunk = base64.b64encode(os.urandom(16)).decode()
            await self._write(msgspec.msgpack.encode([*self._event(entry), {"chunk": chunk}]))
            await self._acknowledge(chunk)

    async def close(self) -> None:
        await self._connection.close()

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(self._timeout):
            await self._connection.write(data)

    async def _acknowledge(self, chunk: str) -> None:
        data = b""
        assert self._connection.reader is not None
        async with asyncio.timeout(_ACK_TIMEOUT):
            while True:
                more = await self._connection.reader.read(_ANSWER_LIMIT)
                if not more or len(data) > _ANSWER_LIMIT:
                    raise ConnectionResetError("fluentd did not acknowledge")
                data += more
                try:
                    answer = msgspec.msgpack.decode(data)
                except msgspec.DecodeError:
                    continue  # not yet complete
                if not isinstance(answer, dict) or answer.get("ack") != chunk:
                    raise Unavailable("fluentd acknowledged something else")
                return

    def _event(self, entry: LogEntry) -> list[Any]:
        whole = entry.data.endswith(b"\n")
        seconds, rest = divmod(entry.time, _SECOND)
        time: Any = seconds
        if self._precise:
            time = msgspec.msgpack.Ext(_EVENT_TIME, struct.pack(">II", seconds, rest))
        record = {
            **self._fixed,
            "source": "stderr" if entry.stream == 2 else "stdout",
            "log": entry.data.removesuffix(b"\n").decode("utf-8", "replace"),
        }
        if not whole:
            record["partial_message"] = "true"
        return [self._tag, time, record]
