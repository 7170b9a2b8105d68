"""The syslog driver: RFC 3164 and RFC 5424 over unix sockets, UDP, TCP and TLS (RFC 5425)."""

import datetime as dt
import os
import socket
import ssl
from collections.abc import Mapping, Sequence

from gantry.errors import Unavailable
from gantry.logs.sinks.connection import Datagrams, Stream
from gantry.model.log_options import syslog_address, syslog_facility, truth
from gantry.ports import LogEntry

_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_SECOND = 1_000_000_000
_ERROR, _INFORMATION = 3, 6


class Syslog:
    """A `Sink`."""

    def __init__(self, options: Mapping[str, str], tag: str) -> None:
        self._scheme, host, port = syslog_address(options.get("syslog-address", ""))
        self._priority = syslog_facility(options.get("syslog-facility", "")) << 3
        self._format = options.get("syslog-format", "")
        self._tag = tag
        self._host = socket.gethostname()
        self._framed = self._scheme == "tcp+tls" and self._format.startswith("rfc5424")
        self._connection: Stream | Datagrams | None = None
        if self._scheme in ("tcp", "tcp+tls", "unix"):
            tls = _tls(options) if self._scheme == "tcp+tls" else None
            self._connection = Stream("unix" if self._scheme == "unix" else "tcp", host, port, tls)
        elif self._scheme:
            self._connection = Datagrams(host, port)

    async def connect(self) -> None:
        if self._scheme:
            assert self._connection is not None
            await self._connection.connect()
            return
        for path in _LOCAL:
            for connection in (Datagrams(path), Stream("unix", path, 0)):
                try:
                    await connection.connect()
                except Unavailable:
                    continue
                self._connection = connection
                return
        raise Unavailable("Unix syslog delivery error")

    async def send(self, entries: Sequence[LogEntry]) -> None:
        assert self._connection is not None
        messages = [self._message(entry) for entry in entries if entry.data.rstrip(b"\n")]
        if isinstance(self._connection, Stream):
            await self._connection.write(b"".join(messages))
            return
        for message in messages:
            await self._connection.write(message)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def _message(self, entry: LogEntry) -> bytes:
        priority = self._priority | (_ERROR if entry.stream == 2 else _INFORMATION)
        moment = dt.datetime.fromtimestamp(entry.time // _SECOND, dt.UTC).astimezone()
        moment = moment.replace(microsecond=entry.time % _SECOND // 1000)
        pid = os.getpid()
        if self._format.startswith("rfc5424"):
            stamp = moment.isoformat(timespec="microseconds" if self._format == "rfc5424micro" else "seconds")
            head = f"<{priority}>1 {stamp} {self._host} {self._tag} {pid} {self._tag} - "
        else:
            stamp = f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}"
            host = f"{self._host} " if self._format == "rfc3164" else ""
            head = f"<{priority}>{stamp} {host}{self._tag}[{pid}]: "
        message = head.encode() + entry.data.rstrip(b"\n") + b"\n"
        return b"%d %b" % (len(message), message) if self._framed else message


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("syslog-tls-ca-cert") or None)
        if certificate := options.get("syslog-tls-cert"):
            context.load_cert_chain(certificate, options.get("syslog-tls-key") or None)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(f"could not load TLS keys for the log server: {error}") from error
    if options.get("syslog-tls-skip-verify") and truth(options["syslog-tls-skip-verify"]):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
