"""What the network room remembers: everything that it makes on the host is here before it is made."""

import msgspec

from gantry.model.network import Endpoint, Network
from gantry.ports import Table


class NetworkRecord(msgspec.Struct, frozen=True):
    """A network and what its driver made of it.

    `subnet` and `gateway` ("172.18.0.0/16", "172.18.0.1") are in force; `ip_range` narrows allocation and
    `reserved` are addresses that are never given to a container. `bridge` is the interface, `managed` says
    that it is ours to create and remove, `configured` that the user chose the subnet (so `--ip` is allowed).
    `host_ip` is where ports are published by default, `route_via` a default route other than `gateway`.
    """

    network: Network
    bridge: str = ""
    managed: bool = True
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    reserved: tuple[str, ...] = ()
    configured: bool = False
    mtu: int = 1500
    icc: bool = True
    masquerade: bool = True
    host_ip: str = ""
    route_via: str = ""

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def id(self) -> str:
        return self.network.id


class EndpointRecord(msgspec.Struct, frozen=True):
    """One container on one network. `link` is the host's end of the veth pair, "" where there is none.

    `names` and `links` (alias, name) are for the resolver, as are the container's own `servers`
    (address, whether it is asked from the host) and whether its user has chosen `ndots`.
    """

    endpoint: Endpoint
    link: str = ""
    default_route: bool = False
    container_name: str = ""
    hosts_file: str = ""
    names: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    servers: tuple[tuple[str, bool], ...] = ()
    ndots: bool = False

    @property
    def key(self) -> str:
        return self.endpoint.endpoint_id


class Cursor(msgspec.Struct, frozen=True):
    """The last address given on a network, as a number: the search goes on behind it, so that none returns too soon."""

    network_id: str
    last: int


NETWORKS = Table("networks", NetworkRecord, unique="name")
ENDPOINTS = Table("endpoints", EndpointRecord)
CURSORS = Table("network_cursors", Cursor)
