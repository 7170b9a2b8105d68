"""Reading logs: filters, tail, following a growing file, and the end."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gantry.aio import TaskOwner
from gantry.errors import Unsupported
from gantry.logs import files
from gantry.logs.keeper import LogKeeper
from gantry.model.container import Container, ContainerConfig, HostConfig
from gantry.ports import LogEntry, LogQuery

SECOND = 1_000_000_000
BASE = 1795487198 * SECOND


def stamp(second: int) -> bytes:
    return f"2026-11-24T02:26:{38 + second:02d}.000000000+00:00".encode()


def line(data: bytes, *, second: int = 0, stream: bytes = b"stdout", flag: bytes = b"F") -> bytes:
    return b" ".join((stamp(second), stream, flag, data)) + b"\n"


def container(path: Path | str) -> Container:
    return Container(
        id="a" * 64, name="c", created_at=0, image_id="", image_ref="", platform="linux", path="", args=(),
        config=ContainerConfig(), host_config=HostConfig(), runtime="", driver="", log_path=str(path),
    )  # fmt: skip


def ended(now: bool = True) -> asyncio.Event:
    event = asyncio.Event()
    if now:
        event.set()
    return event


async def read(container: Container, query: LogQuery, ended: asyncio.Event) -> AsyncIterator[LogEntry]:
    """What the keeper reads, entry by entry."""

    async def reopen(_: str) -> None:
        raise AssertionError("nobody writes")

    async with TaskOwner("test") as owner:
        async for batch in LogKeeper(reopen, owner).read(container, query, ended):
            for entry in batch:
                yield entry


async def collect(entries: AsyncIterator[LogEntry]) -> list[bytes]:
    return [entry.data async for entry in entries]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "c.log"
    lines = [line(f"{i}".encode(), second=i, stream=b"stderr" if i % 2 else b"stdout") for i in range(6)]
    path.write_bytes(b"".join(lines))
    return path


async def test_everything_in_order(log: Path) -> None:
    assert await collect(read(container(log), LogQuery(), ended())) == [f"{i}\n".encode() for i in range(6)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (LogQuery(stderr=False), [b"0\n", b"2\n", b"4\n"]),
        (LogQuery(stdout=False), [b"1\n", b"3\n", b"5\n"]),
        (LogQuery(tail=2), [b"4\n", b"5\n"]),
        (LogQuery(tail=0), []),
        (LogQuery(tail=100), [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]),
        (LogQuery(tail=3, stderr=False), [b"4\n"]),
        (LogQuery(since=BASE + 4 * SECOND), [b"4\n", b"5\n"]),
        (LogQuery(until=BASE + SECOND), [b"0\n", b"1\n"]),
        (LogQuery(follow=True, tail=1), [b"5\n"]),
    ],
)
async def test_queries(log: Path, query: LogQuery, expected: list[bytes]) -> None:
    assert await collect(read(container(log), query, ended())) == expected


async def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert await collect(read(container(tmp_path / "none"), LogQuery(), ended())) == []


async def test_no_log_path_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="does not support reading"):
        await collect(read(container(""), LogQuery(), ended()))


async def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path, log: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(log)
    with pytest.raises(Exception, match="cannot read the log"):
        await collect(read(container(link), LogQuery(), ended()))


async def test_follow_sees_what_is_written_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    end = ended(now=False)
    seen: list[bytes] = []
    arrived = asyncio.Event()

    async def follow() -> None:
        async for entry in read(container(path), LogQuery(follow=True), end):
            seen.append(entry.data)
            arrived.set()

    async def until_seen(count: int) -> None:
        while len(seen) < count:
            arrived.clear()
            await arrived.wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(follow())
        await asyncio.sleep(0)
        with path.open("wb", buffering=0) as file:
            file.write(line(b"one"))
            await until_seen(1)
            file.write(line(b"tw", flag=b"P"))
            file.write(line(b"o"))
            await until_seen(2)
            file.write(line(b"rest", flag=b"P"))
        end.set()
    assert seen == [b"one\n", b"two\n", b"rest"]


async def test_follow_ends_at_until(log: Path) -> None:
    query = LogQuery(follow=True, until=BASE + 2 * SECOND)
    async with asyncio.timeout(10):
        found = await collect(read(container(log), query, ended(now=False)))
    assert found == [b"0\n", b"1\n", b"2\n"]


async def test_an_emptied_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    path.write_bytes(line(b"old") * 3)
    end = ended(now=False)
    entries = read(container(path), LogQuery(follow=True), end)
    async with asyncio.timeout(10):
        assert [(await anext(entries)).data for _ in range(3)] == [b"old\n"] * 3
        path.write_bytes(line(b"new"))
        assert (await anext(entries)).data == b"new\n"
        end.set()
        assert await collect(entries) == []


async def test_memory_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    with path.open("wb") as file:
        for _ in range(200):
            file.write(line(b"x" * 200) * 200)
    tracemalloc.start()
    count = 0
    try:
        async for entry in read(container(path), LogQuery(), ended()):
            count += len(entry.data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 200 * 200 * 201
    assert peak < 4 << 20


def test_remove_is_idempotent(log: Path) -> None:
    log.with_name("c.log.1").write_bytes(b"")
    files.remove(log)
    files.remove(log)
    assert list(log.parent.iterdir()) == []
