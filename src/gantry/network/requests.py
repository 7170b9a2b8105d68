"""What may be asked of a network or an endpoint: Docker's checks, with its messages."""

import ipaddress
import re

from gantry.errors import Forbidden, Internal, InvalidArgument, NotFound
from gantry.model.network import EndpointSettings, IPAMPool
from gantry.network import options
from gantry.network.records import ISOLATED, NAT, NetworkRecord
from gantry.network.settings import INTERFACE_NAME, cidr
from gantry.ports import NetworkRequest

BRIDGE, MACVLAN, IPVLAN = "bridge", "macvlan", "ipvlan"
PARENT, MACVLAN_MODE, IPVLAN_MODE, IPVLAN_FLAG = "parent", "macvlan_mode", "ipvlan_mode", "ipvlan_flag"

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}")
_LINK_MODES = {
    MACVLAN: (MACVLAN_MODE, ("bridge", "private", "vepa", "passthru")),
    IPVLAN: (IPVLAN_MODE, ("l2", "l3", "l3s")),
}
_LINK_FLAGS = ("bridge", "private", "vepa")
_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm'
    " and try again."
)
_NOT_CONFIGURED = "user specified IP address is supported only when connecting to networks with user configured subnets"


def check_network(request: NetworkRequest) -> None:
    """Raises the error that Docker gives for a request that no state of the host could make right."""
    if not request.name or request.name.isspace():
        raise InvalidArgument("invalid name: name is empty")
    if request.name in ("bridge", "host", "none", "default"):
        raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
    if request.driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
    if request.driver == "overlay":
        raise Forbidden(_SWARM)
    if request.driver not in (BRIDGE, MACVLAN, IPVLAN):
        raise NotFound(f'plugin "{request.driver}" not found')
    if request.ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{request.ipam.driver}" not found')
    ipv4, ipv6 = options.families(request.options, request.enable_ipv4, request.enable_ipv6)
    if not ipv4 and not ipv6:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")
    problems = [problem for pool in request.ipam.config or [] for problem in _pool_problems(pool)]
    if problems:
        raise InvalidArgument("invalid network config:\n" + "\n".join(problems))
    if request.driver == BRIDGE:
        _check_bridge(request)
    else:
        _check_link(request)


def _check_bridge(request: NetworkRequest) -> None:
    versions = [ipaddress.ip_network(pool.subnet).version for pool in request.ipam.config or []]
    if len(set(versions)) != len(versions):
        raise Forbidden("bridge driver doesn't support multiple subnets")
    given = request.options
    options.mtu(given)
    for name in (options.ICC, options.MASQUERADE, options.INHIBIT_IPV4):
        options.flag(given, name, True)
    for name in (options.HOST_BINDING, *options.SOURCES.values()):
        options.address(given, name)
    for version in (4, 6):
        if options.gateway_mode(given, version) == ISOLATED and not request.internal:
            raise InvalidArgument("gateway mode 'isolated' can only be used for an internal network")
    for name, what in ((options.BRIDGE_NAME, "bridge name"), (options.IFACE_PREFIX, "interface prefix")):
        if (text := given.get(name, "")) and not INTERFACE_NAME.fullmatch(text):
            raise InvalidArgument(f'invalid {what} "{text}": at most 15 letters, digits, "_", "." and "-"')
    for each in trusted_interfaces(given):
        if not INTERFACE_NAME.fullmatch(each):
            raise InvalidArgument(f'invalid host interface "{each}" in {options.TRUSTED}')


def trusted_interfaces(given: dict[str, str]) -> tuple[str, ...]:
    """The host interfaces of `trusted_host_interfaces`, which are separated by colons."""
    return tuple(each for each in given.get(options.TRUSTED, "").split(":") if each)


