"""The bridge driver's hands: interfaces on the host and in sandboxes. Blocking, a few milliseconds each."""

import contextlib
import errno
import ipaddress
import logging
import socket
import time
from collections.abc import Collection, Iterator

from gantry.errors import Conflict, Internal
from gantry.linux import netlink
from gantry.model.network import Endpoint
from gantry.network.addresses import mac_of
from gantry.network.records import EndpointRecord, NetworkRecord
from gantry.network.sandbox import Sandboxes, write_sysctl
from gantry.trace import span

log = logging.getLogger(__name__)

_TURN = "\0gantry-subnets"  # abstract socket: belongs to the host's network namespace, leaves no file
_DEFAULT_MTU = 1500
DEFAULT_ROUTE = ipaddress.ip_network("0.0.0.0/0")


class HostFacts:
    """What is on the host now, read in one go."""

    def __init__(self) -> None:
        with netlink.RouteSocket() as kernel:
            self.links = {link.name: link for link in kernel.links()}
            self.addresses = kernel.addresses()
            self.routes = kernel.routes()

    def used(self, *, but: Collection[str] = ()) -> list[ipaddress.IPv4Network]:
        """Every IPv4 network that an address or route of the host covers, except on the interfaces in `but`."""
        skipped = {self.links[name].number for name in but if name in self.links}
        nets = [address.network for number, address in self.addresses if number not in skipped]
        nets += [route.destination for route in self.routes if route.interface not in skipped]
        return [net for net in nets if isinstance(net, ipaddress.IPv4Network) and net.prefixlen]

    def uplinks(self) -> list[str]:
        """The interfaces of the default routes."""
        names = {link.number: link.name for link in self.links.values()}
        numbers = dict.fromkeys(route.interface for route in self.routes if route.destination == DEFAULT_ROUTE)
        return [names[number] for number in numbers if number in names]

    def uplink_mtu(self) -> int:
        """The smallest MTU on the way out: larger packets of containers would be lost where ICMP is filtered."""
        return min((self.links[name].mtu for name in self.uplinks()), default=_DEFAULT_MTU)


@contextlib.contextmanager
def turn(seconds: float = 5.0) -> Iterator[None]:
    """One daemon of this host at a time chooses a subnet and puts it on its bridge; goes on alone after `seconds`."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                holder.bind(_TURN)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() > deadline:
                    log.warning("another daemon has been choosing a subnet for %s seconds: not waiting longer", seconds)
                    break
                time.sleep(0.02)
        yield
    finally:
        holder.close()


def ensure_bridge(record: NetworkRecord, owner: str) -> None:
    """Make the network's bridge, or put right what differs; `owner` is its alias. Raises Conflict, Internal."""
    gateway = ipaddress.IPv4Interface(f"{record.gateway}/{record.subnet.partition('/')[2]}")
    try:
        with netlink.RouteSocket() as kernel:
            link = kernel.link(record.bridge)
            if link is None and not record.managed:
                raise Internal(f"bridge device {record.bridge} not found")
            if link is None:
                kernel.request(
                    netlink.add_bridge(record.bridge, mac_of(gateway.ip), record.mtu),
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
                _settle(kernel, link, gateway)
        if record.managed:
            write_sysctl(f"ipv6/conf/{record.bridge}/disable_ipv6", "1")
        write_sysctl(f"ipv4/conf/{record.bridge}/route_localnet", "1")
    except OSError as error:
        raise Internal(f"network {record.name}: {error.strerror or error}") from error


def _settle(kernel: netlink.RouteSocket, link: netlink.Link, gateway: ipaddress.IPv4Interface) -> None:
    """One IPv4 address, the right one, and up."""
    there = [address for number, address in kernel.addresses() if number == link.number and address.version == 4]
    kernel.request(
        *(netlink.delete_address(link.number, address) for address in there if address != gateway),
        *([] if gateway in there else [netlink.add_address(link.number, gateway)]),
        *([] if link.up else [netlink.set_link(link.name, up=True)]),
    )


def remove_links(*names: str) -> None:
    """Remove interfaces; those that are gone already do not matter. Raises Internal."""
    try:
        netlink.delete_links(names)
    except OSError as error:
        raise Internal(str(error.strerror or error)) from error


def attach(sandboxes: Sandboxes, record: NetworkRecord, endpoint: EndpointRecord) -> None:
    """The veth pair, the container's address and its default route. Raises Internal; nothing is left then."""
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
                # Where br_netfilter is loaded, a packet to one's own published port comes back by its own bridge port.
                hairpin = bool(made.ports)
                if (hairpin or not record.icc) and (port := kernel.link(endpoint.link)) is not None:
                    kernel.request(netlink.set_port(port.number, isolated=not record.icc, hairpin=hairpin))
                sandboxes.run(made.container_id, lambda: _configure(endpoint))
            except BaseException:
                netlink.delete_links([endpoint.link])
                raise
    except OSError as error:
        raise Internal(f"network {record.name}: {error.strerror or error}") from error


def _configure(endpoint: EndpointRecord) -> None:
    """Inside the sandbox: up, address, default route, in one exchange."""
    made = endpoint.endpoint
    number = socket.if_nametoindex(made.interface)
    messages = [
        netlink.set_link(made.interface, up=True),
        netlink.add_address(number, ipaddress.ip_interface(f"{made.ip_address}/{made.ip_prefix_len}")),
    ]
    if endpoint.default_route:
        messages.append(netlink.add_default_route(ipaddress.ip_address(made.gateway), number))
    with netlink.RouteSocket() as kernel:
        kernel.request(*messages)


def take_default_route(sandboxes: Sandboxes, endpoint: Endpoint) -> None:
    """Send a container's outward traffic through this endpoint from now on; raises Internal."""

    def inside() -> None:
        number = socket.if_nametoindex(endpoint.interface)
        with netlink.RouteSocket() as kernel:
            kernel.request(netlink.add_default_route(ipaddress.ip_address(endpoint.gateway), number))

    try:
        sandboxes.run(endpoint.container_id, inside)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise Internal(f"default route of {endpoint.container_id[:12]}: {error.strerror or error}") from error
