"""What the network room remembers: everything that it makes on the host is here before it is made."""

import ipaddress

import msgspec

from gantry.model.network import Endpoint, Network
from gantry.ports import Table

ISOLATED, NAT, OPEN_NAT, ROUTED = "isolated", "nat", "nat-unprotected", "routed"
GATEWAY_MODES = (NAT, OPEN_NAT, ROUTED, ISOLATED)


class Subnet(msgspec.Struct, frozen=True):
    """One block of a network's addresses, in force: `net` "172.18.0.0/16" or "fd00:1::/64", `gateway` "172.18.0.1".

    `ip_range` narrows allocation, `reserved` are addresses that are never given to a container, `configured` says
    that the user chose the block (so `--ip` is allowed). Without a `gateway` there is no way out.
    """

    net: str
    gateway: str = ""
    ip_range: str = ""
    reserved: tuple[str, ...] = ()
    configured: bool = False

    @property
    def version(self) -> int:
        return 6 if ":" in self.net else 4

    @property
    def prefix(self) -> int:
        return int(self.net.partition("/")[2])

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(self.net)


class WantedPort(msgspec.Struct, frozen=True):
    """One container port to publish on the first free host port of `first` to `last`; (0, 0) is any port.

    It is published on all of `host_ips` under the same number.
    """

    protocol: str
    container_port: int
    host_ips: tuple[str, ...]
    first: int
    last: int


class Bandwidth(msgspec.Struct, frozen=True):
    """Limits of one endpoint in bits per second, as the container sees them; 0 for none."""

    into: int = 0
    out: int = 0


class NetworkRecord(msgspec.Struct, frozen=True):
    """A network and what its driver made of it.

    `bridge` is the interface of a bridge network, `parent` the host's interface below a macvlan or ipvlan network;
    `managed` says that it is ours to create and remove. `host_ip` is where ports are published by default,
    `route_via` are default routes other than the gateways, `sources` replace masquerading by fixed addresses,
    `trusted` are host interfaces that may reach containers directly, `prefix` names interfaces in containers.
    `addressed` False leaves the bridge without IPv4 address.
    """

    network: Network
    bridge: str = ""
    parent: str = ""
    managed: bool = True
    subnets: tuple[Subnet, ...] = ()
    mtu: int = 1500
    icc: bool = True
    masquerade: bool = True
    mode4: str = NAT
    mode6: str = NAT
    host_ip: str = ""
    route_via: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    prefix: str = "eth"
    addressed: bool = True
    link_mode: str = ""
    link_flag: str = ""

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def id(self) -> str:
        return self.network.id

    @property
    def driver(self) -> str:
        return self.network.driver

    @property
    def linked(self) -> bool:
        """Whether containers get an interface on it."""
        return bool(self.bridge or self.parent)

    def mode(self, version: int) -> str:
        return self.mode4 if version == 4 else self.mode6

    def blocks(self, version: int) -> tuple[Subnet, ...]:
        """The subnets of one address family."""
        return tuple(each for each in self.subnets if each.version == version)

    def gateway(self, version: int) -> str:
        """The host's (or the outer network's) address in the first subnet of a family, "" for none."""
        return next((each.gateway for each in self.blocks(version)), "")


class EndpointRecord(msgspec.Struct, frozen=True):
    """One container on one network. `link` is the host's end of the veth pair, "" where there is none.

    `default_route` and `default_route6` say that the container's way out leads here; its ports are published on
    the endpoint that has it. `wanted` are all ports that the container publishes where it can. `priority` and the
    network's name decide between endpoints. `link_local` are further addresses (`--link-local-ip`). `sysctls` are
    (name, value) below /proc/sys/net for the interface.
    `names` and `links` (alias, name) are for the resolver, as are the container's own `servers`
    (address, whether it is asked from the host) and whether its user has chosen `ndots`.
    """

    endpoint: Endpoint
    link: str = ""
    default_route: bool = False
    default_route6: bool = False
    container_name: str = ""
    hosts_file: str = ""
    wanted: tuple[WantedPort, ...] = ()
    priority: int = 0
    bandwidth: Bandwidth = Bandwidth()
    link_local: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    servers: tuple[tuple[str, bool], ...] = ()
    ndots: bool = False

    @property
    def key(self) -> str:
        return self.endpoint.endpoint_id

    def leads(self, version: int) -> bool:
        return self.default_route if version == 4 else self.default_route6


class Cursor(msgspec.Struct, frozen=True):
    """The last address given in a subnet: the search goes on behind it, so that none returns too soon."""

    network_id: str
    net: str
    last: str


NETWORKS = Table("networks", NetworkRecord, unique="name")
ENDPOINTS = Table("endpoints", EndpointRecord)
CURSORS = Table("network_cursors", Cursor)
