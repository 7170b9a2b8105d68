"""Writes tar streams: ustar headers, with PAX records for what does not fit (long names, large numbers, attributes)."""

import os
import stat
from collections.abc import Callable
from typing import BinaryIO, Final

from gantry.oci.tar_reader import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR,
    CHUNK,
    DIRECTORY,
    FIFO,
    FILE,
    LINK,
    SYMLINK,
    XATTR_PREFIX,
)  # fmt: skip

_RECORD: Final = 20 * BLOCK
_OCTAL_7, _OCTAL_11 = 0o7777777, 0o77777777777
_KINDS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK_DEVICE, stat.S_IFIFO: FIFO,
}  # fmt: skip


class TarWriter:
    """Entries go out in the order of the calls; `close` writes the end of the archive."""

    def __init__(self, out: BinaryIO, shift: Callable[[int, int], tuple[int, int]] | None = None) -> None:
        """`shift` makes the owner that `file` writes down of a file's own (uid, gid)."""
        self._out = out
        self._shift = shift
        self._parts: list[bytes] = []
        self._pending = 0
        self._links: dict[tuple[int, int], str] = {}
        self.size = 0

    def header(
        self,
        name: str,
        kind: str = FILE,
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime: int = 0,
        link: str = "",
        device: int = 0,
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        """One header; `mtime` in seconds. A regular file's `size` bytes and padding must follow (`data`)."""
        raw_name, raw_link = os.fsencode(name), os.fsencode(link)
        pax: list[tuple[bytes, bytes]] = []
        prefix = b""
        if len(raw_name) > 100:
            prefix, short = _split(raw_name)
            if not short:
                pax.append((b"path", raw_name))
                prefix, short = b"", raw_name[:100]
            raw_name = short
        if not raw_name.isascii() or not prefix.isascii():
            pax = [(b"path", os.fsencode(name))]
        if len(raw_link) > 100 or not raw_link.isascii():
            pax.append((b"linkpath", raw_link))
            raw_link = raw_link[:100]
        if uid > _OCTAL_7:
            pax.append((b"uid", b"%d" % uid))
        if gid > _OCTAL_7:
            pax.append((b"gid", b"%d" % gid))
        if size > _OCTAL_11:
            pax.append((b"size", b"%d" % size))
        if not 0 <= mtime <= _OCTAL_11:
            pax.append((b"mtime", b"%d" % mtime))
        for key, value in sorted((xattrs or {}).items()):
            pax.append((os.fsencode(XATTR_PREFIX + key), value))
        if pax:
            records = b"".join(_record(key, value) for key, value in pax)
            self._push(_block(b"PaxHeaders.0/" + raw_name[-80:], b"x", 0o644, 0, 0, len(records), 0, b"", 0, b""))
            self._push(records + bytes(-len(records) % BLOCK))
        self._push(
            _block(
                raw_name, kind.encode(), mode & 0o7777, uid if uid <= _OCTAL_7 else 0, gid if gid <= _OCTAL_7 else 0,
                size if size <= _OCTAL_11 else 0, mtime if 0 <= mtime <= _OCTAL_11 else 0, raw_link, device, prefix,
            )
        )  # fmt: skip

    def data(self, content: bytes) -> None:
        """A small file's whole content."""
        self._push(content + bytes(-len(content) % BLOCK))

    def raw(self, piece: bytes) -> None:
        """A piece of a larger file; `pad` follows the last."""
        self._push(piece)

    def pad(self, size: int) -> None:
        """Fill up the last block after `size` bytes."""
        self._push(bytes(-size % BLOCK))

    def stream(self, descriptor: int, size: int) -> None:
        """Exactly `size` bytes of an open file: zeros stand in for what a shrinking file has lost."""
        left = size
        while left:
            piece = os.read(descriptor, min(left, CHUNK))
            if not piece:
                piece = bytes(min(left, CHUNK))
            self._push(piece)
            left -= len(piece)
        self._push(bytes(-size % BLOCK))

    def file(self, parent: int, name: str, archive_name: str, *, owner: tuple[int, int] | None = None) -> None:
        """Add object `name` of open directory `parent` (not what is below it). Sockets are left out.

        The second name of a file becomes a hard link to the first.
        """
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        uid, gid = owner or (status.st_uid, status.st_gid)
        if self._shift is not None:
            uid, gid = self._shift(uid, gid)
        mtime = status.st_mtime_ns // 1_000_000_000
        mode = status.st_mode
        if kind == DIRECTORY:
            archive_name = archive_name.rstrip("/") + "/"
        if kind == SYMLINK:
            link = os.readlink(name, dir_fd=parent)
            self.header(archive_name, kind, mode=mode, uid=uid, gid=gid, mtime=mtime, link=link)
            return
        if kind not in (FILE, DIRECTORY):
            device = status.st_rdev if kind != FIFO else 0
            self.header(archive_name, kind, mode=mode, uid=uid, gid=gid, mtime=mtime, device=device)
            return
        if kind == FILE and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), archive_name)
            if first != archive_name:
                self.header(archive_name, LINK, mode=mode, uid=uid, gid=gid, mtime=mtime, link=first)
                return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if kind != FILE else 0)
        opened = os.open(name, flags, dir_fd=parent)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode) and kind == FILE:
                return  # it has become something else since
            size = status.st_size if kind == FILE else 0
            xattrs = portable_xattrs(opened)
            self.header(archive_name, kind, mode=mode, uid=uid, gid=gid, size=size, mtime=mtime, xattrs=xattrs)
            if size:
                self.stream(opened, size)
        finally:
            os.close(opened)

    def close(self) -> None:
        """Two empty blocks, filled up to a whole record as tar programs expect."""
        self._push(bytes(2 * BLOCK))
        self._push(bytes(-self.size % _RECORD))
        self._flush()

    def _push(self, data: bytes) -> None:
        self._parts.append(data)
        self._pending += len(data)
        self.size += len(data)
        if self._pending >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._pending = 0
            self._out.write(data)


def portable_xattrs(descriptor: int) -> dict[str, bytes] | None:
    """The extended attributes that travel in an image: file capabilities and `user.*`."""
    found: dict[str, bytes] = {}
    try:
        for name in os.listxattr(descriptor):
            if name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay.")):
                found[name] = os.getxattr(descriptor, name)
    except OSError:
        return None  # a file system without attributes
    return found or None


def _split(name: bytes) -> tuple[bytes, bytes]:
    """A long name as ustar's prefix and name; two empty strings where it does not fit."""
    at = name.rfind(b"/", 0, 156)
    while at > 0:
        if 0 < len(name) - at - 1 <= 100:
            return name[:at], name[at + 1 :]
        at = -1
    return b"", b""


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return b"%d" % length + body


def _block(
    name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes, device: int,
    prefix: bytes,
) -> bytes:  # fmt: skip
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    numbers = b"%07o\0%07o\0" % (os.major(device), os.minor(device)) if device else bytes(16)
    tail = kind + link.ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + numbers + prefix.ljust(167, b"\0")
    checksum = sum(head) + sum(tail) + 256
    return head + b"%06o\0 " % checksum + tail
