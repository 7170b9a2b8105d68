"""What may be asked of a container, and Docker's defaults for what was not asked; no other object is looked at."""

import ipaddress
import os
import posixpath
import re
from collections.abc import Collection

import msgspec

from gantry.engine.merge import parse_signal
from gantry.engine.probes import probe_target
from gantry.engine.resources import check_resources, resource_defaults
from gantry.errors import InvalidArgument
from gantry.model import log_options
from gantry.model.container import ContainerConfig, HealthConfig, HostConfig, LogConfig, RestartPolicy
from gantry.model.kernel import KernelLimits

SHM_SIZE = 64 << 20
_SHORTEST_HEALTH_TIME = 1_000_000  # nanoseconds
_PORT = re.compile(r"(\d{1,5})(?:/(\w*))?")
_HOST_PORTS = re.compile(r"\d{1,5}(?:-\d{1,5})?")
_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")
_CAPABILITIES = frozenset(
    """
    ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD
    NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN
    SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG
    WAKE_ALARM
    """.split()  # noqa: SIM905 - a list of quoted words cannot be read
)


def check_config(config: ContainerConfig) -> ContainerConfig:
    """Check the portable half and clean its paths; raises InvalidArgument."""
    for item in config.env or ():
        if not item.partition("=")[0]:
            raise InvalidArgument(f"invalid environment variable: {item}")
    if config.working_dir:
        if not config.working_dir.startswith("/"):
            raise InvalidArgument(
                f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
            )
        cleaned = "/" + posixpath.normpath(config.working_dir).lstrip("/")
        config = msgspec.structs.replace(config, working_dir=cleaned)
    parse_signal(config.stop_signal)
    if config.healthcheck is not None:
        _check_health(config)
    return config


def _check_health(config: ContainerConfig) -> None:
    health = config.healthcheck or HealthConfig()
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < _SHORTEST_HEALTH_TIME:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if health.on_failure not in ("", "none", "restart", "stop", "kill"):
        raise InvalidArgument(f"OnFailure in Healthcheck must be none, restart, stop or kill, not {health.on_failure}")
    probe_target(config)


def check_host(
    config: ContainerConfig, host: HostConfig, runtimes: Collection[str], kernel: KernelLimits
) -> tuple[HostConfig, list[str]]:
    """Check the host's half against itself, the portable half and the kernel; raises InvalidArgument.

    Returns it without what the kernel cannot do, and warnings.
    """
    host, warnings = check_resources(host, kernel)
    check_restart_policy(host.restart_policy)
    if host.auto_remove and host.restart_policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    for field, names in (("CapAdd", host.cap_add), ("CapDrop", host.cap_drop)):
        for name in names or ():
            if (plain := name.upper().removeprefix("CAP_")) not in _CAPABILITIES:
                raise InvalidArgument(f'invalid {field}: unknown capability: "CAP_{plain}"')
    for option in host.storage_opt or {}:
        if option.lower() != "size":
            raise InvalidArgument(f"Unknown option {option}")
        raise InvalidArgument("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    for entry in host.extra_hosts or ():
        _check_extra_host(entry)
    if "" in (host.annotations or {}):
        raise InvalidArgument("invalid Annotations: the empty string is not permitted as an annotation key")
    for port, bindings in (host.port_bindings or {}).items():
        _check_port(port)
        for binding in bindings or ():
            if binding.host_port and not _HOST_PORTS.fullmatch(binding.host_port):
                raise InvalidArgument(f'invalid port specification: "{binding.host_port}"')
            if any(int(number) > 65535 for number in binding.host_port.split("-") if number):
                raise InvalidArgument(f'invalid port specification: "{binding.host_port}"')
    _check_modes(config, host)
    _check_network_mode(config, host)
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation ({host.isolation}): linux only supports 'default'")
    if host.runtime and host.runtime not in runtimes:
        raise InvalidArgument(f"unknown or invalid runtime name: {host.runtime}")
    log_options.check(LogConfig(host.log_config.type or "json-file", host.log_config.config))
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    return host, warnings


def check_restart_policy(policy: RestartPolicy) -> None:
    """Raises InvalidArgument."""
    if policy.name not in _POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            + (" and cannot be negative" if policy.maximum_retry_count < 0 else "")
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")


def _check_port(text: str) -> None:
    found = _PORT.fullmatch(text)
    if not found or int(found[1]) > 65535:
        raise InvalidArgument(f'invalid port specification: "{text.partition("/")[0]}"')
    if found[2] and found[2].lower() not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"invalid proto: {found[2]}")


