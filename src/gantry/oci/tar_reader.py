"""Reads tar streams: ustar, PAX and GNU (POSIX.1-2024 `pax`; GNU tar manual, "Basic Tar Format", "Sparse Formats").

Made for layers of many small files and for hostile input: one buffer, headers bounded, nothing kept per entry.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from gantry.errors import InvalidArgument

BLOCK: Final = 512
HEADER_LIMIT: Final = 1 << 20  # bytes of one extended header: names, attributes, sparse map
CHUNK: Final = 1 << 20

FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = "0", "1", "2", "3", "4", "5", "6"
XATTR_PREFIX: Final = "SCHILY.xattr."

_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_ZERO = bytes(BLOCK)
_EXTENDED = frozenset("xgLKXNVD")
_PLAIN_FILE = frozenset("\0" + "07S")


class Entry:
    """One archive member. `size` is that of the file, `mtime` nanoseconds since the epoch; names are undecoded-safe.

    `sparse` lists the (offset, length) pieces that the archive holds, None for a file without holes.
    """

    __slots__ = ("gid", "link", "major", "minor", "mode", "mtime", "name", "size", "sparse", "type", "uid", "xattrs")

    def __init__(self) -> None:
        self.name = ""
        self.link = ""
        self.type = FILE
        self.mode = self.uid = self.gid = self.size = self.mtime = self.major = self.minor = 0
        self.xattrs: dict[str, bytes] | None = None
        self.sparse: list[tuple[int, int]] | None = None


class TarReader:
    """Iterates over the entries of an uncompressed tar; `chunks`, `read` and `copy` give the current one's data.

    Raises InvalidArgument with Go's words: "archive/tar: invalid tar header", "unexpected EOF".
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._data = memoryview(b"")
        self._at = 0
        self._left = 0  # stored bytes of the current entry that were not taken yet
        self._padding = 0
        self._entry: Entry | None = None

    # ------------------------------------------------------------------------------------ data

    def chunks(self) -> Iterator[memoryview]:
        """The current entry's stored bytes in pieces; each piece is valid until the next is asked for."""
        while self._left:
            if self._at == len(self._data):
                self._refill()
            piece = self._data[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            yield piece

    def read(self, limit: int) -> bytes:
        """The whole current entry; raises InvalidArgument where it has more than `limit` bytes."""
        if self._left > limit:
            raise InvalidArgument(f"archive entry of {self._left} bytes: at most {limit} are accepted")
        return b"".join(self.chunks())

    def copy(self, descriptor: int) -> None:
        """Write the current entry's data into an empty file, with its holes."""
        entry = self._entry
        if entry is not None and entry.sparse is not None:
            self._copy_sparse(descriptor, entry.sparse, entry.size)
            return
        for piece in self.chunks():
            written = os.write(descriptor, piece)
            while written < len(piece):
                written += os.write(descriptor, piece[written:])

    def _copy_sparse(self, descriptor: int, pieces: list[tuple[int, int]], size: int) -> None:
        os.ftruncate(descriptor, size)
        for offset, length in pieces:
            while length:
                if not self._left:
                    raise _invalid()
                if self._at == len(self._data):
                    self._refill()
                piece = self._data[self._at : self._at + min(self._left, length)]
                written = os.pwrite(descriptor, piece, offset)
                self._at += written
                self._left -= written
                offset += written
                length -= written

    def drain(self) -> None:
        """Read the stream to its end: what follows the archive belongs to its digest."""
        while self._stream.read(CHUNK):
            pass
        self._data, self._at, self._left, self._padding = memoryview(b""), 0, 0, 0

    # ------------------------------------------------------------------------------------ buffer

    def _refill(self) -> None:
        data = self._stream.read(CHUNK)
        if not data:
            raise InvalidArgument("unexpected EOF")
        self._data, self._at = memoryview(data), 0

    def _skip(self) -> None:
        left = self._left + self._padding
        while left:
            if self._at == len(self._data):
                self._refill()
            step = min(left, len(self._data) - self._at)
            self._at += step
            left -= step
        self._left = self._padding = 0

    def _block(self) -> bytes:
        """The next 512 bytes, b"" at the end of the stream."""
        end = self._at + BLOCK
        if end <= len(self._data):
            block = bytes(self._data[self._at : end])
            self._at = end
            return block
        block = bytes(self._data[self._at :])
        while len(block) < BLOCK:
            data = self._stream.read(CHUNK)
            if not data:
                if block:
                    raise InvalidArgument("unexpected EOF")
                self._data, self._at = memoryview(b""), 0
                return b""
            taken = BLOCK - len(block)
            block += data[:taken]
            self._data, self._at = memoryview(data), min(taken, len(data))
        return block

    def _stored(self, size: int) -> bytes:
        """An extended header's content."""
        if size > HEADER_LIMIT:
            raise InvalidArgument(f"archive/tar: header field too long: {size} bytes")
        self._left, self._padding = size, -size % BLOCK
        data = b"".join(self.chunks())
        self._skip()
        return data

    # ------------------------------------------------------------------------------------ headers

    def __iter__(self) -> Iterator[Entry]:
        while True:
            self._skip()
            entry = self._next()
            if entry is None:
                return
            yield entry

    def _next(self) -> Entry | None:
        pax: dict[str, bytes] = {}
        long_name = long_link = None
        extended = 0
        while True:
            block = self._block()
            if not block or block == _ZERO:
                if extended:
                    raise InvalidArgument("unexpected EOF")
                if block and (second := self._block()) and second != _ZERO:
                    raise _invalid()
                return None
            entry, stored = _parse(block)
            if entry.type not in _EXTENDED:
                break
            extended += 1
            if extended > 16:
                raise _invalid()
            data = self._stored(stored)
            if entry.type in "xX":
                pax.update(_pax_records(data))
            elif entry.type == "L":
                long_name = _text(data)
            elif entry.type == "K":
                long_link = _text(data)
        if long_name is not None:
            entry.name = long_name
        if long_link is not None:
            entry.link = long_link
        if pax:
            stored = _apply_pax(entry, pax, stored)
        if entry.type in _PLAIN_FILE:
            pieces = self._old_sparse(block) if entry.type == "S" else None
            entry.type = DIRECTORY if entry.name.endswith("/") and entry.type in "\0" + "0" else FILE
            entry.size = stored
            self._left = stored
            self._padding = -stored % BLOCK
            if pieces is not None:
                entry.sparse = pieces
                entry.size = _number(block[483:495])
            elif pax:
                self._pax_sparse(entry, pax)
            if entry.sparse is not None:
                _check_sparse(entry, self._left)
            if entry.type == DIRECTORY:
                entry.size = 0
        else:
            # Go reads no data behind links, directories and devices, whatever size their header claims.
            entry.size = self._left = self._padding = 0
        self._entry = entry
        return entry

    def _old_sparse(self, block: bytes) -> list[tuple[int, int]]:
        """The GNU 'S' map: four pieces in the header, 21 in each block that follows."""
        pieces = _pieces(block[386:482])
        more = block[482]
        while more:
            block = self._block()
            if len(block) < BLOCK or len(pieces) * 24 > HEADER_LIMIT:
                raise _invalid()
            pieces += _pieces(block[:504])
            more = block[504]
        return pieces

    def _pax_sparse(self, entry: Entry, pax: dict[str, bytes]) -> None:
        if pax.get("GNU.sparse.major") == b"1" and pax.get("GNU.sparse.minor") == b"0":
            numbers = self._sparse_numbers()
        elif "GNU.sparse.map" in pax:
            text = pax["GNU.sparse.map"]
            numbers = [_decimal(part) for part in text.split(b",")] if text else []
        else:
            return
        if len(numbers) % 2:
            raise _invalid()
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
        if (name := pax.get("GNU.sparse.name", b"")) != b"":
            entry.name = _text(name)
        real = pax.get("GNU.sparse.realsize", pax.get("GNU.sparse.size"))
        if real is None:
            raise _invalid()
        entry.size = _decimal(real)

    def _sparse_numbers(self) -> list[int]:
        """The map of format 1.0: decimal lines before the data, filled up to whole blocks."""
        text, read, wanted = b"", 0, -1
        while wanted < 0 or text.count(b"\n") < wanted:
            if self._left < BLOCK or read >= HEADER_LIMIT:
                raise _invalid()
            block = self._block()
            self._left -= BLOCK
            read += BLOCK
            text += block
            if wanted < 0 and b"\n" in text:
                wanted = 1 + 2 * _decimal(text.partition(b"\n")[0])
        return [_decimal(line) for line in text.split(b"\n")[1:wanted]]


def _invalid() -> InvalidArgument:
    return InvalidArgument("archive/tar: invalid tar header")


def _text(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])


