"""Containers on networks: attach, detach, and what is left when a container has ended."""

import asyncio
import ipaddress
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from gantry import faults
from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Forbidden, GantryError, Internal, InvalidArgument
from gantry.model.container import Container
from gantry.model.identity import new_id
from gantry.model.instance import Instance
from gantry.model.network import Endpoint, PublishedPort
from gantry.network import files, links, options, portwishes, requests
from gantry.network.addresses import mac_of
from gantry.network.book import Book
from gantry.network.bridge import remove_links
from gantry.network.drivers import driver_of
from gantry.network.firewall import Firewall
from gantry.network.links import VERSIONS
from gantry.network.names import Names, dns_names, links_of
from gantry.network.portmap import PortMap
from gantry.network.records import ROUTED, Bandwidth, EndpointRecord, NetworkRecord, WantedPort
from gantry.network.sandbox import Sandboxes
from gantry.network.settings import NetworkSettings
from gantry.ports import EndpointRequest

log = logging.getLogger(__name__)

_LINGER = 0.5  # seconds that the kernel gets to remove the interfaces of a namespace that has ended


class Endpoints:
    """Attaches and detaches. An endpoint is recorded before its interfaces are made, forgotten after they are gone.

    Of a container's endpoints one leads outside, per address family: the one with the highest priority, then the
    network's name. It has the default route, and the container's ports are published on it.
    """

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

    # ---------------------------------------------------------------------------------------------- attach

    async def attach(self, container: Container, record: NetworkRecord, request: EndpointRequest) -> Endpoint:
        """Connect a sandbox to a network: addresses, interface, default routes, published ports.

        Raises InvalidArgument, Forbidden (address in use, already connected), and Internal where a port cannot be
        had or a system call fails, all with Docker's messages; nothing is left then.
        """
        if self._book.of(network_id=record.id, container_id=container.id):
            raise Forbidden(f"endpoint with name {_plain(container)} already exists in network {record.name}")
        requests.check_endpoint(request.settings, record)
        wanted = portwishes.wanted_ports(request, record.host_ip or self._settings.ip) if record.bridge else ()
        plan = await self._names.begin(container, record)
        try:
            endpoint = self._reserve(container, record, request, wanted, plan)
        except (Forbidden, Internal):
            if not any(each.endpoint.network_id == record.id for each in self._book.leaving.values()):
                raise
            # What is missing may be the address of a container that has just ended, such as this one before a restart.
            await self.forget_left()
            endpoint = self._reserve(container, record, request, wanted, plan)
        try:
            await self._book.save_endpoint(endpoint)
            faults.point("endpoint.recorded")
            if record.linked:
                await self._make(record, endpoint, files.own_names(container))
                await self._elect(container.id)
        except BaseException:
            await asyncio.shield(self._give_up(endpoint))
            raise
        faults.point("endpoint.made")
        endpoint = self._book.endpoints[endpoint.key]
        self._names.join(endpoint)
        return endpoint.endpoint

    def _reserve(
        self,
        container: Container,
        record: NetworkRecord,
        request: EndpointRequest,
        wanted: Sequence[WantedPort],
        plan: files.ResolverPlan,
    ) -> EndpointRecord:
        """Take addresses, interface name and ports in memory: all or none."""
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
        if record.linked:
            mine = self._book.of(container_id=container.id)
            settings = request.settings
            endpoint = msgspec.structs.replace(
                endpoint,
                link=(self._instance.tag + made.endpoint_id)[:15] if record.bridge else "",
                wanted=tuple(wanted),
                priority=settings.gw_priority,
                bandwidth=options.bandwidth(settings.driver_opts),
                link_local=tuple((settings.ipam_config.link_local_ips if settings.ipam_config else None) or ()),
                sysctls=options.sysctls(settings.driver_opts),
            )
            # Where another endpoint leads, the new one waits for `_elect`.
            leads = {
                version: _way_out(record, version) and not any(each.leads(version) for each in mine)
                for version in VERSIONS
            }
            endpoint = msgspec.structs.replace(endpoint, default_route=leads[4], default_route6=leads[6])
            name = (settings.driver_opts or {}).get(options.IFNAME, "")
            interface = _interface(name, record.prefix, {each.endpoint.interface for each in mine})
            endpoint = self._fill(endpoint, record, request, interface)
        self._book.endpoints[endpoint.key] = endpoint
        return endpoint

    def _fill(
        self, endpoint: EndpointRecord, record: NetworkRecord, request: EndpointRequest, interface: str
    ) -> EndpointRecord:
        made = msgspec.structs.replace(endpoint.endpoint, interface=interface)
        asked = request.settings.ipam_config
        wishes = {4: asked.ipv4_address if asked else "", 6: asked.ipv6_address if asked else ""}
        try:
            for version in VERSIONS:
                if record.blocks(version):
                    made = self._address(made, record, version, wishes[version])
            first = made.ip_address or made.ipv6_address
            mac = request.settings.mac_address.lower().replace("-", ":")
            if record.driver != requests.IPVLAN:
                made = msgspec.structs.replace(made, mac_address=mac or mac_of(ipaddress.ip_address(first)))
            endpoint = msgspec.structs.replace(endpoint, endpoint=made)
            leads = [version for version in VERSIONS if endpoint.leads(version)]
            return self._publish(endpoint, record, leads)
        except BaseException:
            self._book.give_back(msgspec.structs.replace(endpoint, endpoint=made))
            raise

    def _address(self, made: Endpoint, record: NetworkRecord, version: int, wish: str) -> Endpoint:
        """The endpoint with an address of one family."""
        try:
            address, subnet = self._book.take(record, version, wish)
        except Internal as error:
            raise Internal(f"{error.message}: {record.name} ({record.id})") from error
        via = next((each for each in record.route_via if portwishes.version_of(each) == version), subnet.gateway)
        gateway = via if _way_out(record, version) and not _routes_itself(record) else ""
        if version == 4:
            return msgspec.structs.replace(made, ip_address=str(address), ip_prefix_len=subnet.prefix, gateway=gateway)
        return msgspec.structs.replace(
            made, ipv6_address=str(address), ipv6_prefix_len=subnet.prefix, ipv6_gateway=gateway
        )

    def _publish(
        self,
        endpoint: EndpointRecord,
        record: NetworkRecord,
        versions: Collection[int],
        before: Sequence[PublishedPort] = (),
    ) -> EndpointRecord:
        """The endpoint with its ports of these families, if possible on the numbers they had `before`."""
        if not endpoint.wanted or not versions:
            return endpoint
        made = endpoint.endpoint
        wanted = portwishes.of_family(endpoint.wanted, versions)
        if 4 in versions and not made.ipv6_address:
            for each in endpoint.wanted:
                if all(portwishes.version_of(ip) == 6 for ip in each.host_ips):
                    raise InvalidArgument(
                        f"port binding [{each.host_ips[0]}]: publishing on an IPv6 address needs a network with IPv6"
                    )
        opened = [
            PublishedPort(each.protocol, each.container_port, ip, 0)
            for each in wanted
            for ip in each.host_ips
            if record.mode(portwishes.version_of(ip)) == ROUTED
        ]
        mapped = portwishes.of_family(wanted, [version for version in versions if record.mode(version) != ROUTED])
        try:
            held = self._ports.publish(portwishes.like(mapped, before), {4: made.ip_address, 6: made.ipv6_address})
        except GantryError as error:
            what = (
                f"driver failed programming external connectivity on endpoint {endpoint.container_name}"
                f" ({made.endpoint_id})"
            )
            raise Internal(f"{what}: {error.message}") from error
        return msgspec.structs.replace(
            endpoint, endpoint=msgspec.structs.replace(made, ports=(*made.ports, *held, *opened))
        )

    async def _make(self, record: NetworkRecord, endpoint: EndpointRecord, names: str) -> None:
        """Interfaces and rules at the same time; waits for both, then raises the first error."""
        made = endpoint.endpoint

        def interfaces() -> None:
            driver_of(record).attach(self._sandboxes, record, endpoint)
            for address in (made.ip_address, made.ipv6_address):
                if address:
                    files.add_line(Path(endpoint.hosts_file), f"{address}\t{names}")

        results = await asyncio.gather(
            run_blocking(interfaces), self._firewall.publish(endpoint), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # ---------------------------------------------------------------------------------------- which leads

    async def _elect(self, container_id: str) -> None:
        """Let the right endpoints lead: default routes and published ports move there. Raises Internal."""
        mine = self._book.of(container_id=container_id)
        before = tuple(port for each in mine for port in each.endpoint.ports)
        for version in VERSIONS:
            old = next((each for each in mine if each.leads(version)), None)
            able = [each for each in mine if _way_out(self._network(each), version)]
            new = min(able, key=lambda each: (-each.priority, self._network(each).name), default=None)
            if old is None or new is None or old.key != new.key:
                await self._hand_over(container_id, version, old, new, before)
                mine = self._book.of(container_id=container_id)

    def _network(self, endpoint: EndpointRecord) -> NetworkRecord:
        return self._book.networks[endpoint.endpoint.network_id]

    async def _hand_over(
        self,
        container_id: str,
        version: int,
        old: EndpointRecord | None,
        new: EndpointRecord | None,
        before: Sequence[PublishedPort],
    ) -> None:
        if old is None and new is None:
            return
        gone: list[tuple[EndpointRecord, Sequence[PublishedPort]]] = []
        came: list[tuple[EndpointRecord, Sequence[PublishedPort]]] = []
        if old is not None:
            theirs = [port for port in old.endpoint.ports if portwishes.version_of(port.host_ip) == version]
            gone.append((old, theirs))
            self._ports.release(theirs)
            old = self._lead(old, version, False, [port for port in old.endpoint.ports if port not in theirs])
        if new is not None:
            had = new.endpoint.ports
            new = self._lead(new, version, True, had)
            new = self._publish(new, self._network(new), [version], before)
            self._book.endpoints[new.key] = new
            came.append((new, [port for port in new.endpoint.ports if port not in had]))
        for each in (old, new):
            if each is not None:
                await self._book.save_endpoint(each)
        await self._firewall.exchange(gone, came)
        try:
            await run_blocking(links.move_default_route, self._sandboxes, container_id, version, old, new)
        except OSError as error:
            raise Internal(f"default route of {container_id[:12]}: {error.strerror or error}") from error
        for each in (old, new):
            if each is not None and each.key in self._book.endpoints:
                self._names.join(each)

    def _lead(
        self, endpoint: EndpointRecord, version: int, leads: bool, ports: Sequence[PublishedPort]
    ) -> EndpointRecord:
        made = msgspec.structs.replace(endpoint.endpoint, ports=tuple(ports))
        name = "default_route" if version == 4 else "default_route6"
        changed = msgspec.structs.replace(endpoint, endpoint=made, **{name: leads})
        self._book.endpoints[changed.key] = changed
        return changed

    # ------------------------------------------------------------------------------- changes while it runs

    async def republish(self, container_id: str, request: EndpointRequest) -> None:
        """Bring the published ports of a running container to what `request` says, in one transaction.

        What stays the same is not touched. Raises Internal where a port cannot be had; nothing has changed then.
        """
        changes: list[tuple[EndpointRecord, EndpointRecord]] = []
        try:
            for endpoint in self._book.of(container_id=container_id):
                record = self._network(endpoint)
                if record.bridge:
                    wanted = portwishes.wanted_ports(request, record.host_ip or self._settings.ip)
                    changes.append((endpoint, self._rewish(endpoint, record, wanted)))
        except BaseException:
            for old, new in changes:
                self._ports.release(_without(new.endpoint.ports, old.endpoint.ports))
                self._ports.restore(_without(old.endpoint.ports, new.endpoint.ports))
            raise
        for _, new in changes:
            self._book.endpoints[new.key] = new
            await self._book.save_endpoint(new)
        await self._firewall.exchange(
            [(old, _without(old.endpoint.ports, new.endpoint.ports)) for old, new in changes],
            [(new, _without(new.endpoint.ports, old.endpoint.ports)) for old, new in changes],
        )

    def _rewish(
        self, endpoint: EndpointRecord, record: NetworkRecord, wanted: tuple[WantedPort, ...]
    ) -> EndpointRecord:
        """The endpoint with other wishes and their ports; what it no longer wants is released before."""
        kept: list[PublishedPort] = []
        fresh = []
        for wish in wanted:
            ports = portwishes.granted(wish, _without(endpoint.endpoint.ports, kept))
            if wish in endpoint.wanted and ports:
                kept += ports
            else:
                fresh.append(wish)
        left = _without(endpoint.endpoint.ports, kept)
        bare = msgspec.structs.replace(
            endpoint, endpoint=msgspec.structs.replace(endpoint.endpoint, ports=tuple(kept)), wanted=tuple(fresh)
        )
        self._ports.release(left)
        try:
            changed = self._publish(bare, record, [version for version in VERSIONS if endpoint.leads(version)])
        except BaseException:
            self._ports.restore(left)
            raise
        return msgspec.structs.replace(changed, wanted=wanted)

    async def limit(self, container_id: str, record: NetworkRecord, bandwidth: Bandwidth) -> None:
        """Change the bandwidth of a running container on one network; raises Internal."""
        for endpoint in self._book.of(network_id=record.id, container_id=container_id):
            changed = msgspec.structs.replace(endpoint, bandwidth=bandwidth)
            self._book.endpoints[changed.key] = changed
            await self._book.save_endpoint(changed)
            if record.linked:
                await run_blocking(driver_of(record).limit, self._sandboxes, changed)

    async def rename(self, container_id: str, old: str, new: str) -> None:
        """The endpoints of a container that has another name."""
        for endpoint in self._book.of(container_id=container_id):
            names = tuple(dict.fromkeys(new if each == old else each for each in endpoint.names))
            changed = msgspec.structs.replace(endpoint, container_name=new, names=names)
            self._book.endpoints[changed.key] = changed
            await self._book.save_endpoint(changed)
            self._names.join(changed)

    # ---------------------------------------------------------------------------------------------- detach

    async def detach(self, container_id: str, record: NetworkRecord) -> None:
        """Take a living container off a network; nothing happens where it is not on it."""
        for endpoint in self._book.of(network_id=record.id, container_id=container_id):
            await self._remove(endpoint)
            made = endpoint.endpoint
            for address in (made.ip_address, made.ipv6_address):
                if endpoint.hosts_file and address:
                    await run_blocking(files.remove_address, Path(endpoint.hosts_file), address)
            try:
                await self._elect(container_id)
            except GantryError as error:
                log.error("container %s off %s: %s", container_id[:12], record.name, error)  # noqa: TRY400

    async def _give_up(self, endpoint: EndpointRecord) -> None:
        """An attachment has failed: nothing of it is left, and those lead again that did before."""
        await self._remove(self._book.endpoints.get(endpoint.key, endpoint))
        try:
            await self._elect(endpoint.endpoint.container_id)
        except GantryError as error:
            log.error("container %s: %s", endpoint.endpoint.container_id[:12], error)  # noqa: TRY400

    async def _remove(self, endpoint: EndpointRecord) -> None:
        """Undo everything of one endpoint, now."""
        self._book.endpoints.pop(endpoint.key, None)
        self._book.leaving[endpoint.key] = endpoint
        self._names.leave(endpoint)
        if endpoint.endpoint.ports:
            await self._firewall.withdraw(endpoint)
            self._ports.release(endpoint.endpoint.ports)
        record = self._network(endpoint)
        if record.linked:
            await run_blocking(driver_of(record).detach, self._sandboxes, endpoint)
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
                self._withdrawing.spawn(self._firewall.withdraw(each), name=f"ports of {container_id[:12]}")
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
            await run_blocking(remove_links, *(each.link for each in gone.values() if each.link))
            await self._book.drop_endpoints(gone)


def _plain(container: Container) -> str:
    return container.name.removeprefix("/")


def _without(ports: Iterable[PublishedPort], others: Collection[PublishedPort]) -> list[PublishedPort]:
    return [port for port in ports if port not in others]


def _way_out(record: NetworkRecord, version: int) -> bool:
    """Whether a container can have its default route of a family on this network."""
    if record.network.internal or not record.blocks(version):
        return False
    return _routes_itself(record) or bool(record.route_via or record.gateway(version))


def _routes_itself(record: NetworkRecord) -> bool:
    """In these modes the interface is the way out, without a gateway."""
    return record.driver == requests.IPVLAN and record.link_mode in ("l3", "l3s")


def _interface(name: str, prefix: str, taken: Collection[str]) -> str:
    """The name that was asked for, or the first free one; raises InvalidArgument."""
    if name in taken:
        raise InvalidArgument(f"interface name {name} is in use in this container already")
    names: Iterable[str] = (f"{prefix}{number}" for number in range(len(taken) + 1))
    return name or next(each for each in names if each not in taken)
