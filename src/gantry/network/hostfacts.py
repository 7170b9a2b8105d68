"""What is on the host now (interfaces, addresses, routes), and whose turn it is to change it."""

import contextlib
import errno
import logging
import socket
import time
from collections.abc import Collection, Iterator

from gantry.linux import netlink

log = logging.getLogger(__name__)

_TURN = "\0gantry-subnets"  # abstract socket: belongs to the host's network namespace, leaves no file
_DEFAULT_MTU = 1500


class HostFacts:
    """What is on the host now, read in one go."""

    def __init__(self) -> None:
        with netlink.RouteSocket() as kernel:
            self.links = {link.name: link for link in kernel.links()}
            self.addresses = kernel.addresses()
            self.routes = kernel.routes()

    def used(self, *, but: Collection[str] = ()) -> list[netlink.Net]:
        """Every network that an address or route of the host covers, except on the interfaces in `but`.

        A VPN's pair of /1 routes stands for the default route and covers nothing of its own.
        """
        skipped = {self.links[name].number for name in but if name in self.links}
        nets = [address.network for number, address in self.addresses if number not in skipped]
        nets += [route.destination for route in self.routes if route.interface not in skipped]
        return [net for net in nets if net.prefixlen > 1 and not net.is_link_local]

    def uplinks(self) -> list[str]:
        """The interfaces of the default routes of both families."""
        names = {link.number: link.name for link in self.links.values()}
        numbers = dict.fromkeys(route.interface for route in self.routes if not route.destination.prefixlen)
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