def _number(field: bytes) -> int:
    """An octal field, or GNU's big-endian binary one."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = len(field) * 8
        return value - (1 << bits) if field[0] & 0x40 else value & ~(1 << (bits - 1))
    digits = field.strip(b" \0")
    if not digits:
        return 0
    try:
        return int(digits.partition(b"\0")[0], 8)
    except ValueError:
        raise _invalid() from None


def _decimal(text: bytes) -> int:
    if not (text.isdigit() and len(text) < 20):
        raise _invalid()
    return int(text)


def _parse(block: bytes) -> tuple[Entry, int]:
    (
        name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _uname, _gname, major, minor, prefix,
    ) = _HEADER.unpack(block)  # fmt: skip
    given = _number(checksum)
    if sum(block) - sum(checksum) + 256 != given:
        signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
        if signed != given:
            raise _invalid()
    entry = Entry()
    entry.name = os.fsdecode(name.partition(b"\0")[0])
    if magic[:6] == b"ustar\0" and prefix[0]:
        entry.name = f"{_text(prefix)}/{entry.name}"
    if link[0]:
        entry.link = _text(link)
    entry.type = kind.decode("latin-1")
    entry.mode = _number(mode) & 0o7777
    entry.uid = _number(uid)
    entry.gid = _number(gid)
    entry.mtime = _number(mtime) * 1_000_000_000
    if entry.type in "34":
        entry.major = _number(major)
        entry.minor = _number(minor)
    stored = _number(size)
    if stored < 0 or entry.uid < 0 or entry.gid < 0:
        raise _invalid()
    return entry, stored


def _pax_records(data: bytes) -> dict[str, bytes]:
    """`length key=value\\n`, repeated; values are raw bytes."""
    records: dict[str, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        if space < 0:
            raise _invalid()
        end = at + _decimal(data[at:space])
        if end > len(data) or end <= space + 1 or data[end - 1] != 0x0A:
            raise _invalid()
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise _invalid()
        name = os.fsdecode(key)
        if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            sparse.append(value)  # format 0.0 repeats its keys
        else:
            if b"\0" in value and name in ("path", "linkpath", "uname", "gname"):
                raise _invalid()
            records[name] = value
        at = end
    if sparse:
        records["GNU.sparse.map"] = b",".join(sparse)
    return records


def _apply_pax(entry: Entry, pax: dict[str, bytes], stored: int) -> int:
    """Let the extended header's values take the place of the plain ones; returns the stored size."""
    for key, value in pax.items():
        if key == "path":
            entry.name = os.fsdecode(value) if value else entry.name
        elif key == "linkpath":
            entry.link = os.fsdecode(value)
        elif key == "size":
            stored = _decimal(value)
        elif key == "uid":
            entry.uid = _decimal(value)
        elif key == "gid":
            entry.gid = _decimal(value)
        elif key == "mtime":
            entry.mtime = _moment(value)
        elif key.startswith(XATTR_PREFIX):
            if entry.xattrs is None:
                entry.xattrs = {}
            entry.xattrs[key[len(XATTR_PREFIX) :]] = value
    return stored


def _moment(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole.lstrip(b"-") or b"0"
    nanoseconds = _decimal(digits) * 1_000_000_000 + (_decimal((fraction + b"0" * 9)[:9]) if fraction else 0)
    return -nanoseconds if negative else nanoseconds


def _pieces(field: bytes) -> list[tuple[int, int]]:
    found = []
    for at in range(0, len(field) - 23, 24):
        if field[at] == 0:
            break
        found.append((_number(field[at : at + 12]), _number(field[at + 12 : at + 24])))
    return found


def _check_sparse(entry: Entry, stored: int) -> None:
    """Pieces in order, inside the file, and as many bytes as are stored."""
    at = total = 0
    for offset, length in entry.sparse or ():
        if offset < at or length < 0 or offset + length > entry.size:
            raise _invalid()
        at = offset + length
        total += length
    if total > stored or entry.size >= 1 << 63:
        raise _invalid()
