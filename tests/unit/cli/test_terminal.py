import os
import pty
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.cli.terminal import DEFAULT_DETACH_KEYS, EscapeProxy, RawMode, detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-a,x,ctrl-_", b"\x01x\x1f"), ("ctrl-@,ctrl-[", b"\x00\x1b")],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert detach_keys(text) == keys


@pytest.mark.parametrize("text", ["foo", "", "ctrl-", "ctrl-1", "a,,b", "\u00e9"])
def test_bad_detach_keys(text: str) -> None:
    with pytest.raises(ValueError, match="Unknown character"):
        detach_keys(text)


def test_escape_proxy_holds_back_a_beginning() -> None:
    proxy = EscapeProxy(DEFAULT_DETACH_KEYS)
    assert (proxy.feed(b"ab\x10"), proxy.feed(b"c\x10\x10"), proxy.feed(b"d")) == (b"ab", b"\x10c\x10", b"\x10d")
    assert not proxy.detached
    assert proxy.feed(b"x\x10") == b"x"
    assert proxy.feed(b"\x11more") == b""
    assert proxy.detached


@given(st.lists(st.binary(max_size=5)))
def test_nothing_typed_is_lost(blocks: list[bytes]) -> None:
    proxy = EscapeProxy(b"\x10\x11")
    typed = b"".join(blocks)
    passed = b"".join(proxy.feed(block) for block in blocks)
    if b"\x10\x11" not in typed:
        assert typed.startswith(passed)
        assert typed[len(passed) :] in (b"", b"\x10")


def test_raw_mode_ends_as_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    saved = os.dup(0)
    os.dup2(slave, 0)
    try:
        before = termios.tcgetattr(0)
        with RawMode(enabled=True):
            assert not termios.tcgetattr(0)[3] & (termios.ECHO | termios.ISIG | termios.ICANON)
        assert termios.tcgetattr(0) == before
    finally:
        os.dup2(saved, 0)
        for descriptor in (saved, master, slave):
            os.close(descriptor)
