"""The flags that `run` and `create` share. Their values become a create request in `create_request`."""

from __future__ import annotations

import sys

from gantry.cli.flags import boolean, integer, string, strings, unsigned, value
from gantry.cli.opts import duration, env_flags, label, size, swap_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gantry.cli.flags import Flag


def _lazy(module: str, name: str) -> Callable[[str], Any]:
    """A converter whose module is imported when its flag is given."""

    def convert(text: str) -> Any:
        full = "gantry.cli." + module
        __import__(full)
        return getattr(sys.modules[full], name)(text)

    return convert


def _resource(name: str) -> Callable[[str], Any]:
    return _lazy("opts_resources", name)


def _attach(text: str) -> str:
    if text.lower() in ("stdin", "stdout", "stderr"):
        return text.lower()
    raise ValueError("valid streams are STDIN, STDOUT and STDERR")


def _address(text: str) -> str:
    from gantry.cli.opts_ports import is_address

    if not is_address(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def extra_host(text: str) -> str:
    """`name:address` or `name=address`; the address may be in brackets, or "host-gateway"."""
    mark = "=" if "=" in text else ":"
    name, found, address = text.partition(mark)
    if not found or not name or not address:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway":
        from gantry.cli.opts_ports import is_address

        if not is_address(address):
            raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def _search_domain(text: str) -> str:
    domain = text.strip(" ")
    if domain == ".":
        return domain
    parts = domain.rstrip(".").split(".")
    if all(part and len(part) < 64 and part.replace("-", "a").replace("_", "a").isalnum() for part in parts):
        return domain
    raise ValueError(f"{text} is not a valid domain")


def _link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def _many(name: str, help: str, convert: Callable[[str], Any], metavar: str = "list", *, hidden: bool = False) -> Flag:  # noqa: A002
    """A repeatable flag of a type of its own."""
    return value(name, "", help, convert, metavar=metavar, default=[], repeats=True, hidden=hidden)


FLAGS = (
    strings("add-host", "", "Add a line to /etc/hosts (host:ip)", check=extra_host),
    strings("annotation", "", "Add an annotation to the container (passed on to the OCI runtime)", metavar="map"),
    strings("attach", "a", "Attach to STDIN, STDOUT or STDERR", check=_attach),
    unsigned("blkio-weight", "", "Block IO weight, 10 to 1000, 0 for none", bits=16, metavar="uint16"),
    _many("blkio-weight-device", "Block IO weight of a device", _resource("weight_device")),
    strings("cap-add", "", "Add Linux capabilities"),
    strings("cap-drop", "", "Drop Linux capabilities"),
    string("cgroup-parent", "", "Parent cgroup of the container"),
    string("cgroupns", "", "Cgroup namespace to use (host|private)"),
    string("cidfile", "", "Write the container ID to the file"),
    integer("cpu-count", "", "CPU count (Windows only)", hidden=True),
    integer("cpu-percent", "", "CPU percent (Windows only)", hidden=True),
    integer("cpu-period", "", "Period of the CPU's CFS scheduler, in microseconds"),
    integer("cpu-quota", "", "CPU time per period of the CFS scheduler, in microseconds"),
    integer("cpu-rt-period", "", "Period of the real-time scheduler, in microseconds"),
    integer("cpu-rt-runtime", "", "CPU time per period of the real-time scheduler, in microseconds"),
    integer("cpu-shares", "c", "CPU shares (relative weight)"),
    value("cpus", "", "Number of CPUs", _resource("cpus"), metavar="decimal", default=0),
    string("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
    string("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
    strings("device", "", "Add a host device to the container"),
    strings(
        "device-cgroup-rule",
        "",
        "Add a rule to the list of allowed devices",
        check=_resource("cgroup_rule"),
    ),
    _many("device-read-bps", "Limit reading from a device, in bytes per second", _resource("rate_bytes")),
    _many(
        "device-read-iops",
        "Limit reading from a device, in operations per second",
        _resource("rate_operations"),
    ),
    _many("device-write-bps", "Limit writing to a device, in bytes per second", _resource("rate_bytes")),
    _many(
        "device-write-iops",
        "Limit writing to a device, in operations per second",
        _resource("rate_operations"),
    ),
    boolean("disable-content-trust", "", "Skip image verification", default=True, hidden=True),
    strings("dns", "", "Set custom DNS servers", check=_address),
    strings("dns-opt", "", "Set DNS options", hidden=True),
    strings("dns-option", "", "Set DNS options"),
    strings("dns-search", "", "Set custom DNS search domains", check=_search_domain),
    string("domainname", "", "Container NIS domain name"),
    string("entrypoint", "", "Replace the image's entry point"),
    *env_flags(),
    strings("expose", "", "Expose a port or a range of ports"),
    _many(
        "gpus",
        "GPU devices to add to the container ('all' to pass all GPUs)",
        _resource("gpus"),
        "gpu-request",
    ),
    strings("group-add", "", "Add additional groups to join"),
    string("health-cmd", "", "Command to run to check health"),
    duration("health-interval", "", "Time between two checks (ms|s|m|h)"),
    string("health-on-failure", "", "What to do when it is unhealthy (none, restart, stop, kill)"),
    string("health-http", "", "URL to get as health check, in the container's network (http://[HOST]:PORT/PATH)"),
    integer("health-retries", "", "Consecutive failures needed to report unhealthy"),
    duration("health-start-interval", "", "Time between two checks during the start period (ms|s|m|h)"),
    duration("health-start-period", "", "Time for the container to start before failures count (ms|s|m|h)"),
    string("health-tcp", "", "Address to connect to as health check, in the container's network ([HOST]:PORT)"),
    duration("health-timeout", "", "Time that one check may take (ms|s|m|h)"),
    boolean("host-ca", "", "Trust the host's certificate authorities inside the container"),
    string("hostname", "h", "Container host name"),
    boolean("init", "", "Run an init inside the container that forwards signals and reaps processes"),
    boolean("interactive", "i", "Keep STDIN open even if not attached"),
    size("io-maxbandwidth", "", "Maximum IO bandwidth of the system drive (Windows only)", hidden=True),
    integer("io-maxiops", "", "Maximum IO operations of the system drive (Windows only)", hidden=True),
    string("ip", "", "IPv4 address (e.g., 172.30.100.104)"),
    string("ip6", "", "IPv6 address (e.g., 2001:db8::33)"),
    string("ipc", "", "IPC mode to use"),
    string("isolation", "", "Container isolation technology"),
    size("kernel-memory", "", "Kernel memory limit", hidden=True),
    strings("label", "l", "Set meta data on a container", check=label),
    strings("label-file", "", "Read in a line delimited file of labels"),
    strings("link", "", "Add link to another container", check=_link),
    strings("link-local-ip", "", "Container IPv4/IPv6 link-local addresses"),
    string("log-driver", "", "Logging driver for the container"),
    strings("log-opt", "", "Log driver options"),
    string("mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    size("memory", "m", "Memory limit"),
    size("memory-reservation", "", "Memory soft limit"),
    swap_size("memory-swap", "", "Limit of memory and swap together: '-1' for unlimited swap"),
    integer("memory-swappiness", "", "Tune container memory swappiness (0 to 100)", default=-1),
    _many("mount", "Attach a filesystem mount to the container", _lazy("opts_mounts", "mount"), "mount"),
    string("name", "", "Assign a name to the container"),
    value("net", "", "", _lazy("opts_network", "network"), metavar="network", default=[], repeats=True, hidden=True),
    strings("net-alias", "", "", hidden=True),
    _many("network", "Connect a container to a network", _lazy("opts_network", "network"), "network"),
    strings("network-alias", "", "Add network-scoped alias for the container"),
    boolean("no-healthcheck", "", "Disable the image's health check"),
    boolean("oom-kill-disable", "", "Disable OOM Killer"),
    integer("oom-score-adj", "", "Tune host's OOM preferences (-1000 to 1000)"),
    string("pid", "", "PID namespace to use"),
    integer("pids-limit", "", "Limit the number of processes (-1 for unlimited)"),
    string("platform", "", "Platform of the image, where it has several"),
    boolean("privileged", "", "Give extended privileges to this container"),
    strings("publish", "p", "Publish a container's port(s) to the host"),
    boolean("publish-all", "P", "Publish all exposed ports to random ports"),
    string("pull", "", 'Pull image before creating ("always", "missing", "never")', default="missing"),
    boolean("quiet", "q", "Suppress the pull output"),
    boolean("read-only", "", "Mount the container's root filesystem as read only"),
    string("restart", "", "Restart policy to apply when a container exits", default="no"),
    boolean("rm", "", "Remove the container and its anonymous volumes when it exits"),
    string("runtime", "", "Runtime to use for this container"),
    strings("security-opt", "", "Security Options"),
    size("shm-size", "", "Size of /dev/shm"),
    string("stop-signal", "", "Signal to stop the container"),
    integer("stop-timeout", "", "Timeout (in seconds) to stop a container"),
    strings("storage-opt", "", "Storage driver options for the container"),
    strings("sysctl", "", "Sysctl options", check=_resource("sysctl"), metavar="map"),
    strings("tmpfs", "", "Mount a tmpfs directory"),
    boolean("tty", "t", "Allocate a pseudo-TTY"),
    value("ulimit", "", "Ulimit options", _resource("ulimit"), metavar="ulimit", default=[], repeats=True),
    boolean("use-api-socket", "", "Bind mount the API socket and the registry credentials"),
    string("user", "u", "Username or UID (format: <name|uid>[:<group|gid>])"),
    string("userns", "", "User namespace to use"),
    string("uts", "", "UTS namespace to use"),
    strings("volume", "v", "Bind mount a volume"),
    string("volume-driver", "", "Optional volume driver for the container"),
    strings("volumes-from", "", "Mount volumes from the specified container(s)"),
    string("workdir", "w", "Working directory inside the container"),
)
