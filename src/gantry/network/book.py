"""What the network room knows, in memory and in the state: networks, endpoints, and the addresses they take."""

import contextlib
import ipaddress
from collections.abc import Iterable, Sequence

from gantry.aio import run_blocking
from gantry.errors import GantryError, Internal, InvalidArgument, NotFound
from gantry.network.addresses import Address, AddressPool, Net
from gantry.network.records import CURSORS, ENDPOINTS, NETWORKS, Cursor, EndpointRecord, NetworkRecord, Subnet
from gantry.ports import State


class Book:
    """Memory is the truth while the daemon runs; each change is written through. Used on the event loop.

    `leaving` are endpoints of ended containers whose interfaces the kernel may still have: their addresses are
    not given out again yet.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.networks: dict[str, NetworkRecord] = {}
        self.endpoints: dict[str, EndpointRecord] = {}
        self.leaving: dict[str, EndpointRecord] = {}
        self._pools: dict[tuple[str, str], AddressPool] = {}
        self._cursors: dict[tuple[str, str], str] = {}

    async def load(self, alive: Iterable[str]) -> None:
        """Read the state; endpoints of containers that are not in `alive` are leaving."""

        def read() -> tuple[Sequence[NetworkRecord], Sequence[EndpointRecord], Sequence[Cursor]]:
            with self._state.view() as transaction:
                return transaction.list(NETWORKS), transaction.list(ENDPOINTS), transaction.list(CURSORS)

        networks, endpoints, cursors = await run_blocking(read)
        living = set(alive)
        self.networks = {each.id: each for each in networks}
        self.endpoints = {each.key: each for each in endpoints if each.endpoint.container_id in living}
        self.leaving = {each.key: each for each in endpoints if each.endpoint.container_id not in living}
        self._cursors = {(each.network_id, each.net): each.last for each in cursors}

    def leave(self, stale: Iterable[EndpointRecord]) -> None:
        """These endpoints have no interface any more, though their containers live."""
        for each in stale:
            self.leaving[each.key] = self.endpoints.pop(each.key)

    def find(self, name_or_id: str) -> NetworkRecord:
        """By id, name, or the beginning of an id; raises NotFound, InvalidArgument where several ids begin so."""
        if found := self.networks.get(name_or_id) or self.named(name_or_id):
            return found
        matches = [each for each in self.networks.values() if name_or_id and each.id.startswith(name_or_id)]
        if len(matches) > 1:
            raise InvalidArgument(f"network {name_or_id} is ambiguous ({len(matches)} matches found on ID prefix)")
        if not matches:
            raise NotFound(f"network {name_or_id} not found")
        return matches[0]

    def known(self, name_or_id: str) -> NetworkRecord | None:
        """By id or name; None where there is none."""
        return self.networks.get(name_or_id) or self.named(name_or_id)

    def named(self, name: str) -> NetworkRecord | None:
        return next((each for each in self.networks.values() if each.name == name), None)

    def of(self, *, network_id: str = "", container_id: str = "") -> list[EndpointRecord]:
        """The endpoints of a network, of a container, or both."""
        return [
            each
            for each in self.endpoints.values()
            if (not network_id or each.endpoint.network_id == network_id)
            and (not container_id or each.endpoint.container_id == container_id)
        ]

    def bridges(self) -> list[str]:
        return [each.bridge for each in self.networks.values() if each.bridge]

    def subnets(self, *, but: NetworkRecord | None = None) -> list[Net]:
        return [subnet.network for each in self.networks.values() if each is not but for subnet in each.subnets]

    def pool(self, record: NetworkRecord, subnet: Subnet) -> AddressPool:
        """The addresses of one of the network's subnets; those of known endpoints are taken."""
        pool = self._pools.get((record.id, subnet.net))
        if pool is None:
            last = self._cursors.get((record.id, subnet.net), "")
            pool = self._pools[record.id, subnet.net] = AddressPool(
                subnet.network,
                within=ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else None,
                reserved=(subnet.gateway, *subnet.reserved),
                last=int(ipaddress.ip_address(last)) if last else 0,
            )
            for each in (*self.endpoints.values(), *self.leaving.values()):
                if each.endpoint.network_id == record.id:
                    for address in addresses_of(each):
                        with contextlib.suppress(GantryError):  # of another subnet
                            pool.take(address)
        return pool

    def take(self, record: NetworkRecord, version: int, wanted: str = "") -> tuple[Address, Subnet]:
        """An address of a family, from the first subnet that has one (that contains `wanted`).

        Raises what `AddressPool.take` raises.
        """
        blocks = record.blocks(version)
        if wanted:
            blocks = tuple(each for each in blocks if ipaddress.ip_address(wanted) in each.network) or blocks
        for number, subnet in enumerate(blocks):
            try:
                return self.pool(record, subnet).take(wanted), subnet
            except Internal:
                if number == len(blocks) - 1:
                    raise
        raise Internal(f"no available IPv{version} addresses on this network's address pools")

    async def put_network(self, record: NetworkRecord) -> None:
        """Remember a network; its addresses are counted anew."""

        def write() -> None:
            with self._state.update() as transaction:
                transaction.put(NETWORKS, record.id, record)

        await run_blocking(write)
        self.networks[record.id] = record
        self._forget_pools(record)

    async def drop_network(self, record: NetworkRecord) -> None:
        def write() -> None:
            with self._state.update() as transaction:
                transaction.delete(NETWORKS, record.id)
                for subnet in record.subnets:
                    transaction.delete(CURSORS, f"{record.id} {subnet.net}")

        await run_blocking(write)
        self.networks.pop(record.id, None)
        self._forget_pools(record)
        for key in [key for key in self._cursors if key[0] == record.id]:
            del self._cursors[key]

    def _forget_pools(self, record: NetworkRecord) -> None:
        for key in [key for key in self._pools if key[0] == record.id]:
            self._cursors[key] = self._pools.pop(key).cursor

    async def save_endpoint(self, endpoint: EndpointRecord) -> None:
        """Write an endpoint that is in memory, and where the search for the next address begins."""
        network_id = endpoint.endpoint.network_id
        cursors = [
            Cursor(network_id, net, pool.cursor)
            for (owner, net), pool in self._pools.items()
            if owner == network_id and pool.cursor
        ]

        def write() -> None:
            with self._state.update() as transaction:
                transaction.put(ENDPOINTS, endpoint.key, endpoint)
                for cursor in cursors:
                    transaction.put(CURSORS, f"{network_id} {cursor.net}", cursor)

        await run_blocking(write)

    async def drop_endpoints(self, keys: Iterable[str]) -> None:
        """Forget endpoints whose interfaces are gone; their addresses are free."""
        wanted = list(keys)

        def write() -> None:
            with self._state.update() as transaction:
                for key in wanted:
                    transaction.delete(ENDPOINTS, key)

        await run_blocking(write)
        for key in wanted:
            record = self.leaving.pop(key, None) or self.endpoints.pop(key, None)
            if record is not None:
                self.give_back(record)

    def give_back(self, record: EndpointRecord) -> None:
        for address in addresses_of(record):
            for (owner, _), pool in self._pools.items():
                if owner == record.endpoint.network_id and ipaddress.ip_address(address) in pool.subnet:
                    pool.give_back(address)


def addresses_of(record: EndpointRecord) -> list[str]:
    return [each for each in (record.endpoint.ip_address, record.endpoint.ipv6_address) if each]
