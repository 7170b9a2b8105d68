"""Decompression by magic number."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.oci.compression import detect, open_compressed
from gantry.oci.zstandard import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("kind", COMPRESS)
@settings(max_examples=15, deadline=None)
@given(data=st.binary(max_size=5000), step=st.integers(1, 700))
def test_round_trip(kind: str, data: bytes, step: int) -> None:
    assume(kind != "plain" or not detect(data))
    stream = open_compressed(io.BytesIO(COMPRESS[kind](data)))
    assert b"".join(iter(lambda: stream.read(step), b"")) == data
    assert open_compressed(io.BytesIO(COMPRESS[kind](data))).read() == data


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_several_streams_one_after_the_other_and_garbage_at_the_end(kind: str) -> None:
    data = COMPRESS[kind](b"one") + COMPRESS[kind](b"two") + b"garbage garbage"
    assert open_compressed(io.BytesIO(data)).read() == b"onetwo"


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_cut_and_corrupt(kind: str) -> None:
    data = bytearray(COMPRESS[kind](bytes(range(256)) * 500))
    with pytest.raises(InvalidArgument, match="unexpected EOF"):
        open_compressed(io.BytesIO(bytes(data[: len(data) // 2]))).read()
    for at in range(20, len(data), max(1, len(data) // 30)):
        data[at] ^= 0xFF
    with pytest.raises(InvalidArgument):
        open_compressed(io.BytesIO(bytes(data))).read()


def test_a_bomb_comes_in_small_pieces() -> None:
    stream = open_compressed(io.BytesIO(gzip.compress(bytes(50_000_000))))
    assert len(stream.read(1000)) <= 1000
