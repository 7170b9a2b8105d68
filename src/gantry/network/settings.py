"""The network part of the daemon's configuration (`daemon.json` keys of the same names, frozen)."""

import hashlib
import ipaddress
import re

import msgspec

from gantry.errors import InvalidArgument

# Base network, prefix length of each subnet cut from it.
Pool = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int]

# Docker's order: 172.17 to 172.31 as whole /16s, then 192.168.0.0/16 cut into sixteen /20s.
DEFAULT_POOLS: tuple[Pool, ...] = (
    *((ipaddress.IPv4Network(f"172.{number}.0.0/16"), 16) for number in range(17, 32)),
    (ipaddress.IPv4Network("192.168.0.0/16"), 20),
)
# Where all of those are in use on the host: slices of 10.0.0.0/8, the last private block of RFC 1918.
LAST_RESORT: Pool = (ipaddress.IPv4Network("10.0.0.0/8"), 20)

INTERFACE_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}")  # narrower than the kernel: it goes into scripts

FALLBACK_NAMESERVERS = ("8.8.8.8", "8.8.4.4")  # Docker's, for hosts whose own servers are unreachable from a container


class NetworkSettings(msgspec.Struct, frozen=True):
    """`bridge` names an existing bridge to use, "none" for no default network, "" for one of our own.

    `bip` is the bridge's address with prefix, `fixed_cidr` narrows what containers get of its network. `mtu` 0
    takes the uplink's. `ipv6` gives the default network IPv6, too, with `bip6`, `fixed_cidr6` and
    `default_gateway6`. `userland_proxy` is accepted and has no effect: there is no proxy. `dns`, `dns_search`
    and `dns_options` are the daemon-wide defaults; `host_gateway_ip` is what `host-gateway` stands for.
    """

    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
    ipv6: bool = False
    bip6: str = ""
    fixed_cidr6: str = ""
    default_gateway6: str = ""
    ip6tables: bool = True
    default_address_pools: tuple[Pool, ...] = ()
    mtu: int = 0
    ip: str = "0.0.0.0"  # noqa: S104 - Docker's default address for published ports
    ip_forward: bool = True
    ip_masq: bool = True
    icc: bool = True
    iptables: bool = True
    userland_proxy: bool = True
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    host_gateway_ip: str = ""

    def pools(self, version: int, seed: str = "") -> tuple[Pool, ...]:
        """Where subnets of a family come from; those of IPv6 lie in a /48 of this host's own, made from `seed`."""
        own = tuple(pool for pool in self.default_address_pools if pool[0].version == version)
        if own:
            return own
        return (*DEFAULT_POOLS, LAST_RESORT) if version == 4 else (unique_local(seed),)

    def validate(self) -> None:
        """Raises InvalidArgument for values that cannot work together (checked once, before the daemon starts)."""
        if self.bridge and self.bip:
            raise InvalidArgument("you specified -b & --bip, mutually exclusive options. Please specify only one")
        if not self.iptables and not self.icc:
            raise InvalidArgument(
                "you specified --iptables=false with --icc=false, mutually exclusive options."
                " ICC=false uses iptables to function. Please set --icc or --iptables to true"
            )
        if self.bridge and not INTERFACE_NAME.fullmatch(self.bridge):
            raise InvalidArgument(f"invalid bridge name: {self.bridge}")
        for text, what, version in (
            (self.bip, "bip", 4),
            (self.fixed_cidr, "fixed-cidr", 4),
            (self.bip6, "bip6", 6),
            (self.fixed_cidr6, "fixed-cidr-v6", 6),
        ):
            if text:
                parse_interface(text, what, version)
        for text, what in (
            (self.ip, "ip"),
            (self.default_gateway, "default-gateway"),
            (self.default_gateway6, "default-gateway-v6"),
            (self.host_gateway_ip, "host-gateway-ip"),
        ):
            if text:
                try:
                    ipaddress.ip_address(text)
                except ValueError:
                    raise InvalidArgument(
                        f'invalid argument "{text}" for "{what}": ip address is not correctly formatted'
                    ) from None
        if self.mtu < 0 or 0 < self.mtu < 68 or self.mtu > 65535:
            raise InvalidArgument(f"invalid default MTU: {self.mtu}")


def cidr(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """An address with its prefix length, None for anything else."""
    try:
        return ipaddress.ip_interface(text) if "/" in text else None
    except ValueError:
        return None


def parse_interface(text: str, what: str, version: int = 4) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """An address of one family with its prefix; raises InvalidArgument."""
    found = cidr(text)
    if found is None or found.version != version:
        raise InvalidArgument(f"{what}: invalid CIDR address: {text}")
    return found


def parse_pool(base: str, size: int) -> Pool:
    """One entry of `default-address-pools`; raises InvalidArgument."""
    try:
        network = ipaddress.ip_network(base)
    except ValueError:
        raise InvalidArgument(f"invalid default address pool: base {base!r} is not an IP network") from None
    if not network.prefixlen <= size <= network.max_prefixlen - 2:
        raise InvalidArgument(f"invalid default address pool: {base} cannot be cut into subnets of size {size}")
    return network, size


def unique_local(seed: str) -> Pool:
    """A unique local /48 to cut /64s from: 40 bits that hardly any other host has (RFC 4193, section 3.2)."""
    prefix = b"\xfd" + hashlib.sha256(seed.encode()).digest()[:5]
    return ipaddress.IPv6Network((prefix.ljust(16, b"\0"), 48)), 64
