"""What the runtime room is told: a container or an exec, with everything resolved. It knows no images."""

import msgspec

from gantry.model.container import HostConfig, MountPoint


class Mount(msgspec.Struct, frozen=True):
    """One mount(2): `options` as in fstab, flags and data mixed ("ro", "lowerdir=…")."""

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()


class ProcessSpec(msgspec.Struct, frozen=True):
    """A process in a container.

    `user` is Docker's `user[:group]` in names or numbers, resolved against the container's own
    /etc/passwd and /etc/group. `console_size` is (height, width) or None.
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    privileged: bool = False
    console_size: tuple[int, int] | None = None


class TaskSpec(msgspec.Struct, frozen=True):
    """One container's process and surroundings.

    `rootfs` are the mounts that make the root file system. `mounts` are the user's and volumes'.
    `netns` is a namespace path, "" for the host's; `join_pid`, `join_ipc`, `join_uts` are a process id
    whose namespace is shared, -1 for the host's, 0 for a new one. `log_path` is where conmon writes.
    With `own_mounts`, `mounts` are the daemon's own files, whose ids are meant as the container's.
    `ca_bundle` is a host file lent to the container by read-only mount, "" for none.
    """

    id: str
    name: str
    process: ProcessSpec
    rootfs: tuple[Mount, ...]
    hostname: str
    domainname: str
    host_config: HostConfig
    mounts: tuple[MountPoint, ...] = ()
    images: dict[str, tuple[Mount, ...]] = {}
    netns: str = ""
    hosts_file: str = ""
    hostname_file: str = ""
    resolv_conf_file: str = ""
    log_path: str = ""
    join_pid: int = 0
    join_ipc: int = 0
    join_uts: int = 0
    init: bool = False
    stop_signal: int = 15
    runtime: str = ""
    annotations: dict[str, str] = {}
    readonly_rootfs: bool = False
    ca_bundle: str = ""
    stdin_once: bool = False
    own_mounts: bool = False


class ExecSpec(msgspec.Struct, frozen=True):
    """A further process in a running container.

    Unless it is `detached`, its streams are connected before it starts and held for the first `attach`:
    no output is lost, and the process waits when nobody reads.
    """

    container_id: str
    exec_id: str
    process: ProcessSpec
    detached: bool = False


class ExitStatus(msgspec.Struct, frozen=True):
    """How a process ended; `at` is nanoseconds since the epoch; signals are 128+n."""

    code: int
    at: int
    oom_killed: bool = False


class TaskState(msgspec.Struct, frozen=True):
    """What is true of a task right now: `phase` is created, running, paused or stopped."""

    phase: str
    pid: int
    exit: ExitStatus | None = None
