"""The log file's parser and its search from the end, against a plain model."""

import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.logs.k8s_file import LINE_LIMIT, Parser, tail_position
from gantry.ports import LogEntry

STAMP = b"2026-11-24T02:26:38.123456789+00:00"
AT = 1795487198123456789


def line(stream: str, flag: str, data: bytes, stamp: bytes = STAMP) -> bytes:
    return b" ".join((stamp, stream.encode(), flag.encode(), data)) + b"\n"


def parse(data: bytes) -> list[LogEntry]:
    parser = Parser()
    return [*parser.feed(data.split(b"\n")[:-1]), *parser.end()]


def test_whole_line() -> None:
    assert parse(line("stdout", "F", b"hello world")) == [LogEntry(1, AT, b"hello world\n")]


def test_empty_line_and_spaces_are_kept() -> None:
    assert [entry.data for entry in parse(line("stderr", "F", b"") + line("stdout", "F", b"  x "))] == [
        b"\n",
        b"  x \n",
    ]


def test_parts_are_joined_for_each_stream() -> None:
    data = line("stdout", "P", b"a") + line("stderr", "F", b"x") + line("stdout", "F", b"b")
    assert [(entry.stream, entry.data) for entry in parse(data)] == [(2, b"x\n"), (1, b"ab\n")]


def test_unfinished_line_comes_at_the_end_without_newline() -> None:
    assert [entry.data for entry in parse(line("stdout", "P", b"prompt> "))] == [b"prompt> "]


def test_long_line_is_passed_on_in_parts() -> None:
    part = b"x" * 8192
    data = line("stdout", "P", part) * 5 + line("stdout", "F", b"end")
    entries = parse(data)
    assert b"".join(entry.data for entry in entries) == part * 5 + b"end\n"
    assert max(len(entry.data) for entry in entries) <= LINE_LIMIT + 8192


def test_time_zones_and_damaged_lines() -> None:
    data = (
        line("stdout", "F", b"a", b"2026-11-24T03:26:38.123456789+01:00")
        + b"garbage\n\xff\n"
        + line("weird", "F", b"b")
    )
    assert parse(data) == [LogEntry(1, AT, b"a\n")]


def test_bad_time_is_zero() -> None:
    assert parse(line("stdout", "F", b"a", b"yesterday"))[0].time == 0


entries = st.lists(
    st.tuples(
        st.sampled_from(("stdout", "stderr")),
        st.sampled_from("PF"),
        st.binary(max_size=12).map(lambda b: b.replace(b"\n", b".")),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(entries, st.integers(min_value=0, max_value=45))
def test_tail_equals_the_end_of_everything(items: list[tuple[str, str, bytes]], lines: int) -> None:
    # A line that stays unfinished while the other stream goes on has no place in an order of lines: it is ended here.
    for stream in ("stdout", "stderr"):
        flags = [flag for name, flag, _ in items if name == stream]
        if flags and flags[-1] == "P" and items[-1][0] != stream:
            items.insert(len(items) - 1, (stream, "F", b"end"))
    data = b"".join(line(*item) for item in items)
    file = io.BytesIO(data)
    offset, skip, _ = tail_position(file, lines)
    whole = parse(data)
    expected = whole[len(whole) - lines :] if lines < len(whole) else whole
    assert sorted_by_stream(parse(data[offset:])[skip:]) == sorted_by_stream(expected if lines else [])


def sorted_by_stream(found: list[LogEntry]) -> list[tuple[int, bytes]]:
    return sorted((entry.stream, entry.data) for entry in found)


def test_tail_reads_little_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(line("stderr", "F", b"once"))
        for _ in range(300):
            file.write(line("stdout", "F", b"y" * 90) * 200)
        file.write(line("stdout", "F", b"last"))
    reads = 0

    class Counting(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal reads
            data = super().read(size) or b""
            reads += len(data)
            return data

    with Counting(path) as counting:
        offset, skip, _ = tail_position(counting, 2)  # type: ignore[arg-type]
    assert path.stat().st_size - offset == len(line("stdout", "F", b"y" * 90)) + len(line("stdout", "F", b"last"))
    assert skip == 0
    assert reads < 2 << 20
