"""Compressed streams, read by decompressors in this process: gzip, zstd, xz, bzip2, or plain."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO, Final, cast

from gantry.errors import InvalidArgument

_MAGIC: Final = ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))
_CHUNK = 256 << 10
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB, a hostile header may ask for 4 GiB


def detect(head: bytes) -> str:
    """The compression that `head` (six bytes or more) announces: gzip, zstd, xz, bzip2, or "" for none."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return ""


def open_compressed(stream: BinaryIO) -> BinaryIO:
    """The uncompressed bytes of `stream`, by its magic number; what is not compressed comes as it is.

    Reading raises InvalidArgument where the compressed data is corrupt or cut off.
    """
    head = b""
    while len(head) < 10:
        more = stream.read(10 - len(head))
        if not more:
            break
        head += more
    kind = detect(head)
    whole = Peeked(head, stream)
    return cast("BinaryIO", Decompressed(whole, kind) if kind else whole)


class Peeked(io.RawIOBase):
    """A stream whose first bytes were already read."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        data = self._head if size < 0 else self._head[:size]
        self._head = self._head[len(data) :]
        if size < 0:
            return data + self._rest.read()
        return data


class Decompressed(io.RawIOBase):
    """Decompresses one stream after the other, as the command line tools do; ignores garbage at the end."""

    def __init__(self, source: Peeked, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._make, self._errors = _decompressor(kind)
        self._current = self._make()
        self._ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, b"" at the end; everything where `size` is negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        while size and not self._ended:
            data = self._step(size)
            if data:
                return data
        return b""

    def _step(self, size: int) -> bytes:
        fed = b""
        if self._current.eof:
            left = self._current.unused_data or self._source.read(_CHUNK)
            left = left.lstrip(b"\0") if self._kind == "xz" else left
            while len(left) < 6 and (more := self._source.read(_CHUNK)):
                left += more
            if detect(left) != self._kind:
                self._ended = True
                return b""
            self._current = self._make()
            fed = left
        elif self._current.needs_input:
            fed = self._source.read(_CHUNK)
            if not fed:
                raise InvalidArgument("unexpected EOF")
        try:
            return cast("bytes", self._current.decompress(fed, size))
        except self._errors as error:
            raise InvalidArgument(f"{self._kind}: {' '.join(str(error).split()).lower()}") from error


def _decompressor(kind: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """A maker of objects with lzma.LZMADecompressor's interface, and the errors that these raise."""
    if kind == "gzip":
        from isal import igzip_lib

        corrupt = cast("type[Exception]", igzip_lib.IsalError)
        return (lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)), (corrupt, ValueError)
    if kind == "zstd":
        from gantry.oci.zstandard import zstd

        return zstd.ZstdDecompressor, (zstd.ZstdError,)
    if kind == "xz":
        import lzma

        return (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)), (lzma.LZMAError, MemoryError)
    import bz2

    return bz2.BZ2Decompressor, (OSError, ValueError)
