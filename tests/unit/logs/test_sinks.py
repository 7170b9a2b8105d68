"""Log servers played by the test: what the drivers send, over every transport, and that nothing is lost."""

import asyncio
import contextlib
import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gantry.aio import TaskOwner
from gantry.errors import Unavailable
from gantry.logs.forwarder import PLACE, Forwarder
from gantry.logs.sinks.connection import Sink
from gantry.logs.sinks.fluentd import Fluentd
from gantry.logs.sinks.gelf import CHUNK_MAGIC, Gelf
from gantry.logs.sinks.journald import Journald
from gantry.logs.sinks.syslog import Syslog
from gantry.model.container import Container, ContainerConfig, HostConfig
from gantry.ports import LogEntry

AT = 1795487198_123456789
OUT, ERR = LogEntry(1, AT, b"hello\n"), LogEntry(2, AT, b"bad\n")


def container() -> Container:
    return Container(
        id="a" * 64, name="web", created_at=AT, image_id="sha256:1", image_ref="busybox", platform="linux", path="sh",
        args=("-c", "x"), config=ContainerConfig(), host_config=HostConfig(), runtime="", driver="",
    )  # fmt: skip


class Received:
    """A stream server's bytes; `drop` closes its connections."""

    def __init__(self) -> None:
        self.data = b""
        self.answer: Callable[[bytes], bytes] | None = None
        self._more = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while data := await reader.read(65536):
            self.data += data
            self._more.set()
            if self.answer is not None:
                writer.write(self.answer(data))
                await writer.drain()
        writer.close()

    async def until(self, complete: Callable[[bytes], bool]) -> bytes:
        async with asyncio.timeout(10):
            while not complete(self.data):
                self._more.clear()
                await self._more.wait()
        return self.data

    def drop(self) -> None:
        for writer in self._writers:
            writer.close()


@contextlib.asynccontextmanager
async def listening(path: Path | None = None, port: int = 0) -> AsyncIterator[tuple[Received, int]]:
    received = Received()
    if path is not None:
        server = await asyncio.start_unix_server(received.serve, path)
    else:
        server = await asyncio.start_server(received.serve, "127.0.0.1", port)
    try:
        yield received, 0 if path is not None else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        received.drop()


@pytest.fixture
def datagrams() -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(10)
        yield made


async def sent(sink: Sink, *entries: LogEntry) -> None:
    await sink.connect()
    await sink.send(entries)
    await sink.close()


