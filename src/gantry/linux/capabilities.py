"""Capabilities by name (capabilities(7)), and those that this process may give away."""

from pathlib import Path

# In the kernel's order: the position is the number (include/uapi/linux/capability.h).
_ORDER = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES: tuple[str, ...] = tuple("CAP_" + name for name in _ORDER.split())


def last_capability() -> int:
    """The highest capability number that the running kernel knows."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))


def kernel_capabilities() -> tuple[str, ...]:
    """Every capability that the running kernel has and that has a name here."""
    return NAMES[: last_capability() + 1]


def names_of(mask: int) -> tuple[str, ...]:
    """The names of a capability bit mask, in the kernel's order."""
    return tuple(name for number, name in enumerate(NAMES) if mask >> number & 1)


def own_bounding_set() -> tuple[str, ...]:
    """What this process can hand to a container: its permitted set within its bounding set."""
    masks = dict.fromkeys(("CapPrm", "CapBnd"), 0)
    for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key in masks:
            masks[key] = int(value, 16)
    return names_of(masks["CapPrm"] & masks["CapBnd"])