def _check_link(request: NetworkRequest) -> None:
    option, modes = _LINK_MODES[request.driver]
    mode = request.options.get(option, "")
    if mode and mode not in modes:
        raise Internal(
            f"requested {request.driver} mode '{mode}' is not valid, '{modes[0]}' mode is the {request.driver} "
            "driver default"
        )
    flag = request.options.get(IPVLAN_FLAG, "")
    if request.driver == IPVLAN and flag and flag not in _LINK_FLAGS:
        raise Internal(f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default")
    options.mtu(request.options)
    if mode == "passthru" and not request.options.get(PARENT):
        raise Internal("macvlan passthru mode needs a parent interface")


def vlan_of(parent: str) -> tuple[str, int] | None:
    """("eth0", 10) for the VLAN interface `eth0.10`, None for any other name; raises Internal for a bad number."""
    base, dot, number = parent.rpartition(".")
    if not dot or not base or not number.isdecimal():
        return None
    if not 1 <= int(number) <= 4094:
        raise Internal(f"vlan id must be between 1-4094, received: {int(number)}")
    return base, int(number)


def _pool_problems(pool: IPAMPool) -> list[str]:
    given = cidr(pool.subnet)
    if given is None:
        return [f"invalid subnet {pool.subnet}: invalid CIDR block notation"]
    subnet = given.network
    if given.ip != subnet.network_address:
        return [f"invalid subnet {pool.subnet}: it should be {subnet}"]
    problems = _range_problems(pool.ip_range, subnet) if pool.ip_range else []
    for what, name, text in (
        ("gateway", pool.gateway, pool.gateway),
        *(("auxiliary address", name, text) for name, text in (pool.auxiliary_addresses or {}).items()),
    ):
        if not text:
            continue
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            problems.append(f"invalid {what} {name}: invalid address")
            continue
        if address.version != subnet.version:
            problems.append(f"invalid {what} {name}: parent subnet is an IPv{subnet.version} block")
        elif address not in subnet:
            problems.append(f"invalid {what} {name}: parent subnet {subnet} doesn't contain this address")
    return problems


def _range_problems(text: str, subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    given = cidr(text)
    if given is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if given.version != subnet.version:
        return [f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"]
    if given.network.prefixlen < subnet.prefixlen:
        return [f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"]
    if given.ip != given.network.network_address:
        return [f"invalid ip-range {text}: it should be {given.network}"]
    if given.ip not in subnet:
        return [f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"]
    return []


def check_endpoint(settings: EndpointSettings, record: NetworkRecord) -> None:
    """Raises InvalidArgument for addresses and options that this network cannot give."""
    if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
        raise InvalidArgument(f"invalid MAC address {settings.mac_address}")
    options.sysctls(settings.driver_opts)
    options.bandwidth(settings.driver_opts)
    name = (settings.driver_opts or {}).get(options.IFNAME, "")
    if name and (not INTERFACE_NAME.fullmatch(name) or name == "lo"):
        raise InvalidArgument(f'invalid interface name "{name}" in {options.IFNAME}')
    check_addresses(settings, record)
    asked = settings.ipam_config
    for text in (asked.link_local_ips or ()) if asked is not None else ():
        if not ipaddress.ip_address(text).is_link_local:
            raise InvalidArgument(f"invalid link local IP address: {text}")


def check_addresses(settings: EndpointSettings, record: NetworkRecord) -> None:
    """Raises InvalidArgument for addresses that this network cannot give."""
    asked = settings.ipam_config
    problems: list[str] = []
    for version, text in ((4, asked.ipv4_address), (6, asked.ipv6_address)) if asked is not None else ():
        if not text:
            continue
        if record.network.predefined and _PREDEFINED_ADDRESS not in problems:
            problems.append(_PREDEFINED_ADDRESS)
        address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
        try:
            address = ipaddress.IPv4Address(text) if version == 4 else ipaddress.IPv6Address(text)
        except ValueError:
            problems.append(f"invalid IPv{version} address: {text}")
        blocks = record.blocks(version)
        if not any(each.configured for each in blocks):
            problems.append(_NOT_CONFIGURED)
        elif address is None or not any(address in each.network for each in blocks):
            problems.append(f"no configured subnet or ip-range contain the IP address {address or text}")
    further = (asked.link_local_ips or ()) if asked is not None else ()
    problems += [f"invalid link-local IP address: {each}" for each in further if not _is_address(each)]
    if problems:
        text = problems[0] if len(problems) == 1 else "\n".join(f"* {each}" for each in problems)
        raise InvalidArgument(f"invalid endpoint settings:\n{text}")


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


_PREDEFINED_ADDRESS = "user specified IP address is supported on user defined networks only"


def mode_of(request: NetworkRequest, version: int) -> str:
    return options.gateway_mode(request.options, version) if request.driver == BRIDGE else NAT
