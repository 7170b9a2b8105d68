"""What may be asked of a network or an endpoint: Docker's checks, with its messages."""

import ipaddress
import re

from gantry.errors import Forbidden, InvalidArgument, NotFound, Unsupported
from gantry.model.network import EndpointSettings, IPAMPool
from gantry.network.records import NetworkRecord
from gantry.network.settings import INTERFACE_NAME, cidr
from gantry.ports import NetworkRequest

PREFIX = "com.docker.network."
BRIDGE_NAME = PREFIX + "bridge.name"
ICC = PREFIX + "bridge.enable_icc"
MASQUERADE = PREFIX + "bridge.enable_ip_masquerade"
HOST_BINDING = PREFIX + "bridge.host_binding_ipv4"
DEFAULT_BRIDGE = PREFIX + "bridge.default_bridge"
MTU = PREFIX + "driver.mtu"

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}")
_LATER = ("macvlan", "ipvlan", "overlay")


def check_network(request: NetworkRequest) -> None:
    """Raises the error that Docker gives for a request that no state of the host could make right."""
    if not request.name or request.name.isspace():
        raise InvalidArgument("invalid name: name is empty")
    if request.name in ("bridge", "host", "none", "default"):
        raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
    if request.driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
    if request.driver in _LATER:
        raise Unsupported(f'network driver "{request.driver}" is not supported')
    if request.driver != "bridge":
        raise NotFound(f'plugin "{request.driver}" not found')
    if request.ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{request.ipam.driver}" not found')
    if not request.enable_ipv4 and not request.enable_ipv6:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")
    if request.enable_ipv6 or not request.enable_ipv4:
        raise Unsupported("IPv6 networks are not supported")
    problems = [problem for pool in request.ipam.config or [] for problem in _pool_problems(pool)]
    if problems:
        raise InvalidArgument("invalid network config:\n" + "\n".join(problems))
    if len(request.ipam.config or []) > 1:
        raise Forbidden("bridge driver doesn't support multiple subnets")
    integer_option(request.options, MTU, 0)
    for name in (ICC, MASQUERADE):
        flag_option(request.options, name, True)
    if host_ip := request.options.get(HOST_BINDING):
        try:
            ipaddress.IPv4Address(host_ip)
        except ValueError:
            raise InvalidArgument(f"failed to parse {HOST_BINDING} value: {host_ip} (invalid ipv4 address)") from None
    bridge = request.options.get(BRIDGE_NAME, "")
    if bridge and not INTERFACE_NAME.fullmatch(bridge):
        raise InvalidArgument(f'invalid bridge name "{bridge}": at most 15 letters, digits, "_", "." and "-"')


def _pool_problems(pool: IPAMPool) -> list[str]:
    given = cidr(pool.subnet)
    if given is None:
        return [f"invalid subnet {pool.subnet}: invalid CIDR block notation"]
    subnet = given.network
    if given.ip != subnet.network_address:
        return [f"invalid subnet {pool.subnet}: it should be {subnet}"]
    if subnet.version == 6:
        return [f"invalid subnet {pool.subnet}: IPv6 networks are not supported"]
    problems = _range_problems(pool.ip_range, subnet) if pool.ip_range else []
    for what, address in (
        ("gateway", pool.gateway),
        *(("auxiliary address", each) for each in (pool.auxiliary_addresses or {}).values()),
    ):
        if not address:
            continue
        try:
            if ipaddress.ip_address(address) not in subnet:
                problems.append(f"invalid {what} {address}: parent subnet {subnet} doesn't contain this address")
        except ValueError:
            problems.append(f"invalid {what} {address}: invalid address")
    return problems


def _range_problems(text: str, subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    given = cidr(text)
    if given is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if given.version == subnet.version and given.network.prefixlen < subnet.prefixlen:
        return [f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"]
    if given.ip != given.network.network_address:
        return [f"invalid ip-range {text}: it should be {given.network}"]
    if given.ip not in subnet:
        return [f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"]
    return []


def check_endpoint(settings: EndpointSettings, record: NetworkRecord) -> None:
    """Raises InvalidArgument for addresses that this network cannot give."""
    if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
        raise InvalidArgument(f"invalid MAC address {settings.mac_address}")
    problems: list[str] = []
    asked = settings.ipam_config
    if asked is not None and asked.ipv4_address:
        try:
            address = ipaddress.IPv4Address(asked.ipv4_address)
        except ValueError:
            address = None
            problems.append(f"invalid IPv4 address: {asked.ipv4_address}")
        if record.network.predefined:
            problems.append("user specified IP address is supported on user defined networks only")
        if not record.configured:
            problems.append(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
        elif address is not None and address not in ipaddress.IPv4Network(record.subnet):
            problems.append(f"no configured subnet or ip-range contain the IP address {address}")
    if asked is not None and asked.ipv6_address:
        problems.append(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    if problems:
        text = problems[0] if len(problems) == 1 else "\n".join(f"* {each}" for each in problems)
        raise InvalidArgument(f"invalid endpoint settings:\n{text}")


def integer_option(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name, "")
    if not text:
        return default
    try:
        value = int(text) if text.isascii() else -1
    except ValueError:
        raise InvalidArgument(
            f'failed to parse {name} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)'
        ) from None
    if not 0 <= value <= 65535:
        raise InvalidArgument(f"failed to parse {name} value: {text} (value out of range)")
    return value


def flag_option(options: dict[str, str], name: str, default: bool) -> bool:
    """Go's strconv.ParseBool."""
    text = options.get(name, "")
    if not text:
        return default
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise InvalidArgument(f'failed to parse {name} value: {text} (strconv.ParseBool: parsing "{text}": invalid syntax)')
