"""Rotation: every line stays readable in its order, from any number of files, also while they change."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.logs import files, reader
from gantry.logs.reader import Cursor
from gantry.logs.settings import Rotation
from gantry.ports import LogQuery

STAMP = b"2026-11-24T02:26:38.000000000+00:00 stdout F "


def write(path: Path, *numbers: int) -> None:
    with path.open("ab") as file:
        for number in numbers:
            file.write(STAMP + b"%d\n" % number)


def numbers_of(cursor: Cursor) -> list[int]:
    """Everything that a cursor still has."""
    found: list[int] = []
    more = True
    while more:
        entries, more = cursor.batch()
        found += [int(entry.data) for entry in entries]
    return found


async def everything(path: Path, tail: int = -1) -> list[int]:
    ended = asyncio.Event()
    ended.set()
    return [int(e.data) async for batch in reader.read(path, LogQuery(tail=tail), ended) for e in batch]


def rotated(path: Path, rotation: Rotation, sizes: list[int]) -> int:
    """Files with so many lines each, set aside one after another; returns how many lines there were."""
    number = 0
    for size in sizes:
        write(path, *range(number, number + size))
        number += size
        assert files.set_aside(path, rotation)
        files.compress(path, rotation)
    return number


@pytest.mark.parametrize("compress", [False, True])
async def test_old_files_are_read_first_and_the_oldest_go(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "c.log"
    count = rotated(path, Rotation(1, 3, compress), [2, 2, 2, 2])
    write(path, count)
    suffix = ".gz" if compress else ""
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c.log", f"c.log.3{suffix}", f"c.log.4{suffix}"]
    assert await everything(path) == [4, 5, 6, 7, 8]
    for tail in range(7):
        assert await everything(path, tail) == ([4, 5, 6, 7, 8][-tail:] if tail else [])


async def test_one_file_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    rotated(path, Rotation(1, 1), [3])
    write(path, 9)
    assert await everything(path) == [9]


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.sampled_from(["write", "rotate", "read", "resume"]), max_size=25), compress=st.booleans())
def test_a_reader_misses_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[str], compress: bool) -> None:
    """Whatever is done in whatever order, and also where a new reader goes on at the place of the last one."""
    path = tmp_path_factory.mktemp("log") / "c.log"
    rotation = Rotation(1, 1000, compress)
    written = 0
    seen: list[int] = []
    cursor = Cursor(path)
    for step in steps:
        if step == "write":
            write(path, written)
            written += 1
        elif step == "rotate":
            files.set_aside(path, rotation)
            path.touch()
            files.compress(path, rotation)
        else:
            seen += numbers_of(cursor)
            if step == "resume" and (place := cursor.place) is not None and place[1]:
                cursor.close()
                cursor = Cursor(path)
                cursor.resume(*place)
    seen += numbers_of(cursor)
    cursor.close()
    assert seen == list(range(written))


async def test_follow_goes_over_rotation(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    write(path, 0)
    ended = asyncio.Event()
    batches = reader.read(path, LogQuery(follow=True), ended)
    seen: list[int] = []
    async with asyncio.timeout(10):
        for step in range(1, 4):
            seen += [int(entry.data) for entry in await anext(batches)]
            files.set_aside(path, Rotation(1, 10))
            write(path, step)
        ended.set()
        seen += [int(entry.data) async for batch in batches for entry in batch]
    assert seen == [0, 1, 2, 3]


def test_a_damaged_compressed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    path.with_name("c.log.1.gz").write_bytes(b"nonsense")
    with pytest.raises(Exception, match="cannot read the log"):
        Cursor(path).batch()
    assert files.existing(tmp_path / "none" / "c.log") == []
