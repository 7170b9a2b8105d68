"""Detach keys and frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.engine.streams import KeyFilter, frame, parse_keys
from gantry.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"), [("ctrl-p,ctrl-q", b"\x10\x11"), ("a,b", b"ab"), ("ctrl-[", b"\x1b"), ("ctrl-@", b"\x00")]
)
def test_key_sequences(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-1", "abc", "a,,b"])
def test_bad_key_sequences(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid detach keys"):
        parse_keys(text)


def test_detaches_over_two_reads_and_passes_what_came_before() -> None:
    keys = KeyFilter(b"\x10\x11")
    assert keys.feed(b"ls\x10") == (b"ls", False)
    assert keys.feed(b"\x11rest") == (b"", True)


def test_what_only_began_like_the_sequence_is_passed_on() -> None:
    keys = KeyFilter(b"\x10\x11")
    assert keys.feed(b"\x10x") == (b"\x10x", False)
    assert keys.feed(b"\x10\x10\x11") == (b"\x10", True)


@given(st.lists(st.binary(max_size=8)))
def test_nothing_typed_is_lost_without_the_sequence(parts: list[bytes]) -> None:
    typed = b"".join(parts).replace(b"\x10", b"p")
    keys = KeyFilter(b"\x10\x11")
    passed = b"".join(keys.feed(typed[i : i + 3])[0] for i in range(0, len(typed), 3))
    assert passed == typed


def test_frame() -> None:
    assert frame(2, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"
