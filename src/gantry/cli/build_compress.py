"""A stream of bytes, gzip-compressed on the way."""

from __future__ import annotations

import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_GZIP = 31


def compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """`blocks` as one gzip member."""
    compressor = zlib.compressobj(level=6, wbits=_GZIP)
    for block in blocks:
        if data := compressor.compress(block):
            yield data
    yield compressor.flush()
