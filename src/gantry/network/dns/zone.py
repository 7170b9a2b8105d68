"""Who is called what: the names of containers on networks, as each container sees them. No input or output.

Docker's rules: a name is looked up in the networks of the asking container, in their order, and counts in the first
that knows it. `NAME.NETWORK` names a container of one network. A link gives a name to another container for one
container alone and comes before everything else.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

HOST, GATEWAY = b"host.docker.internal", b"gateway.docker.internal"


class Endpoint(NamedTuple):
    """One container on one network; `links` are (alias, name). Addresses are packed, b"" for none."""

    key: str
    sandbox: str
    network: str
    names: tuple[bytes, ...]
    ipv4: bytes
    ipv6: bytes
    links: dict[bytes, bytes]

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Endpoint":
        """From a control message."""
        return cls(
            plain["key"],
            plain["sandbox"],
            plain["network"],
            tuple(dict.fromkeys(folded(each) for each in plain["names"])),
            bytes.fromhex(plain["ipv4"]),
            bytes.fromhex(plain["ipv6"]),
            {folded(alias): folded(name) for alias, name in plain["links"]},
        )


class Network:
    """One network's names. `own` are its subnets as (packed first, packed last): nobody else knows names there."""

    def __init__(self, name: bytes, own: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.name = name
        self.own = tuple(own)
        self.by_name: dict[bytes, list[Endpoint]] = {}
        self.by_address: dict[bytes, Endpoint] = {}

    def add(self, endpoint: Endpoint) -> None:
        for name in endpoint.names:
            self.by_name.setdefault(name, []).append(endpoint)
        for address in (endpoint.ipv4, endpoint.ipv6):
            if address:
                self.by_address[address] = endpoint

    def remove(self, endpoint: Endpoint) -> None:
        for name in endpoint.names:
            left = [each for each in self.by_name.get(name, ()) if each is not endpoint]
            if left:
                self.by_name[name] = left
            else:
                self.by_name.pop(name, None)
        for address in (endpoint.ipv4, endpoint.ipv6):
            if self.by_address.get(address) is endpoint:
                del self.by_address[address]


class Zone:
    """All networks and endpoints of one daemon."""

    def __init__(self) -> None:
        self._networks: dict[str, Network] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._of: dict[str, list[Endpoint]] = {}
        self._special: dict[str, dict[bytes, tuple[bytes, bytes]]] = {}

    def put_network(self, key: str, name: str, own: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Make a network known, or give it a new name; its endpoints stay."""
        network = self._networks.get(key)
        if network is None:
            self._networks[key] = Network(folded(name), own)
        else:
            network.name, network.own = folded(name), tuple(own)

    def drop_network(self, key: str) -> None:
        self._networks.pop(key, None)

    def put(self, endpoint: Endpoint) -> None:
        """Add an endpoint, or replace the one that has its key (where it stays in its container's order)."""
        mine = self._of.setdefault(endpoint.sandbox, [])
        before = self._endpoints.get(endpoint.key)
        if before is not None and before in mine:
            mine[mine.index(before)] = endpoint
            if network := self._networks.get(before.network):
                network.remove(before)
        else:
            mine.append(endpoint)
        self._endpoints[endpoint.key] = endpoint
        if network := self._networks.get(endpoint.network):
            network.add(endpoint)

    def drop(self, key: str) -> None:
        endpoint = self._endpoints.pop(key, None)
        if endpoint is None:
            return
        if network := self._networks.get(endpoint.network):
            network.remove(endpoint)
        left = [each for each in self._of.get(endpoint.sandbox, ()) if each is not endpoint]
        if left:
            self._of[endpoint.sandbox] = left
        else:
            self._of.pop(endpoint.sandbox, None)

    def set_special(self, sandbox: str, names: dict[bytes, tuple[bytes, bytes]] | None) -> None:
        """The names that only this container has, with their IPv4 and IPv6 address; None forgets them."""
        if names is None:
            self._special.pop(sandbox, None)
        else:
            self._special[sandbox] = names

    # ------------------------------------------------------------------------------------------ look-ups

    def resolve(self, sandbox: str, name: bytes, *, ipv6: bool) -> list[bytes] | None:
        """The packed addresses of a name; [] where it has none of this family, None where nobody here has it."""
        if (special := self._special.get(sandbox, {}).get(name)) is not None:
            address = special[ipv6]
            return [address] if address else []
        found: list[bytes] | None = None
        for endpoints in self._candidates(sandbox, name):
            addresses = [address for each in endpoints if (address := each.ipv6 if ipv6 else each.ipv4)]
            if addresses:
                return list(dict.fromkeys(addresses))
            found = []
        return found

    def _candidates(self, sandbox: str, name: bytes) -> Iterable[list[Endpoint]]:
        """What the name may mean, best first: a.b.c, then a.b of network c, then a of network b.c."""
        mine = self._of.get(sandbox, ())
        cut = len(name)
        while cut > 0:
            head, wanted = name[:cut], name[cut + 1 :]
            networks = [
                (each, network)
                for each in mine
                if (network := self._networks.get(each.network)) is not None and wanted in (b"", network.name)
            ]
            for each, network in networks:
                if (target := each.links.get(head)) is not None and (known := network.by_name.get(target)):
                    yield known
            for each, network in networks:
                if head not in each.links and (known := network.by_name.get(head)):
                    yield known
            cut = name.rfind(b".", 0, cut)

    def reverse(self, sandbox: str, address: bytes) -> bytes | None:
        """NAME.NETWORK of an address in the container's networks; b"" for one there that is nobody's, else None."""
        nobody = False
        for each in self._of.get(sandbox, ()):
            network = self._networks.get(each.network)
            if network is None:
                continue
            if (endpoint := network.by_address.get(address)) is not None and endpoint.names:
                return endpoint.names[0] + b"." + network.name
            nobody = nobody or any(
                len(first) == len(address) and first <= address <= last for first, last in network.own
            )
        return b"" if nobody else None


def folded(text: str) -> bytes:
    """A name as it is compared: without regard to case, and to a dot at its end."""
    return text.rstrip(".").lower().encode("utf-8", "surrogateescape")
