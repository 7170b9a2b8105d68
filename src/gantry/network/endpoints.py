"""Containers on networks: attach, detach, and what is left when a container has ended."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gantry import faults
from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Forbidden, GantryError, Internal
from gantry.model.container import Container
from gantry.model.identity import new_id
from gantry.model.instance import Instance
from gantry.model.network import Endpoint
from gantry.network import bridge, files, requests
from gantry.network.addresses import mac_of
from gantry.network.book import Book
from gantry.network.firewall import Firewall
from gantry.network.names import Names, dns_names, links_of
from gantry.network.portmap import PortMap, WantedPort, wanted_ports
from gantry.network.records import EndpointRecord, NetworkRecord
from gantry.network.sandbox import Sandboxes
from gantry.network.settings import NetworkSettings
from gantry.ports import EndpointRequest

log = logging.getLogger(__name__)

_LINGER = 0.5  # seconds that the kernel gets to remove the interfaces of a namespace that has ended


class Endpoints:
    """Attaches and detaches. An endpoint is recorded before its interfaces are made, forgotten after they are gone."""

    def __init__(
        self,
        instance: Instance,
        settings: NetworkSettings,
        book: Book,
        sandboxes: Sandboxes,
        firewall: Firewall,
        names: Names,
        tasks: TaskOwner,
    ) -> None:
        self._instance = instance
        self._settings = settings
        self._book = book
        self._sandboxes = sandboxes
        self._firewall = firewall
        self._names = names
        self._tasks = tasks
        self._withdrawing = TaskOwner("published ports")
        self._ports = PortMap()
        self._sweeping: asyncio.Task[None] | None = None

    def restore(self) -> None:
        """Hold the ports of containers that run since before the daemon did."""
        for each in self._book.endpoints.values():
            self._ports.restore(each.endpoint.ports)

    async def close(self) -> None:
        """Finish what has been begun and let go of the ports."""
        await self._withdrawing.drain()
        self._ports.close()

    async def attach(self, container: Container, record: NetworkRecord, request: EndpointRequest) -> Endpoint:
        """Connect a sandbox to a network: address, interface, default route, published ports.

        Raises InvalidArgument, Forbidden (address in use, already connected), and Internal where a port cannot be
        had or a system call fails, all with Docker's messages; nothing is left then.
        """
        if self._book.of(network_id=record.id, container_id=container.id):
            raise Forbidden(f"endpoint with name {_plain(container)} already exists in network {record.name}")
        requests.check_endpoint(request.settings, record)
        publishing = bool(record.bridge) and not record.network.internal
        ports = wanted_ports(request, record.host_ip or self._settings.ip) if publishing else []
        plan = await self._names.begin(container, record)
        endpoint = self._reserve(container, record, request, ports, plan)
        try:
            await self._book.save_endpoint(endpoint)
            faults.point("endpoint.recorded")
            if record.bridge:
                await self._make(record, endpoint, files.own_names(container))
        except BaseException:
            await asyncio.shield(self._remove(endpoint))
            raise
        faults.point("endpoint.made")
        self._names.join(endpoint)
        return endpoint.endpoint

    def _reserve(
        self,
        container: Container,
        record: NetworkRecord,
        request: EndpointRequest,
        ports: Sequence[WantedPort],
        plan: files.ResolverPlan,
    ) -> EndpointRecord:
        """Take address, interface name and ports in memory: all or none."""
        made = Endpoint(container.id, record.id, new_id())
        hosts = str(self._instance.data_root / "containers" / container.id / "hosts")
        endpoint = EndpointRecord(
            made,
            container_name=_plain(container),
            hosts_file=hosts,
            names=dns_names(container, request.settings),
            links=links_of(request.settings),
            servers=plan.upstreams(),
            ndots=plan.ndots_given,
        )
        if record.bridge:
            mine = self._book.of(container_id=container.id)
            made = self._fill(made, record, request, ports, endpoint.container_name)
            made = msgspec.structs.replace(made, interface=_free_interface(each.endpoint.interface for each in mine))
            endpoint = msgspec.structs.replace(
                endpoint,
                endpoint=made,
                link=(self._instance.tag + made.endpoint_id)[:15],
                default_route=bool(made.gateway) and not any(each.default_route for each in mine),
            )
        self._book.endpoints[endpoint.key] = endpoint
        return endpoint

    def _fill(
        self, made: Endpoint, record: NetworkRecord, request: EndpointRequest, ports: Sequence[WantedPort], name: str
    ) -> Endpoint:
        pool = self._book.pool(record)
        asked = request.settings.ipam_config
        try:
            address = pool.take(asked.ipv4_address if asked else "")
        except Internal as error:
            raise Internal(f"{error.message}: {record.name} ({record.id})") from error
        try:
            published = self._ports.publish(ports, str(address))
        except GantryError as error:
            pool.give_back(str(address))
            what = f"driver failed programming external connectivity on endpoint {name} ({made.endpoint_id})"
            raise Internal(f"{what}: {error.message}") from error
        return msgspec.structs.replace(
            made,
            mac_address=request.settings.mac_address.lower().replace("-", ":") or mac_of(address),
            ip_address=str(address),
            ip_prefix_len=int(record.subnet.partition("/")[2]),
            gateway="" if record.network.internal else record.route_via or record.gateway,
            ports=published,
        )

    async def _make(self, record: NetworkRecord, endpoint: EndpointRecord, names: str) -> None:
        """Interfaces and rules at the same time; waits for both, then raises the first error."""

        def interfaces() -> None:
            bridge.attach(self._sandboxes, record, endpoint)
            files.add_line(Path(endpoint.hosts_file), f"{endpoint.endpoint.ip_address}\t{names}")

        results = await asyncio.gather(
            run_blocking(interfaces), self._firewall.publish(endpoint.endpoint), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def detach(self, container_id: str, record: NetworkRecord) -> None:
        """Take a living container off a network; nothing happens where it is not on it."""
        for endpoint in self._book.of(network_id=record.id, container_id=container_id):
            await self._remove(endpoint)
            if endpoint.hosts_file and endpoint.endpoint.ip_address:
                await run_blocking(files.remove_address, Path(endpoint.hosts_file), endpoint.endpoint.ip_address)
            if endpoint.default_route:
                await self._reroute(container_id)

    async def _reroute(self, container_id: str) -> None:
        """The container's way out is gone: use the oldest other network that has one."""
        for other in self._book.of(container_id=container_id):
            if other.endpoint.gateway:
                changed = msgspec.structs.replace(other, default_route=True)
                self._book.endpoints[other.key] = changed
                await self._book.save_endpoint(changed)
                await run_blocking(bridge.take_default_route, self._sandboxes, other.endpoint)
                return

    async def _remove(self, endpoint: EndpointRecord) -> None:
        """Undo everything of one endpoint, now."""
        self._book.endpoints.pop(endpoint.key, None)
        self._book.leaving[endpoint.key] = endpoint
        self._names.leave(endpoint)
        if endpoint.endpoint.ports:
            await self._firewall.withdraw(endpoint.endpoint)
            self._ports.release(endpoint.endpoint.ports)
        if endpoint.link:
            await run_blocking(bridge.remove_links, endpoint.link)
        await self._book.drop_endpoints([endpoint.key])

    async def release(self, container_id: str) -> None:
        """A container has ended: its ports are free at once, its namespace goes, its interfaces with that.

        The kernel takes 10 ms and more to delete an element of a map: nobody waits for that. Whoever publishes the
        same port next stands behind it in the firewall's queue.
        """
        mine = self._book.of(container_id=container_id)
        for each in mine:
            del self._book.endpoints[each.key]
            self._book.leaving[each.key] = each
            self._names.leave(each)
            if each.endpoint.ports:
                self._ports.release(each.endpoint.ports)
                self._withdrawing.spawn(self._firewall.withdraw(each.endpoint), name=f"ports of {container_id[:12]}")
        self._names.close(container_id)
        await run_blocking(self._sandboxes.close, container_id)
        if mine and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = self._tasks.spawn(self._sweep(), name="endpoints of ended containers")

    async def _sweep(self) -> None:
        """Removing a veth pair takes 30 ms of the kernel's time under its lock: leave it to the end of the namespace.

        A namespace that somebody still holds loses its interfaces here.
        """
        while self._book.leaving:
            await asyncio.sleep(_LINGER)
            await self.forget_left()

    async def forget_left(self) -> None:
        """Remove the interfaces of leaving endpoints that are still there, then forget the endpoints."""
        gone = dict(self._book.leaving)
        if gone:
            await run_blocking(bridge.remove_links, *(each.link for each in gone.values() if each.link))
            await self._book.drop_endpoints(gone)


def _plain(container: Container) -> str:
    return container.name.removeprefix("/")


def _free_interface(taken: Iterable[str]) -> str:
    used = set(taken)
    return next(name for name in (f"eth{number}" for number in range(len(used) + 1)) if name not in used)
