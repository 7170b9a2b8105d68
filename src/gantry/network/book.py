"""What the network room knows, in memory and in the state: networks, endpoints, and the addresses they take."""

import contextlib
import ipaddress
from collections.abc import Iterable, Sequence

from gantry.aio import run_blocking
from gantry.errors import GantryError, InvalidArgument, NotFound
from gantry.network.addresses import AddressPool
from gantry.network.records import CURSORS, ENDPOINTS, NETWORKS, Cursor, EndpointRecord, NetworkRecord
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
        self._pools: dict[str, AddressPool] = {}
        self._cursors: dict[str, int] = {}

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
        self._cursors = {each.network_id: each.last for each in cursors}

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

    def subnets(self, *, but: NetworkRecord | None = None) -> list[ipaddress.IPv4Network]:
        return [
            ipaddress.IPv4Network(each.subnet) for each in self.networks.values() if each.subnet and each is not but
        ]

    def pool(self, record: NetworkRecord) -> AddressPool:
        """The network's addresses; those of known endpoints are taken."""
        pool = self._pools.get(record.id)
        if pool is None:
            pool = self._pools[record.id] = AddressPool(
                ipaddress.IPv4Network(record.subnet),
                within=ipaddress.IPv4Network(record.ip_range) if record.ip_range else None,
                reserved=(record.gateway, *record.reserved),
                last=self._cursors.get(record.id, 0),
            )
            for each in (*self.endpoints.values(), *self.leaving.values()):
                if each.endpoint.network_id == record.id and each.endpoint.ip_address:
                    with contextlib.suppress(GantryError):  # the subnet has changed since: it takes no address of it
                        pool.take(each.endpoint.ip_address)
        return pool

    async def put_network(self, record: NetworkRecord) -> None:
        """Remember a network; its addresses are counted anew."""

        def write() -> None:
            with self._state.update() as transaction:
                transaction.put(NETWORKS, record.id, record)

        await run_blocking(write)
        self.networks[record.id] = record
        self._pools.pop(record.id, None)

    async def drop_network(self, record: NetworkRecord) -> None:
        def write() -> None:
            with self._state.update() as transaction:
                transaction.delete(NETWORKS, record.id)
                transaction.delete(CURSORS, record.id)

        await run_blocking(write)
        self.networks.pop(record.id, None)
        self._pools.pop(record.id, None)
        self._cursors.pop(record.id, None)

    async def save_endpoint(self, endpoint: EndpointRecord) -> None:
        """Write an endpoint that is in memory, and where the search for the next address begins."""
        network_id = endpoint.endpoint.network_id
        pool = self._pools.get(network_id)

        def write() -> None:
            with self._state.update() as transaction:
                transaction.put(ENDPOINTS, endpoint.key, endpoint)
                if pool is not None:
                    transaction.put(CURSORS, network_id, Cursor(network_id, pool.last))

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
        if record.endpoint.ip_address and (pool := self._pools.get(record.endpoint.network_id)):
            pool.give_back(record.endpoint.ip_address)
