"""The container: a frozen specification and a status that changes only by `transition()`.

`ContainerConfig` and `HostConfig` carry the field names of the Docker Engine API and of the OCI image
configuration when they are encoded; `null` in a request means the field's default.
"""

from enum import StrEnum
from typing import Any

import msgspec

from gantry.errors import Conflict
from gantry.model.golang import go_name, go_names
from gantry.model.network import EndpointSettings, PortBinding, Sandbox

Empty = dict[str, Any]  # Go's map[string]struct{}: the values carry nothing


class HealthConfig(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    """Durations are nanoseconds; 0 inherits.

    `test` is Docker's (NONE, CMD, CMD-SHELL), or ours without a process in the container: ["HTTP", URL], ["TCP",
    "[HOST]:PORT"]. `on_failure` is what is done with an unhealthy container: none (or ""), restart, stop, kill.
    """

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0
    on_failure: str = ""


class ContainerConfig(msgspec.Struct, frozen=True, rename=go_names(domainname="Domainname")):
    """What is portable between hosts (Engine API `ContainerConfig`)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Empty] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Empty] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class LogConfig(msgspec.Struct, frozen=True, rename=go_name):
    type: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(msgspec.Struct, frozen=True, rename=go_name):
    name: str = ""
    maximum_retry_count: int = 0


class Ulimit(msgspec.Struct, frozen=True, rename=go_name):
    name: str
    hard: int = 0
    soft: int = 0


class DeviceMapping(msgspec.Struct, frozen=True, rename=go_name):
    path_on_host: str
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(msgspec.Struct, frozen=True, rename=go_names(device_ids="DeviceIDs")):
    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = None
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class WeightDevice(msgspec.Struct, frozen=True, rename=go_name):
    path: str
    weight: int = 0


class ThrottleDevice(msgspec.Struct, frozen=True, rename=go_name):
    path: str
    rate: int = 0


class BindOptions(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriverConfig(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: VolumeDriverConfig | None = None


class ImageOptions(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    subpath: str = ""


class TmpfsOptions(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class MountRequest(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    """One `--mount` (Engine API `Mount`)."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class HostConfig(msgspec.Struct, frozen=True, rename=go_name):
    """What depends on the host (Engine API `HostConfig`). Memory in bytes, CPU times in microseconds."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] | None = None
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = msgspec.field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = msgspec.field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    init: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0
    mounts: list[MountRequest] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None


class Phase(StrEnum):
    """Docker's container states (`State.Status`)."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


_MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.CREATED: frozenset({Phase.RUNNING, Phase.REMOVING, Phase.CREATED, Phase.DEAD}),
    Phase.RUNNING: frozenset({Phase.PAUSED, Phase.EXITED, Phase.RESTARTING, Phase.RUNNING}),
    Phase.PAUSED: frozenset({Phase.RUNNING, Phase.EXITED, Phase.RESTARTING, Phase.PAUSED}),
    Phase.RESTARTING: frozenset({Phase.RUNNING, Phase.EXITED, Phase.REMOVING, Phase.RESTARTING}),
    Phase.EXITED: frozenset({Phase.RUNNING, Phase.REMOVING, Phase.RESTARTING, Phase.EXITED, Phase.DEAD}),
    Phase.REMOVING: frozenset({Phase.DEAD, Phase.REMOVING}),
    Phase.DEAD: frozenset({Phase.REMOVING, Phase.DEAD}),
}


class Status(msgspec.Struct, frozen=True):
    """What changes over a container's life. Times are nanoseconds since the epoch, 0 for never.

    `restart_asked` and `thaw` are intents of the daemon: a restart whose second half is still to come, and a pause
    that it made for a moment only. A new daemon finishes both.
    """

    phase: Phase = Phase.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    manually_stopped: bool = False
    restart_asked: bool = False
    thaw: bool = False
    health: dict[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Docker's `State.Running`: a paused or restarting container counts."""
        return self.phase in (Phase.RUNNING, Phase.PAUSED, Phase.RESTARTING)


class MountPoint(msgspec.Struct, frozen=True):
    """A resolved mount of a container: what `inspect` lists under `Mounts`.

    `source` is the host path ("" for tmpfs) or the image's name; `name` and `driver` are a volume's, `chain` is the
    snapshot of an image.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    read_write: bool = True
    propagation: str = ""
    options: tuple[str, ...] = ()
    subpath: str = ""
    no_copy: bool = False
    anonymous: bool = False
    chain: str = ""


class Container(msgspec.Struct, frozen=True):
    """One container as it is stored: specification, resolved facts, status.

    `sandbox` is there while the container runs in a network namespace of its own or in the host's.
    `image_manifest` is the OCI descriptor of the platform's manifest that it was made from; it outlives the image.
    """

    id: str
    name: str
    created_at: int
    image_id: str
    image_ref: str
    platform: str
    path: str
    args: tuple[str, ...]
    config: ContainerConfig
    host_config: HostConfig
    runtime: str
    driver: str
    networks: dict[str, EndpointSettings] = {}
    mounts: tuple[MountPoint, ...] = ()
    status: Status = Status()
    log_path: str = ""
    chain_id: str = ""
    sandbox: Sandbox | None = None
    image_manifest: dict[str, Any] | None = None

    def transition(self, phase: Phase, **changes: Any) -> "Container":
        """The container in its next phase; raises Conflict for a move that Docker does not have."""
        if phase not in _MOVES[self.status.phase]:
            raise Conflict(f"container {self.id[:12]} is {self.status.phase} and cannot become {phase}")
        return msgspec.structs.replace(self, status=msgspec.structs.replace(self.status, phase=phase, **changes))

    def noted(self, **changes: Any) -> "Container":
        """The container with other facts in its status, in the same phase."""
        return msgspec.structs.replace(self, status=msgspec.structs.replace(self.status, **changes))

    def replace(self, **changes: Any) -> "Container":
        return msgspec.structs.replace(self, **changes)
