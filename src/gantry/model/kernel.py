"""What the kernel of this host can limit; what it cannot is discarded with a warning, as Docker does."""

import msgspec


class KernelLimits(msgspec.Struct, frozen=True):
    """Each field says whether that kind of limit can be set on a container's control group.

    `unified` is version 2 of the control groups alone.
    """

    unified: bool = False
    memory: bool = True
    swap: bool = True
    memory_reservation: bool = True
    memory_swappiness: bool = True
    oom_kill_disable: bool = True
    pids: bool = True
    cpu_cfs: bool = True
    cpu_shares: bool = True
    cpuset: bool = True
    blkio_weight: bool = True
    blkio_weight_device: bool = True
    blkio_read_bps: bool = True
    blkio_write_bps: bool = True
    blkio_read_iops: bool = True
    blkio_write_iops: bool = True
