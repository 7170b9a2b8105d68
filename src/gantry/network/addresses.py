"""Address management: which subnet a network gets, and which address a container gets in it. Pure."""

import ipaddress
from collections.abc import Collection, Iterable

from gantry.errors import Forbidden, Internal, InvalidArgument
from gantry.network.settings import Pool

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def choose_subnet(pools: Iterable[Pool], used: Collection[Net]) -> Net:
    """The first subnet of the pools that overlaps nothing in `used`; raises InvalidArgument where all are taken."""
    for base, size in pools:
        taken = [net for net in used if net.version == base.version and net.overlaps(base)]
        candidate = int(base.network_address)
        end = int(base.broadcast_address)
        step = 1 << (base.max_prefixlen - size)
        while candidate + step - 1 <= end:
            subnet = type(base)((candidate, size))
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
        self._address = ipaddress.IPv4Address if subnet.version == 4 else ipaddress.IPv6Address
        self._first, self._end = self._bounds(within or subnet)
        self._taken: set[int] = {int(ipaddress.ip_address(each)) for each in reserved if each} | edges(subnet)
        self.last = last if self._first <= last < self._end else self._first - 1

    @staticmethod
    def _bounds(net: Net) -> tuple[int, int]:
        return int(net.network_address), int(net.broadcast_address) + 1

    def take(self, wanted: str = "") -> Address:
        """Reserve `wanted`, or the next free address.

        Raises Forbidden "Address already in use" for one that is taken, InvalidArgument for one outside, Internal
        where none is left.
        """
        if wanted:
            address = ipaddress.ip_address(wanted)
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
                return self._address(candidate)
        raise Internal(f"no available IPv{self.subnet.version} addresses on this network's address pools")

    @property
    def cursor(self) -> str:
        """The last address given out in order, "" for none yet."""
        return str(self._address(self.last)) if self.last >= self._first else ""

    def give_back(self, address: str) -> None:
        self._taken.discard(int(ipaddress.ip_address(address)))

    def __contains__(self, address: str) -> bool:
        return int(ipaddress.ip_address(address)) in self._taken


def edges(subnet: Net) -> set[int]:
    """What no host may have: network and broadcast address, with IPv6 the subnet-router anycast address (RFC 4291)."""
    if subnet.prefixlen >= subnet.max_prefixlen - 1:
        return set()
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    return {first, last} if subnet.version == 4 else {first}


def mac_of(address: Address) -> str:
    """The hardware address that goes with an address: 02:42 and its last four bytes; neighbours' caches stay true."""
    return (b"\x02\x42" + address.packed[-4:]).hex(":")
