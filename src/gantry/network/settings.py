"""The network part of the daemon's configuration (`daemon.json` keys of the same names, frozen)."""

import ipaddress
import re

import msgspec

from gantry.errors import InvalidArgument

Pool = tuple[ipaddress.IPv4Network, int]  # base network, prefix length of each subnet cut from it

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
    takes the uplink's. `userland_proxy` is accepted and has no effect: there is no proxy. `dns`, `dns_search`
    and `dns_options` are the daemon-wide defaults; `host_gateway_ip` is what `host-gateway` stands for.
    """

    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
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

    @property
    def pools(self) -> tuple[Pool, ...]:
        return self.default_address_pools or (*DEFAULT_POOLS, LAST_RESORT)

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
        for text, what in ((self.bip, "bip"), (self.fixed_cidr, "fixed-cidr")):
            if text:
                parse_interface(text, what)
        for text, what in (
            (self.ip, "ip"),
            (self.default_gateway, "default-gateway"),
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


def parse_interface(text: str, what: str) -> ipaddress.IPv4Interface:
    """An IPv4 address with its prefix; raises InvalidArgument."""
    found = cidr(text)
    if not isinstance(found, ipaddress.IPv4Interface):
        raise InvalidArgument(f"{what}: invalid CIDR address: {text}")
    return found


def parse_pool(base: str, size: int) -> Pool:
    """One entry of `default-address-pools`; raises InvalidArgument."""
    try:
        network = ipaddress.IPv4Network(base)
    except ValueError:
        raise InvalidArgument(f"invalid default address pool: base {base!r} is not an IPv4 network") from None
    if not network.prefixlen <= size <= 30:
        raise InvalidArgument(f"invalid default address pool: {base} cannot be cut into subnets of size {size}")
    return network, size
