"""Inode flags (ioctl_iflags(2))."""

import errno
import fcntl
import os
import struct
from pathlib import Path

_GET, _SET = 0x80086601, 0x40086602
_TOP_OF_HIERARCHY = 0x00020000
_ABSENT = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENOSYS})


def spread(directory: Path) -> bool:
    """Have ext4 treat each directory in this one as the top of a tree, and put it into a block group of its own.

    Without it, all trees are packed together, and a new file's inode is looked for among those that were just deleted:
    unpacking a layer of 9,500 files after another one was removed took 7 s, and with it 1.4 s. False where the file
    system knows nothing of the kind.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(opened, _GET, bytes(4)))
        if not flags & _TOP_OF_HIERARCHY:
            fcntl.ioctl(opened, _SET, struct.pack("i", flags | _TOP_OF_HIERARCHY))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return False
    finally:
        os.close(opened)
    return True
