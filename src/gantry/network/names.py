"""What containers are called, as the resolver is told: the network room's records put into its words.

A container on a network of a user's is served: it has the resolver at 127.0.0.11. Everything that the resolver must
know to serve it is in the endpoints' records, so that a daemon that was killed can tell it again.
"""

import ipaddress
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

from gantry.aio import TaskOwner, run_blocking
from gantry.errors import GantryError, Internal
from gantry.model.container import Container
from gantry.model.identity import short_id
from gantry.model.instance import Instance
from gantry.model.network import EndpointSettings
from gantry.network.book import Book
from gantry.network.files import GATEWAY, HOST, ResolverPlan, resolver_plan, use_resolver
from gantry.network.records import EndpointRecord, NetworkRecord
from gantry.network.resolver import ResolverProcess, open_sockets
from gantry.network.sandbox import Sandboxes
from gantry.network.settings import NetworkSettings

log = logging.getLogger(__name__)

Sockets = tuple[int, int]


def dns_names(container: Container, settings: EndpointSettings) -> tuple[str, ...]:
    """What a container is called on a network: its name, aliases, short id and host name, in Docker's order."""
    names = (
        container.name.removeprefix("/"),
        *(settings.aliases or ()),
        short_id(container.id),
        container.config.hostname,
    )
    return tuple(dict.fromkeys(name for name in names if name))


def links_of(settings: EndpointSettings) -> tuple[tuple[str, str], ...]:
    """(alias, name) of the links on a network: `NAME:ALIAS`, or `NAME`."""
    pairs = (link.rpartition(":") if ":" in link else (link, "", link) for link in settings.links or ())
    return tuple((alias, name.removeprefix("/")) for name, _, alias in pairs)


def is_named(record: NetworkRecord | None) -> bool:
    """Whether a network's containers find each other by name: every network but Docker's own three."""
    return record is not None and not record.network.predefined


