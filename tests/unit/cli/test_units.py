import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.cli.table import ellipsis, render
from gantry.cli.units import (
    bytes_size,
    format_duration,
    from_human_size,
    human_duration,
    human_size,
    memory_swap,
    parse_duration,
    ram_in_bytes,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("32", 32),
        ("32b", 32),
        ("32k", 32768),
        ("32 KiB", 32768),
        ("1.5gb", 3 << 29),
        ("1T", 1 << 40),
        (".5m", 1 << 19),
    ],
)
def test_ram_in_bytes(text: str, size: int) -> None:
    assert ram_in_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid size: ''"),
        ("hello", "invalid size: 'hello'"),
        ("-32", "strconv.ParseFloat|invalid size"),
        ("32bb", "invalid suffix: 'bb'"),
        ("32mm", "invalid suffix: 'mm'"),
        ("32kbb", "invalid suffix: 'kbb'"),
        ("1 2", "invalid syntax"),
        ("1_000", "invalid syntax|invalid s"),
    ],
)
def test_bad_sizes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ram_in_bytes(text)


def test_other_sizes() -> None:
    assert from_human_size("1.5kB") == 1500
    assert (memory_swap("-1"), memory_swap("1k")) == (-1, 1024)
    assert [human_size(size) for size in (0, 999, 1000, 1_234_567, 2.5e9)] == ["0B", "999B", "1kB", "1.235MB", "2.5GB"]
    assert human_size(1_984_512, 3) == "1.98MB"
    assert bytes_size(25_276_000_000) == "23.54GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
        (3600, "About an hour"), (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"), (60 * 86400, "2 months"), (2 * 365 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5s", 5 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("-1.5s", -1_500_000_000),
        ("+.5ms", 500_000),
        ("2us3ns", 2003),
    ],
)
def test_parse_duration(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        (".s", 'time: invalid duration ".s"'),
        ("1.2.3s", 'time: invalid duration "1.2.3s"'),
        ("99999999999h", "time: invalid duration"),
    ],
)
def test_bad_durations(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse_duration(text)


@given(st.integers(-(2**62), 2**62))
def test_durations_round_trip(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


def test_format_duration() -> None:
    assert [format_duration(value) for value in (0, 1500, 2 * 10**6, 10**9, 90 * 10**9, 3600 * 10**9)] == [
        "0s", "1.5\u00b5s", "2ms", "1s", "1m30s", "1h0m0s",
    ]  # fmt: skip


def test_table() -> None:
    assert render([["ID", "NAME", "X"], ["a" * 12, "b", "c"]]) == (
        "ID             NAME      X\n" + "a" * 12 + "   b         c\n"
    )
    assert (ellipsis("abcdef", 4), ellipsis("abc", 4), ellipsis("abc", 1)) == ("abc\u2026", "abc", "a")
