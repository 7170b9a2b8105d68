"""`/networks` as JSON: requests in, documents out."""

from collections.abc import Iterable
from typing import Any

import msgspec

from gantry.model.golang import go_name
from gantry.model.network import IPAM, Endpoint, EndpointSettings, IPAMPool, Network
from gantry.wire.versions import Version

_WITH_IPV4 = (1, 47)


class ConfigReference(msgspec.Struct, frozen=True, rename=go_name):
    network: str = ""


class NetworkCreate(msgspec.Struct, frozen=True, rename=go_name):
    """Body of `POST /networks/create`."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference = ConfigReference()
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam: IPAM = IPAM()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class NetworkConnect(msgspec.Struct, frozen=True, rename=go_name):
    """Body of `POST /networks/{id}/connect`."""

    container: str = ""
    endpoint_config: EndpointSettings = EndpointSettings()


class NetworkDisconnect(msgspec.Struct, frozen=True, rename=go_name):
    """Body of `POST /networks/{id}/disconnect`."""

    container: str = ""
    force: bool = False


def network(shown: Network, version: Version) -> dict[str, Any]:
    """One network without its containers."""
    document: dict[str, Any] = {
        "Name": shown.name,
        "Id": shown.id,
        "Created": shown.created,
        "Scope": shown.scope,
        "Driver": shown.driver,
        "EnableIPv4": shown.enable_ipv4,
        "EnableIPv6": shown.enable_ipv6,
        "IPAM": {
            "Driver": shown.ipam.driver,
            "Options": shown.ipam.options,
            "Config": None if shown.ipam.config is None else [_pool(pool) for pool in shown.ipam.config],
        },
        "Internal": shown.internal,
        "Attachable": shown.attachable,
        "Ingress": shown.ingress,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": shown.config_only,
        "Containers": {},
        "Options": shown.options,
        "Labels": shown.labels,
    }
    if version < _WITH_IPV4:
        del document["EnableIPv4"]
    return document


def _pool(pool: IPAMPool) -> dict[str, Any]:
    document: dict[str, Any] = {"Subnet": pool.subnet}
    if pool.ip_range:
        document["IPRange"] = pool.ip_range
    if pool.gateway:
        document["Gateway"] = pool.gateway
    if pool.auxiliary_addresses:
        document["AuxiliaryAddresses"] = pool.auxiliary_addresses
    return document


def containers(users: Iterable[tuple[str, Endpoint]]) -> dict[str, Any]:
    """The `Containers` member of an inspected network, from (name, endpoint)."""
    return {
        endpoint.container_id: {
            "Name": name,
            "EndpointID": endpoint.endpoint_id,
            "MacAddress": endpoint.mac_address,
            "IPv4Address": f"{endpoint.ip_address}/{endpoint.ip_prefix_len}" if endpoint.ip_address else "",
            "IPv6Address": f"{endpoint.ipv6_address}/{endpoint.ipv6_prefix_len}" if endpoint.ipv6_address else "",
        }
        for name, endpoint in users
    }