class Names:
    """Tells the resolver. Methods that are not `async` return at once; what they say is heard soon."""

    def __init__(
        self, instance: Instance, settings: NetworkSettings, book: Book, sandboxes: Sandboxes, tasks: TaskOwner
    ) -> None:
        self._instance = instance
        self._settings = settings
        self._book = book
        self._sandboxes = sandboxes
        self._tasks = tasks
        self._process = ResolverProcess(instance, tasks, self._tell_all)
        self._served: set[str] = set()
        self._alive: set[str] = set()
        self._plans: dict[str, ResolverPlan] = {}
        self._waiting: dict[str, Sockets] = {}  # opened, and not yet handed over

    async def start(self, alive: Iterable[str]) -> None:
        """Go on with what an earlier daemon left; the book must have been read."""
        self._served = {each.endpoint.container_id for each in self._named()}
        self._alive = set(alive)
        if not await self._process.adopt() and self._served:
            self._want()

    async def stop(self) -> None:
        """The resolver goes on where containers do; else it ends."""
        for container_id in list(self._waiting):
            self._drop_waiting(container_id)
        if self._served:
            self._process.leave()
        else:
            await self._process.end()

    def _want(self) -> None:
        self._process.wanted = True
        if not self._process.connected:
            self._tasks.spawn(self._process.ensure(), name="resolver")

    def _network(self, endpoint: EndpointRecord) -> NetworkRecord | None:
        """None where the configuration has taken the default bridge away since."""
        return self._book.networks.get(endpoint.endpoint.network_id)

    def _named(self) -> list[EndpointRecord]:
        return [each for each in self._book.endpoints.values() if is_named(self._network(each))]

    # ------------------------------------------------------------------------------------- telling

    async def _tell_all(self, held: Sequence[str]) -> None:
        """A conversation begins: everything, then the sandboxes that the process does not hold."""
        self._served |= {each for each in held if each in self._alive}
        if self._served:
            self._process.wanted = True
        endpoints = self._named()
        networks = {each.endpoint.network_id for each in endpoints}
        self._process.send(
            {
                "do": "load",
                "networks": [self._network_words(self._book.networks[each]) for each in networks],
                "endpoints": [_endpoint_words(each) for each in endpoints],
                "sandboxes": [self._sandbox_words(each) for each in self._served],
            }
        )
        for container_id in self._served.difference(held):
            if (sockets := self._waiting.pop(container_id, None)) is None:
                try:
                    sockets = await run_blocking(self._sandboxes.run, container_id, _reopen)
                except (OSError, GantryError) as error:
                    log.error("container %s: no names are resolved in it: %s", container_id[:12], error)  # noqa: TRY400
                    continue
            self._hand_over(container_id, sockets)

    def _hand_over(self, container_id: str, sockets: Sockets) -> None:
        try:
            namespace = os.open(self._sandboxes.path(container_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # it has ended meanwhile
            for each in sockets:
                os.close(each)
            return
        self._process.send({"do": "open", "sandbox": self._sandbox_words(container_id)}, (namespace, *sockets))

    def _drop_waiting(self, container_id: str) -> None:
        for each in self._waiting.pop(container_id, ()):
            os.close(each)

    # -------------------------------------------------------------------------------------- changes

    def serve(self, container_id: str, sockets: Sockets) -> None:
        """A container's sockets are open: the resolver gets them, now or when it runs."""
        self._served.add(container_id)
        self._alive.add(container_id)
        if self._process.connected:
            self._hand_over(container_id, sockets)
        else:
            self._drop_waiting(container_id)
            self._waiting[container_id] = sockets
        self._want()

    def remember(self, container_id: str, plan: ResolverPlan) -> None:
        """How a starting container's names are resolved."""
        self._plans[container_id] = plan

    async def begin(self, container: Container, record: NetworkRecord) -> ResolverPlan:
        """A container is about to be on a network; it is served from now on where that has names.

        Its resolv.conf changes where it ran without until now.
        """
        if (plan := self._plans.get(container.id)) is None:
            plan = self._plans[container.id] = await run_blocking(resolver_plan, container, self._settings)
        if is_named(record) and container.id not in self._served:
            try:
                sockets = await run_blocking(self._sandboxes.run, container.id, _reopen)
            except OSError as error:
                raise Internal(f"network {record.name}: cannot resolve names: {error.strerror or error}") from error
            self.serve(container.id, sockets)
            directory = self._instance.data_root / "containers" / container.id
            await run_blocking(use_resolver, directory, plan)
        return plan

    def join(self, endpoint: EndpointRecord) -> None:
        """An endpoint has come, or has other names now."""
        record = self._network(endpoint)
        if record is not None and is_named(record):
            self._process.send({"do": "network", "network": self._network_words(record)})
            self._process.send({"do": "join", "endpoint": _endpoint_words(endpoint)})
        self._settings_of(endpoint.endpoint.container_id)

    def leave(self, endpoint: EndpointRecord) -> None:
        """An endpoint has gone (it is not in the book any more)."""
        self._process.send({"do": "leave", "key": endpoint.key})
        self._settings_of(endpoint.endpoint.container_id)

    def close(self, container_id: str) -> None:
        """A container has ended: its sockets must not hold its namespace."""
        self._drop_waiting(container_id)
        self._plans.pop(container_id, None)
        self._alive.discard(container_id)
        if container_id in self._served:
            self._served.discard(container_id)
            self._process.wanted = bool(self._served)
            self._process.send({"do": "close", "id": container_id})

    def forget_network(self, record: NetworkRecord) -> None:
        self._process.send({"do": "forget", "id": record.id})

    def _settings_of(self, container_id: str) -> None:
        if container_id in self._served:
            self._process.send({"do": "settings", "sandbox": self._sandbox_words(container_id)})

    # ---------------------------------------------------------------------------------------- words

    def _sandbox_words(self, container_id: str) -> dict[str, Any]:
        mine = self._book.of(container_id=container_id)
        outward = [each for each in mine if (record := self._network(each)) and not record.network.internal]
        servers = mine[0].servers if mine else ()
        return {
            "id": container_id,
            "servers": servers,
            "follow": bool(servers) and all(host for _, host in servers),
            "ndots": bool(mine) and mine[0].ndots,
            # Nothing of a container that is on internal networks alone leaves the host (CVE-2024-29018).
            "forward": bool(outward),
            "special": self._special(mine, outward),
        }

    def _special(self, mine: Sequence[EndpointRecord], outward: Sequence[EndpointRecord]) -> list[tuple[str, str, str]]:
        """The host's names: where only an internal network is, its bridge is the way to the host."""
        default = self._book.named("bridge")
        host, gateway = ["", ""], ["", ""]
        for place, version in enumerate((4, 6)):
            routed = next((each for each in mine if each.leads(version)), next(iter(mine), None))
            if routed is None:
                return []
            record, made = self._network(routed), routed.endpoint
            own = (made.gateway, made.ipv6_gateway)[place] or (record.gateway(version) if record is not None else "")
            given = self._settings.host_gateway_ip
            if not given or ipaddress.ip_address(given).version != version:
                given = default.gateway(version) if default is not None else ""
            gateway[place] = _packed(own)
            host[place] = _packed(given if outward and given else own)
        found = [(HOST, host[0], host[1]), (GATEWAY, gateway[0], gateway[1])]
        return [each for each in found if each[1] or each[2]]

    @staticmethod
    def _network_words(record: NetworkRecord) -> dict[str, Any]:
        """Addresses of a bridge's subnets are ours alone; those of a shared segment have names elsewhere."""
        own = [each.network for each in record.subnets] if record.bridge else []
        return {
            "id": record.id,
            "name": record.name,
            "own": [(each.network_address.packed.hex(), each.broadcast_address.packed.hex()) for each in own],
        }


def _reopen() -> Sockets:
    """In a namespace that may have the rules of an earlier resolver's sockets."""
    return open_sockets(again=True)


def _packed(address: str) -> str:
    """An address's bytes in hexadecimal, "" for none."""
    return ipaddress.ip_address(address).packed.hex() if address else ""


def _endpoint_words(record: EndpointRecord) -> dict[str, Any]:
    made = record.endpoint
    return {
        "key": record.key,
        "sandbox": made.container_id,
        "network": made.network_id,
        "names": record.names,
        "ipv4": _packed(made.ip_address),
        "ipv6": _packed(made.ipv6_address),
        "links": record.links,
    }
