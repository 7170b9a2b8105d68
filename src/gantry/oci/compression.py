"""Compressed streams, read by decompressors in this process: gzip, zstd, xz, bzip2, or plain."""

import io
import zlib
from typing import BinaryIO, cast

from gantry.errors import InvalidArgument

GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
XZ = b"\xfd7zXZ\x00"
BZIP2 = b"BZh"

READ_ERRORS: tuple[type[Exception], ...] = (EOFError, zlib.error, OSError, ValueError)


class _Peeked(io.RawIOBase):
    """A stream whose first bytes were already read."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def detect(head: bytes) -> str:
    """The compression that `head` (ten bytes or more) announces: gzip, zstd, xz, bzip2, or "" for none."""
    for magic, name in ((GZIP, "gzip"), (ZSTD, "zstd"), (XZ, "xz"), (BZIP2, "bzip2")):
        if head.startswith(magic):
            return name
    return ""


def open_compressed(stream: BinaryIO) -> BinaryIO:
    """The uncompressed bytes of `stream`, by its magic number; what is not compressed comes as it is."""
    head = b""
    while len(head) < 10:
        more = stream.read(10 - len(head))
        if not more:
            break
        head += more
    whole = cast("BinaryIO", io.BufferedReader(_Peeked(head, stream), 1 << 20))
    kind = detect(head)
    if kind == "gzip":
        from isal import igzip

        return cast("BinaryIO", igzip.open(whole, "rb"))  # type: ignore[no-untyped-call]
    if kind == "zstd":
        return _open_zstd(whole)
    if kind == "xz":
        import lzma

        return cast("BinaryIO", lzma.open(whole, "rb"))
    if kind == "bzip2":
        import bz2

        return cast("BinaryIO", bz2.open(whole, "rb"))
    return whole


def _open_zstd(stream: BinaryIO) -> BinaryIO:
    try:
        from backports import zstd
    except ImportError:
        try:
            from compression import zstd  # type: ignore[import-not-found, no-redef]
        except ImportError as error:
            raise InvalidArgument("zstd is not available: install backports.zstd") from error
    return cast("BinaryIO", zstd.open(stream, "rb"))