def _check_extra_host(entry: str) -> None:
    """`name:address` or `name=address`; `host-gateway` stands for the bridge's address."""
    name, separator, address = entry.partition("=" if "=" in entry else ":")
    if not separator or not name:
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    if address == "host-gateway":
        return
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None


def _joins(mode: str) -> bool:
    """Whether a mode is `container:NAME`."""
    return mode.startswith("container:") and len(mode) > len("container:")


def _check_modes(config: ContainerConfig, host: HostConfig) -> None:
    if host.pid_mode not in ("", "host") and not _joins(host.pid_mode):
        raise InvalidArgument(f"invalid PID mode: {host.pid_mode}")
    if host.ipc_mode not in ("", "none", "private", "host", "shareable") and not _joins(host.ipc_mode):
        raise InvalidArgument(f"invalid IPC mode: {host.ipc_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.userns_mode not in ("", "host"):
        raise InvalidArgument(f"invalid user mode: {host.userns_mode}")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")


def _check_network_mode(config: ContainerConfig, host: HostConfig) -> None:
    mode = host.network_mode
    no_links = "networking can't be used with links. This would result in undefined behavior"
    if mode == "host" and host.links:
        raise InvalidArgument(f"conflicting options: host type {no_links}")
    if not mode.startswith("container:"):
        return
    if not _joins(mode):
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    for clash, what in (
        (config.hostname, "hostname and the network mode"),
        (host.links, "container type network can't be used with links. This would result in undefined behavior"),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
        (config.exposed_ports, "port exposing and the container type network mode"),
    ):
        if clash:
            raise InvalidArgument(f"conflicting options: {what}")


def with_defaults(host: HostConfig, runtime: str, *, unified: bool = False) -> HostConfig:
    """Fill in what neither the request nor the daemon's configuration says.

    `runtime` is the default one, `unified` says that there is version 2 of the control groups alone.
    """
    host = resource_defaults(host)
    security = host.security_opt
    unlabelled = host.privileged or host.pid_mode == "host" or host.ipc_mode == "host"
    if unlabelled and not any(re.split("[=:]", option)[0] == "label" for option in security or ()):
        security = [*(security or ()), "label=disable"]
    return msgspec.structs.replace(
        host,
        network_mode="bridge" if host.network_mode in ("", "default") else host.network_mode,
        shm_size=host.shm_size or SHM_SIZE,
        ipc_mode=host.ipc_mode or "private",
        cgroupns_mode=host.cgroupns_mode or ("private" if unified else "host"),
        runtime=host.runtime or runtime,
        log_config=LogConfig(host.log_config.type or "json-file", host.log_config.config or {}),
        restart_policy=host.restart_policy if host.restart_policy.name else RestartPolicy("no"),
        security_opt=security,
        links=host.links or None,
        console_size=_console_size(host.console_size),
    )


def _console_size(size: list[int] | None) -> list[int]:
    """Two numbers, as Go's array of two takes them from a list of any length."""
    return [*(size or ()), 0, 0][:2]


def hostname_of(config: ContainerConfig, host: HostConfig, container_id: str) -> str:
    """The name that the container will have."""
    if config.hostname:
        return config.hostname
    return os.uname().nodename if host.network_mode == "host" or host.uts_mode == "host" else container_id[:12]
