"""The hub between conmon's attach socket and its readers, against a socket that speaks as conmon does."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gantry.errors import Conflict
from gantry.runtime.streams import Attachment, Hub, connect


class Monitor:
    """The other end: accepts like conmon, one connection at a time."""

    def __init__(self, directory: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        handle = os.open(directory, os.O_PATH)
        self.listener.bind(f"/proc/self/fd/{handle}/attach")
        os.close(handle)
        self.listener.listen()
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        self.listener.settimeout(5)
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(5)
        return self.connection

    def close(self) -> None:
        for end in (self.connection, self.listener):
            if end is not None:
                end.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Longer than the 107 bytes that a socket's path may have."""
    path = tmp_path / ("d" * 100) / ("e" * 60)
    path.mkdir(parents=True)
    return path


@pytest.fixture
def monitor(directory: Path) -> Iterator[Monitor]:
    made = Monitor(directory)
    yield made
    made.close()


async def frames(attachment: Attachment, count: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    async with asyncio.timeout(5), contextlib.aclosing(_typed(attachment)) as stream:
        async for frame in stream:
            found.append(frame)
            if len(found) == count:
                break
    return found


async def _typed(attachment: Attachment) -> AsyncIterator[tuple[int, bytes]]:  # type: ignore[misc]
    async for frame in attachment:
        yield frame


def hub(directory: Path, *, stdin: bool = True, tty: bool = False, keep: bool = False) -> Hub:
    return Hub(directory, stdin=stdin, tty=tty, keep=keep)


async def test_frames_are_told_apart(directory: Path, monitor: Monitor) -> None:
    reader = hub(directory).attach()
    peer = monitor.accept()
    peer.send(b"\x02out")
    peer.send(b"\x03err")
    assert await frames(reader, 2) == [(1, b"out"), (2, b"err")]
    peer.close()
    assert await frames(reader, 1) == []


async def test_all_readers_share_one_connection(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory)
    readers = [shared.attach() for _ in range(3)]
    monitor.accept().send(b"\x02same")
    assert [await frames(reader, 1) for reader in readers] == [[(1, b"same")]] * 3
    monitor.listener.settimeout(0.05)
    with pytest.raises(TimeoutError):
        monitor.listener.accept()
    shared.end()


async def test_what_was_sent_before_the_end_is_read(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory)
    reader = shared.attach()
    peer = monitor.accept()
    for i in range(8):  # fewer than the kernel queues in one socket
        peer.send(b"\x02%d" % i)
    peer.close()
    shared.process_ended()
    assert await frames(reader, 1000) == [(1, b"%d" % i) for i in range(8)]
    with pytest.raises(Conflict):
        shared.attach()


async def test_a_slow_reader_gets_what_was_left_when_the_process_ended(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory)
    reader = shared.attach()
    peer = monitor.accept()
    sent = 0
    async with asyncio.timeout(10):
        while not reader.full:  # nobody reads: the hub stops reading, too
            peer.send(b"\x02%d" % sent)
            sent += 1
            await asyncio.sleep(0)
    for _ in range(8):
        peer.send(b"\x02%d" % sent)
        sent += 1
    peer.close()
    shared.process_ended()
    shared.end()  # the container is cleaned up at once
    assert await frames(reader, sent + 1) == [(1, b"%d" % i) for i in range(sent)]


async def test_a_slow_reader_stops_the_process(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory)
    reader = shared.attach()
    peer = monitor.accept()
    peer.setblocking(False)
    sent = 0
    async with asyncio.timeout(10):
        quiet = 0
        while quiet < 20:  # the writer is blocked for good, not for a moment
            try:
                peer.send(b"\x02" + b"x" * 8000)
                sent, quiet = sent + 1, 0
            except BlockingIOError:
                quiet += 1
            await asyncio.sleep(0)
    assert sent * 8000 < 4 << 20
    peer.close()
    assert len(await frames(reader, sent + 1)) == sent


async def test_input_arrives_whole_and_in_order(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory)
    writer = shared.attach()
    peer = monitor.accept()
    data = os.urandom(300_000)

    def receive() -> bytes:
        received = b""
        while packet := peer.recv(64 << 10):
            assert len(packet) <= 8 << 10
            received += packet
        return received

    receiving = asyncio.get_running_loop().run_in_executor(None, receive)
    await writer.write(data[:100_000])
    await writer.write(data[100_000:])
    await writer.close_stdin()
    assert await receiving == data
    await writer.write(b"too late")
    peer.send(b"\x02still")
    assert await frames(writer, 1) == [(1, b"still")]
    shared.end()


async def test_a_terminals_input_has_no_end(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory, tty=True)
    writer = shared.attach()
    peer = monitor.accept()
    await writer.close_stdin()
    await writer.write(b"more")
    assert peer.recv(100) == b"more"
    shared.end()


async def test_no_input_where_none_was_asked_for(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory, stdin=False)
    writer = shared.attach()
    peer = monitor.accept()
    await writer.write(b"ignored")
    await writer.close_stdin()
    peer.settimeout(0.05)
    with pytest.raises(TimeoutError):
        peer.recv(10)
    shared.end()


@pytest.mark.parametrize("keep", [False, True])
async def test_the_last_reader_disconnects_unless_input_must_stay_open(
    directory: Path, monitor: Monitor, keep: bool
) -> None:
    shared = hub(directory, keep=keep)
    readers = [shared.attach(), shared.attach()]
    peer = monitor.accept()
    await readers[0].close()
    peer.send(b"\x02x")
    assert await frames(readers[1], 1) == [(1, b"x")]
    await readers[1].close()
    peer.settimeout(0.05)
    if keep:
        with pytest.raises(TimeoutError):
            peer.recv(1)
        for _ in range(200):  # and what nobody reads is thrown away
            peer.send(b"\x02" + b"y" * 8000)
            await asyncio.sleep(0)
    else:
        assert peer.recv(1) == b""
    shared.end()


async def test_held_output_goes_to_the_first_reader(directory: Path, monitor: Monitor) -> None:
    shared = hub(directory)
    shared.hold()
    monitor.accept().send(b"\x02early")
    await asyncio.sleep(0.01)
    first, second = shared.attach(), shared.attach()
    monitor.close()
    assert await frames(first, 5) == [(1, b"early")]
    assert await frames(second, 5) == []


async def test_nobody_listens(directory: Path) -> None:
    with pytest.raises(Conflict, match="cannot attach"):
        hub(directory).attach()
    with pytest.raises(OSError):
        connect(directory)
