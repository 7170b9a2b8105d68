"""What all drivers do inside a sandbox: addresses, routes, settings and limits of one interface. Blocking, short."""

import ipaddress
import socket
from collections.abc import Iterable

from gantry.linux import netlink
from gantry.linux.netlink import Address
from gantry.network.records import EndpointRecord
from gantry.network.sandbox import Sandboxes, write_sysctl

VERSIONS = (4, 6)


def address_of(endpoint: EndpointRecord, version: int) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """The endpoint's address of a family with its prefix, None where it has none."""
    made = endpoint.endpoint
    text, prefix = (made.ip_address, made.ip_prefix_len) if version == 4 else (made.ipv6_address, made.ipv6_prefix_len)
    return ipaddress.ip_interface(f"{text}/{prefix}") if text else None


def gateway_of(endpoint: EndpointRecord, version: int) -> Address | None:
    made = endpoint.endpoint
    text = made.gateway if version == 4 else made.ipv6_gateway
    return ipaddress.ip_address(text) if text else None


def configure(endpoint: EndpointRecord) -> None:
    """Called inside the sandbox: settings, up, addresses and default routes, in one exchange; raises OSError.

    IPv6 is off in a sandbox until an interface needs it.
    """
    made = endpoint.endpoint
    number = socket.if_nametoindex(made.interface)
    if made.ipv6_address:
        write_sysctl(f"ipv6/conf/{made.interface}/disable_ipv6", "0")
        # Without duplicate address detection its link-local address is of use at once, too.
        for name in ("accept_ra", "accept_dad"):
            write_sysctl(f"ipv6/conf/{made.interface}/{name}", "0")
    for name, value in endpoint.sysctls:
        write_sysctl(name.replace("IFNAME", made.interface), value, required=True)
    messages = [netlink.set_link(made.interface, up=True)]
    messages += [netlink.add_address(number, at) for version in VERSIONS if (at := address_of(endpoint, version))]
    messages += [
        netlink.add_address(number, ipaddress.ip_interface(f"{each}/{_LINK_LOCAL[':' in each]}"))
        for each in endpoint.link_local
    ]
    messages += [
        netlink.add_default_route(number, gateway_of(endpoint, version), version)
        for version in VERSIONS
        if endpoint.leads(version)
    ]
    if endpoint.bandwidth.out:
        messages.append(netlink.limit_rate(number, endpoint.bandwidth.out))
    with netlink.RouteSocket() as kernel:
        kernel.request(*messages)


def move_default_route(
    sandboxes: Sandboxes, container_id: str, version: int, old: EndpointRecord | None, new: EndpointRecord | None
) -> None:
    """Send a container's outward traffic of one family through `new` from now on; raises OSError."""

    def inside() -> None:
        with netlink.RouteSocket() as kernel:
            if old is not None and (link := kernel.link(old.endpoint.interface)) is not None:
                _ignoring(kernel, netlink.delete_default_route(link.number, gateway_of(old, version), version))
            if new is not None and (link := kernel.link(new.endpoint.interface)) is not None:
                _ignoring(kernel, netlink.add_default_route(link.number, gateway_of(new, version), version))

    sandboxes.run(container_id, inside)


def _ignoring(kernel: netlink.RouteSocket, message: netlink.Message) -> None:
    """A route that is there, or gone, already is as it should be."""
    try:
        kernel.request(message)
    except (FileExistsError, ProcessLookupError):
        return


def limit(kernel: netlink.RouteSocket, interface: str, rate: int, *, replace: bool = False) -> None:
    """Limit what leaves by an interface; 0 takes the limit away, which only `replace` needs."""
    link = kernel.link(interface)
    if link is None:
        return
    if rate:
        kernel.request(netlink.limit_rate(link.number, rate))
    elif replace:
        try:
            kernel.request(netlink.unlimit_rate(link.number))
        except (FileNotFoundError, netlink.NetlinkError) as error:
            if error.errno not in _NO_LIMIT:
                raise


_LINK_LOCAL = (16, 64)  # prefix lengths of IPv4 and IPv6 (RFC 3927, RFC 4291)
_NO_LIMIT = (2, 22)  # ENOENT, EINVAL: there was no limit


def remove(names: Iterable[str]) -> None:
    """Remove interfaces of this namespace; those that are gone already do not matter."""
    netlink.delete_links(names)
