"""What Docker and OCI spell as Go does: field names (`cpu_shares` <-> `CpuShares`) and durations."""

from collections.abc import Callable

_IRREGULAR = {
    "id": "ID",
    "ipam": "IPAM",
    "uts": "UTS",
    "io": "IO",
    "iops": "IOps",
    "os": "Os",
    "dns_names": "DNSNames",
    "on_build": "OnBuild",
    "container_id_file": "ContainerIDFile",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "network_id": "NetworkID",
    "endpoint_id": "EndpointID",
    "ip_address": "IPAddress",
    "ip_prefix_len": "IPPrefixLen",
    "ipv6_gateway": "IPv6Gateway",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs",
    "link_local_ipv6_address": "LinkLocalIPv6Address",
    "enable_ipv4": "EnableIPv4",
    "enable_ipv6": "EnableIPv6",
    "ip_range": "IPRange",
    "ipam_config": "IPAMConfig",
    "oom_killed": "OOMKilled",
}


def go_name(name: str) -> str:
    """The Go field name of one attribute."""
    if known := _IRREGULAR.get(name):
        return known
    return "".join(_IRREGULAR.get(word, word.capitalize()) for word in name.split("_"))


def go_names(**special: str) -> Callable[[str], str]:
    """A rename function for `msgspec.Struct` with exceptions of its own: `go_names(id="Id")`."""
    return lambda name: special.get(name) or go_name(name)


def go_duration(nanoseconds: int) -> str:
    """Go's `time.Duration` as text."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return f"{_trim(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_trim(rest, 1_000_000_000)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _trim(value: int, size: int) -> str:
    whole, part = divmod(value, size)
    digits = f"{part:0{len(str(size)) - 1}d}".rstrip("0") if size > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)
