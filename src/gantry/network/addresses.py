"""Address management: which subnet a network gets, and which address a container gets in it. Pure."""

import ipaddress
from collections.abc import Collection, Iterable

from gantry.errors import Forbidden, Internal, InvalidArgument
from gantry.network.settings import Pool

Net = ipaddress.IPv4Network


def choose_subnet(pools: Iterable[Pool], used: Collection[Net]) -> Net:
    """The first subnet of the pools that overlaps nothing in `used`; raises InvalidArgument where all are taken."""
    for base, size in pools:
        taken = [net for net in used if net.overlaps(base)]
        candidate = int(base.network_address)
        end = int(base.broadcast_address)
        step = 1 << (32 - size)
        while candidate + step - 1 <= end:
            subnet = Net((candidate, size))
            hit = next((net for net in taken if net.overlaps(subnet)), None)
            if hit is None:
                return subnet
            # Leap over what is in the way, however many subnets that is, to the next multiple of the step.
            behind = max(int(hit.broadcast_address), candidate + step - 1) + 1
            candidate = (behind + step - 1) // step * step
    raise InvalidArgument("all predefined address pools have been fully subnetted")


class AddressPool:
    """The addresses of one subnet. Gives them out in order, from behind the last one given, not the lowest free."""

    def __init__(self, subnet: Net, *, within: Net | None = None, reserved: Iterable[str] = (), last: int = 0) -> None:
        self.subnet = subnet
        self._first, self._end = self._bounds(within or subnet)
        self._taken: set[int] = {int(ipaddress.IPv4Address(each)) for each in reserved}
        if subnet.prefixlen < 31:
            self._taken |= {int(subnet.network_address), int(subnet.broadcast_address)}
        self.last = last if self._first <= last < self._end else self._first - 1

    @staticmethod
    def _bounds(net: Net) -> tuple[int, int]:
        return int(net.network_address), int(net.broadcast_address) + 1

    def take(self, wanted: str = "") -> ipaddress.IPv4Address:
        """Reserve `wanted`, or the next free address.

        Raises Forbidden "Address already in use" for one that is taken, InvalidArgument for one outside, Internal
        where none is left.
        """
        if wanted:
            address = ipaddress.IPv4Address(wanted)
            if address not in self.subnet:
                raise InvalidArgument(f"no configured subnet or ip-range contain the IP address {wanted}")
            if int(address) in self._taken:
                raise Forbidden("Address already in use")
            self._taken.add(int(address))
            return address
        size = self._end - self._first
        for each in range(self.last + 1, self.last + 1 + size):
            candidate = each if each < self._end else each - size
            if candidate not in self._taken:
                self._taken.add(candidate)
                self.last = candidate
                return ipaddress.IPv4Address(candidate)
        raise Internal("no available IPv4 addresses on this network's address pools")

    def give_back(self, address: str) -> None:
        self._taken.discard(int(ipaddress.IPv4Address(address)))

    def __contains__(self, address: str) -> bool:
        return int(ipaddress.IPv4Address(address)) in self._taken


def mac_of(address: ipaddress.IPv4Address) -> str:
    """The hardware address that goes with an address: 02:42 and its four bytes; neighbours' caches stay true."""
    return (b"\x02\x42" + address.packed).hex(":")
