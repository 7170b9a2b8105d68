"""The bridge driver: interfaces on the host and in sandboxes. Blocking, a few milliseconds each."""

import ipaddress
import logging
from pathlib import Path

from gantry.errors import Conflict, Internal
from gantry.linux import netlink
from gantry.network import links
from gantry.network.addresses import mac_of
from gantry.network.records import EndpointRecord, NetworkRecord
from gantry.network.sandbox import Sandboxes, write_sysctl
from gantry.trace import span

log = logging.getLogger(__name__)


class BridgeDriver:
    """A Linux bridge per network; each container is on it by a veth pair."""

    def create(self, record: NetworkRecord, owner: str) -> None:
        """Make the network's bridge, or put right what differs; `owner` is its alias. Raises Conflict, Internal."""
        gateways = gateway_addresses(record)
        try:
            with netlink.RouteSocket() as kernel:
                link = kernel.link(record.bridge)
                if link is None and not record.managed:
                    raise Internal(f"bridge device {record.bridge} not found")
                if link is None:
                    kernel.request(
                        netlink.add_bridge(record.bridge, _bridge_mac(record), record.mtu),
                        netlink.set_link(record.bridge, alias=owner),
                    )
                    link = kernel.link(record.bridge)
                elif link.kind != "bridge":
                    raise Conflict(f"interface {record.bridge} is not a bridge")
                elif record.managed and link.alias != owner:
                    raise Conflict(f"bridge {record.bridge} exists already and belongs to somebody else")
                if link is None:
                    raise Internal(f"bridge {record.bridge} vanished while it was made")
                if record.managed:
                    ipv6 = record.network.enable_ipv6
                    write_sysctl(f"ipv6/conf/{record.bridge}/disable_ipv6", "0" if ipv6 else "1")
                    if ipv6:
                        for name in ("accept_ra", "accept_dad"):
                            write_sysctl(f"ipv6/conf/{record.bridge}/{name}", "0")
                    _settle(kernel, link, gateways)
            write_sysctl(f"ipv4/conf/{record.bridge}/route_localnet", "1")
        except OSError as error:
            raise Internal(f"network {record.name}: {error.strerror or error}") from error

    def delete(self, record: NetworkRecord) -> None:
        if record.managed:
            remove_links(record.bridge)

    def attach(self, sandboxes: Sandboxes, record: NetworkRecord, endpoint: EndpointRecord) -> None:
        """The veth pair, the container's addresses and its default routes. Raises Internal; nothing is left then."""
        made = endpoint.endpoint
        try:
            with span("veth"), netlink.RouteSocket() as kernel:
                bridge = kernel.link(record.bridge)
                if bridge is None:
                    raise Internal(f"network {record.name}: its bridge {record.bridge} is gone; restart the daemon")
                with sandboxes.path(made.container_id).open("rb") as namespace:
                    kernel.request(
                        netlink.add_veth(
                            endpoint.link,
                            bridge.number,
                            record.mtu,
                            peer=made.interface,
                            peer_mac=made.mac_address,
                            peer_namespace=namespace.fileno(),
                        )
                    )
                try:
                    self._port(kernel, record, endpoint)
                    sandboxes.run(made.container_id, lambda: links.configure(endpoint))
                except BaseException:
                    netlink.delete_links([endpoint.link])
                    raise
        except OSError as error:
            raise Internal(f"network {record.name}: {error.strerror or error}") from error

    def _port(self, kernel: netlink.RouteSocket, record: NetworkRecord, endpoint: EndpointRecord) -> None:
        """The bridge's side of the pair."""
        # Where br_netfilter is loaded, a packet to one's own published port comes back by its own bridge port.
        hairpin = bool(endpoint.wanted)
        if (hairpin or not record.icc) and (port := kernel.link(endpoint.link)) is not None:
            kernel.request(netlink.set_port(port.number, isolated=not record.icc, hairpin=hairpin))
        if endpoint.bandwidth.into:
            links.limit(kernel, endpoint.link, endpoint.bandwidth.into)

    def detach(self, sandboxes: Sandboxes, *endpoints: EndpointRecord) -> None:  # noqa: ARG002 - the host has an end
        remove_links(*(each.link for each in endpoints if each.link))

    def limit(self, sandboxes: Sandboxes, endpoint: EndpointRecord) -> None:
        """Bring the limits of a living endpoint to what its record says; raises Internal."""

        def inside() -> None:
            with netlink.RouteSocket() as kernel:
                links.limit(kernel, endpoint.endpoint.interface, endpoint.bandwidth.out, replace=True)

        try:
            with netlink.RouteSocket() as kernel:
                links.limit(kernel, endpoint.link, endpoint.bandwidth.into, replace=True)
            sandboxes.run(endpoint.endpoint.container_id, inside)
        except OSError as error:
            raise Internal(f"bandwidth of {endpoint.container_name}: {error.strerror or error}") from error


def gateway_addresses(record: NetworkRecord) -> list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """The addresses that the bridge itself has, with their prefixes."""
    return [
        ipaddress.ip_interface(f"{each.gateway}/{each.prefix}")
        for each in record.subnets
        if each.gateway and (record.addressed or each.version == 6)
    ]


def _bridge_mac(record: NetworkRecord) -> str:
    return mac_of(ipaddress.ip_address(record.gateway(4) or record.gateway(6) or record.subnets[0].network[0]))


def _settle(
    kernel: netlink.RouteSocket,
    link: netlink.Link,
    gateways: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface],
) -> None:
    """The right addresses, no others, and up."""
    there = [at for number, at in kernel.addresses() if number == link.number and not at.is_link_local]
    kernel.request(
        *(netlink.delete_address(link.number, at) for at in there if at not in gateways),
        *(netlink.add_address(link.number, at) for at in gateways if at not in there),
        *([] if link.up else [netlink.set_link(link.name, up=True)]),
    )


def remove_links(*names: str) -> None:
    """Remove interfaces; those that are gone already do not matter. Raises Internal."""
    try:
        netlink.delete_links(names)
    except OSError as error:
        raise Internal(str(error.strerror or error)) from error


def enable_forwarding(uplinks: list[str], version: int) -> None:
    """Let the host forward packets of a family; raises OSError.

    With IPv6, a host that forwards no longer listens to routers: uplinks that did go on doing so.
    """
    path = Path("/proc/sys/net", "ipv4/ip_forward" if version == 4 else "ipv6/conf/all/forwarding")
    if path.read_text().strip() == "1":
        return
    for name in uplinks if version == 6 else ():
        accept = Path("/proc/sys/net/ipv6/conf", name, "accept_ra")
        if accept.exists() and accept.read_text().strip() == "1":
            accept.write_text("2")
    path.write_text("1")
