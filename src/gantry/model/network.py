"""Networks, endpoints and port bindings, under the Engine API's field names."""

from typing import Any

import msgspec

from gantry.model.golang import go_name, go_names


class PortBinding(msgspec.Struct, frozen=True, rename=go_name):
    host_ip: str = ""
    host_port: str = ""


class EndpointIPAMConfig(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] | None = None


class EndpointSettings(msgspec.Struct, frozen=True, rename=go_name):
    """One container on one network: what was asked for, and what it was given."""

    ipam_config: EndpointIPAMConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    dns_names: list[str] | None = None


class IPAMPool(msgspec.Struct, frozen=True, rename=go_name, omit_defaults=True):
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(msgspec.Struct, frozen=True, rename=go_name):
    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IPAMPool] | None = None


class Network(msgspec.Struct, frozen=True, rename=go_names(id="Id")):
    """A network as it is stored and shown (Engine API `Network`, without its containers)."""

    name: str
    id: str
    created: str
    scope: str = "local"
    driver: str = "bridge"
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam: IPAM = IPAM()
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def predefined(self) -> bool:
        return self.name in ("bridge", "host", "none")


class PublishedPort(msgspec.Struct, frozen=True):
    """One port that is open on the host: `protocol` is tcp, udp or sctp."""

    protocol: str
    container_port: int
    host_ip: str
    host_port: int


class Endpoint(msgspec.Struct, frozen=True):
    """What a driver made for one container on one network."""

    container_id: str
    network_id: str
    endpoint_id: str
    interface: str = ""
    mac_address: str = ""
    ip_address: str = ""
    ip_prefix_len: int = 0
    gateway: str = ""
    ipv6_address: str = ""
    ipv6_prefix_len: int = 0
    ipv6_gateway: str = ""
    ports: tuple[PublishedPort, ...] = ()


class Sandbox(msgspec.Struct, frozen=True):
    """A container's network namespace. `path` is "" where the container shares the host's.

    `hosts`, `hostname` and `resolv_conf` are the files that are mounted at /etc in the container.
    """

    container_id: str
    path: str
    hosts: str = ""
    hostname: str = ""
    resolv_conf: str = ""
    details: dict[str, Any] = {}