class TestSyslog:
    async def test_udp(self, datagrams: socket.socket) -> None:
        address = f"udp://127.0.0.1:{datagrams.getsockname()[1]}"
        await sent(Syslog({"syslog-address": address, "syslog-facility": "local0"}, "tag"), OUT, ERR)
        first, second = datagrams.recv(2048), datagrams.recv(2048)
        assert first.startswith(b"<134>Nov 2")
        assert b" tag[" in first
        assert first.endswith(b"]: hello\n")
        assert second.startswith(b"<131>")

    async def test_tcp_rfc5424(self) -> None:
        async with listening() as (received, port):
            options = {"syslog-address": f"tcp://127.0.0.1:{port}", "syslog-format": "rfc5424micro"}
            await sent(Syslog(options, "tag"), OUT, ERR)
            lines = (await received.until(lambda data: data.count(b"\n") == 2)).splitlines()
        assert lines[0].startswith(b"<30>1 2026-11-2")
        assert b".123456+" in lines[0]
        assert lines[0].endswith(b" tag - hello")

    @pytest.mark.parametrize("scheme", ["unix", "unixgram"])
    async def test_unix(self, tmp_path: Path, scheme: str) -> None:
        path = tmp_path / "log"
        options = {"syslog-address": f"{scheme}://{path}", "syslog-format": "rfc3164"}
        if scheme == "unix":
            async with listening(path) as (received, _):
                await sent(Syslog(options, "tag"), OUT)
                data = await received.until(lambda data: b"\n" in data)
        else:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
                made.bind(str(path))
                await sent(Syslog(options, "tag"), OUT)
                data = made.recv(2048)
        assert f" {socket.gethostname()} tag[".encode() in data

    async def test_nobody_listens(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        with pytest.raises(Unavailable, match=f"dial tcp 127.0.0.1:{port}: connect: connection refused"):
            await Syslog({"syslog-address": f"tcp://127.0.0.1:{port}"}, "tag").connect()


class TestGelf:
    @pytest.mark.parametrize(
        ("kind", "unpack"), [("gzip", gzip.decompress), ("zlib", zlib.decompress), ("none", bytes)]
    )
    async def test_udp(self, datagrams: socket.socket, kind: str, unpack: Callable[[bytes], bytes]) -> None:
        options = {
            "gelf-address": f"udp://127.0.0.1:{datagrams.getsockname()[1]}", "gelf-compression-type": kind,
        }  # fmt: skip
        await sent(Gelf(options, "tag", container(), {"a": "b"}), ERR)
        message = msgspec.json.decode(unpack(datagrams.recv(65536)))
        assert message["short_message"] == "bad"
        assert message["level"] == 3
        assert message["timestamp"] == 1795487198.123
        assert message.items() >= {"version": "1.1", "_container_name": "web", "_tag": "tag", "_a": "b"}.items()

    async def test_large_messages_go_in_chunks(self, datagrams: socket.socket) -> None:
        options = {
            "gelf-address": f"udp://127.0.0.1:{datagrams.getsockname()[1]}", "gelf-compression-type": "none",
        }  # fmt: skip
        await sent(Gelf(options, "tag", container(), {}), LogEntry(1, AT, b"x" * 5000 + b"\n"))
        parts: dict[int, bytes] = {}
        while True:
            datagram = datagrams.recv(65536)
            assert len(datagram) <= 1420
            assert datagram.startswith(CHUNK_MAGIC)
            parts[datagram[10]] = datagram[12:]
            if len(parts) == datagram[11]:
                break
        whole = msgspec.json.decode(b"".join(parts[number] for number in sorted(parts)))
        assert whole["short_message"] == "x" * 5000

    async def test_tcp(self) -> None:
        async with listening() as (received, port):
            await sent(Gelf({"gelf-address": f"tcp://127.0.0.1:{port}"}, "tag", container(), {}), OUT, ERR)
            data = await received.until(lambda data: data.count(b"\0") == 2)
        assert [msgspec.json.decode(part)["short_message"] for part in data.split(b"\0")[:2]] == ["hello", "bad"]


class TestFluentd:
    async def test_forward(self) -> None:
        async with listening() as (received, port):
            await sent(Fluentd({"fluentd-address": f"127.0.0.1:{port}"}, "tag", container(), {"a": "b"}), OUT)
            tag, time, record = msgspec.msgpack.decode(await received.until(bool))
        assert (tag, time) == ("tag", AT // 10**9)
        assert record == {
            "container_id": "a" * 64, "container_name": "/web", "source": "stdout", "log": "hello", "a": "b",
        }  # fmt: skip

    async def test_nanoseconds_and_acknowledgement(self, tmp_path: Path) -> None:
        options = {
            "fluentd-address": f"unix://{tmp_path}/f", "fluentd-sub-second-precision": "true",
            "fluentd-request-ack": "true",
        }  # fmt: skip
        async with listening(tmp_path / "f") as (received, _):
            received.answer = lambda data: msgspec.msgpack.encode({"ack": msgspec.msgpack.decode(data)[3]["chunk"]})
            await sent(Fluentd(options, "tag", container(), {}), OUT)
            event = msgspec.msgpack.decode(received.data)
        assert event[1] == msgspec.msgpack.Ext(0, (AT // 10**9).to_bytes(4, "big") + (AT % 10**9).to_bytes(4, "big"))


async def test_journald(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "j"))
        await sent(
            Journald("tag", container(), {"my.label": "x"}, str(tmp_path / "j")), ERR, LogEntry(1, AT, b"two\nlines")
        )
        first, second = journal.recv(65536), journal.recv(65536)
    assert b"PRIORITY=3\n" in first
    assert b"MESSAGE=bad\n" in first
    assert b"CONTAINER_NAME=web\n" in first
    assert b"MY_LABEL=x\n" in first
    assert b"MESSAGE\n" + (9).to_bytes(8, "little") + b"two\nlines\n" in second
    assert b"CONTAINER_PARTIAL_MESSAGE=true\n" in second
    with pytest.raises(Unavailable, match="journald is not enabled on this host"):
        await Journald("tag", container(), {}, str(tmp_path / "none")).connect()


class TestForwarder:
    STAMP = b"2026-11-24T02:26:38.000000000+00:00 stdout F "

    def write(self, path: Path, *lines: bytes) -> None:
        with path.open("ab") as file:
            file.write(b"".join(self.STAMP + line + b"\n" for line in lines))

    def forwarder(self, path: Path, port: int) -> Forwarder:
        sink: Any = Syslog({"syslog-address": f"tcp://127.0.0.1:{port}"}, "t")
        return Forwarder("c", path, sink, buffer=0, connected=False)

    async def test_a_new_daemon_goes_on_where_the_last_one_stopped(self, tmp_path: Path) -> None:
        path = tmp_path / "c.log"
        ended = asyncio.Event()
        async with listening() as (received, port), TaskOwner("test") as owner:
            self.write(path, b"one", b"two")
            running = owner.spawn(self.forwarder(path, port).run(ended))
            await received.until(lambda data: b"two" in data)
            async with asyncio.timeout(10):
                while not (tmp_path / PLACE).exists():
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.wait({running})
            self.write(path, b"three")
            ended.set()
            await self.forwarder(path, port).run(ended)
            data = await received.until(lambda data: b"three" in data)
        assert [line.rpartition(b" ")[2] for line in data.splitlines()] == [b"one", b"two", b"three"]

    async def test_a_server_that_comes_back_gets_what_was_written_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "c.log"
        ended = asyncio.Event()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        self.write(path, b"one")
        async with TaskOwner("test") as owner:
            running = owner.spawn(self.forwarder(path, port).run(ended))
            await asyncio.sleep(0.05)
            async with listening(port=port) as (received, _):
                await received.until(lambda data: b"one" in data)
                ended.set()
                async with asyncio.timeout(10):
                    await running
