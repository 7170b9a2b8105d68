"""Paths that a runtime makes in a root file system for its mounts; they are no change of the container's.

An added entry at one of these paths is left out of `diff`, of commits and of build layers while it is an
empty file, an empty directory or the symbolic link that is named here.
"""

RUNTIME_STUBS: frozenset[str] = frozenset(
    {
        "/.dockerenv",
        "/dev",
        "/dev/console",
        "/dev/pts",
        "/dev/shm",  # noqa: S108
        "/etc/hostname",
        "/etc/hosts",
        "/etc/mtab",
        "/etc/resolv.conf",
        "/proc",
        "/sys",
    }
)
