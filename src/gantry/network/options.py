"""Driver options of networks and endpoints: their names and how their values are read (Docker's, and two of ours)."""

import ipaddress
import re

from gantry.errors import InvalidArgument
from gantry.network.records import GATEWAY_MODES, NAT, Bandwidth

PREFIX = "com.docker.network."
BRIDGE_NAME = PREFIX + "bridge.name"
ICC = PREFIX + "bridge.enable_icc"
MASQUERADE = PREFIX + "bridge.enable_ip_masquerade"
HOST_BINDING = PREFIX + "bridge.host_binding_ipv4"
DEFAULT_BRIDGE = PREFIX + "bridge.default_bridge"
INHIBIT_IPV4 = PREFIX + "bridge.inhibit_ipv4"
TRUSTED = PREFIX + "bridge.trusted_host_interfaces"
MODES = {4: PREFIX + "bridge.gateway_mode_ipv4", 6: PREFIX + "bridge.gateway_mode_ipv6"}
SOURCES = {4: PREFIX + "host_ipv4", 6: PREFIX + "host_ipv6"}
ENABLE = {4: PREFIX + "enable_ipv4", 6: PREFIX + "enable_ipv6"}
IFACE_PREFIX = PREFIX + "container_iface_prefix"
MTU = PREFIX + "driver.mtu"
# Of endpoints:
SYSCTLS = PREFIX + "endpoint.sysctls"
IFNAME = PREFIX + "endpoint.ifname"
BANDWIDTH_IN, BANDWIDTH_OUT = "io.gantry.bandwidth.in", "io.gantry.bandwidth.out"

_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)(bit|bps|b|)(?:/s|ps)?", re.IGNORECASE)
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.(?i:IFNAME)\.([a-z0-9_]+)=([^=,]+)")


def integer(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name, "")
    if not text:
        return default
    try:
        return int(text if text.isascii() and "_" not in text else "x")
    except ValueError:
        raise InvalidArgument(
            f'failed to parse {name} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)'
        ) from None


def mtu(options: dict[str, str]) -> int:
    """The MTU that was asked for, 0 for none; raises InvalidArgument for one that no interface can have."""
    value = integer(options, MTU, 0)
    if value < 0:
        raise InvalidArgument(f"invalid MTU number: {value}")
    if 0 < value < 68 or value > 65535:
        raise InvalidArgument(f"invalid MTU number: {value}: an interface takes 68 to 65535")
    return value


def flag(options: dict[str, str], name: str, default: bool) -> bool:
    """Go's strconv.ParseBool."""
    text = options.get(name, "")
    if not text:
        return default
    if (value := parse_bool(text)) is None:
        raise InvalidArgument(
            f'failed to parse {name} value: {text} (strconv.ParseBool: parsing "{text}": invalid syntax)'
        )
    return value


def parse_bool(text: str) -> bool | None:
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    return False if text in ("0", "f", "F", "FALSE", "false", "False") else None


def address(options: dict[str, str], name: str) -> str:
    """An address, "" for none; raises InvalidArgument."""
    text = options.get(name, "")
    if text:
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise InvalidArgument(f"failed to parse {name} value: {text} (nil ip)") from None
    return ""


def gateway_mode(options: dict[str, str], version: int) -> str:
    text = options.get(MODES[version], "") or NAT
    if text not in GATEWAY_MODES:
        raise InvalidArgument(f"failed to parse {MODES[version]} value: {text} (unknown gateway mode {text})")
    return text


def families(options: dict[str, str], ipv4: bool, ipv6: bool) -> tuple[bool, bool]:
    """Which families a network has: an option that names one overrides the request's field."""
    found = []
    for version, asked in ((4, ipv4), (6, ipv6)):
        value = parse_bool(text) if (text := options.get(ENABLE[version], "")) else asked
        if value is None:
            raise InvalidArgument(f'driver-opt "{ENABLE[version]}" is not a valid bool')
        found.append(value)
    return found[0], found[1]


def rate(text: str) -> int:
    """Bits per second of `10mbit`, `1.5gbit`, `800kbit` or `1mbps` (bytes; tc(8)); raises InvalidArgument."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f'invalid bandwidth "{text}": write a number and bit, kbit, mbit, gbit or kbps, mbps')
    number, scale, binary, unit = match.groups()
    factor = (1024 if binary else 1000) ** " kmgt".index(scale.lower() or " ")
    bits = float(number) * factor * (8 if unit.lower() == "bps" else 1)
    if not 8000 <= bits <= 1e13:
        raise InvalidArgument(f'invalid bandwidth "{text}": between 8kbit and 10tbit')
    return int(bits)


def bandwidth(options: dict[str, str] | None) -> Bandwidth:
    """The limits in an endpoint's options; raises InvalidArgument."""
    given = options or {}
    into, out = given.get(BANDWIDTH_IN, ""), given.get(BANDWIDTH_OUT, "")
    return Bandwidth(rate(into) if into and into != "0" else 0, rate(out) if out and out != "0" else 0)


def sysctls(options: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
    """`net.ipv4.conf.IFNAME.forwarding=1,…` as ("ipv4/conf/IFNAME/forwarding", "1"); raises InvalidArgument.

    Docker's command line turns the whole text to lower case: IFNAME, too.
    """
    text = (options or {}).get(SYSCTLS, "")
    found = []
    for each in text.split(",") if text else ():
        match = _SYSCTL.fullmatch(each.strip())
        if match is None:
            raise InvalidArgument(
                f"unrecognised network interface sysctl '{each}'; represent 'net.X.Y.ethN.Z=V' as"
                " 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
        family, group, name, value = match.groups()
        found.append((f"{family}/{group}/IFNAME/{name}", value))
    return tuple(found)
