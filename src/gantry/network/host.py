"""The networks of this host: implements `ports.Networks`."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gantry import faults
from gantry.aio import TaskOwner, run_blocking
from gantry.errors import Conflict, Forbidden, GantryError
from gantry.model.container import Container
from gantry.model.identity import short_id
from gantry.model.instance import Instance
from gantry.model.network import Endpoint, EndpointSettings, Network, Sandbox
from gantry.model.remap import Remap
from gantry.network import bridge, design, files, requests
from gantry.network.book import Book
from gantry.network.drivers import driver_of
from gantry.network.endpoints import Endpoints
from gantry.network.firewall import Firewall
from gantry.network.hostfacts import HostFacts, turn
from gantry.network.names import Names, Sockets, is_named
from gantry.network.neighbours import Neighbours
from gantry.network.records import NetworkRecord
from gantry.network.resolver import open_sockets
from gantry.network.sandbox import Sandboxes
from gantry.network.settings import NetworkSettings
from gantry.network.stale import stale
from gantry.ports import EndpointRequest, NetworkRequest, State
from gantry.trace import span

log = logging.getLogger(__name__)

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class HostNetworks:
    """Networks, sandboxes and endpoints of one daemon. Call `start` before anything else, `stop` at the end."""

    def __init__(
        self,
        instance: Instance,
        state: State,
        settings: NetworkSettings | None = None,
        remap: Remap | None = None,
    ) -> None:
        self._remap = remap
        self._instance = instance
        self._settings = settings or NetworkSettings()
        self._book = Book(state)
        self._sandboxes = Sandboxes(instance.exec_root / "netns")
        self._firewall = Firewall(
            instance.nft_table,
            lambda: (self._book.networks.values(), self._book.endpoints.values()),
            enabled=self._settings.iptables,
        )
        self._neighbours = Neighbours(instance.nft_table, instance.name)
        self._tasks = TaskOwner("networks")
        self._names = Names(instance, self._settings, self._book, self._sandboxes, self._tasks)
        self._endpoints = Endpoints(
            instance, self._settings, self._book, self._sandboxes, self._firewall, self._names, self._tasks
        )
        self._changing = asyncio.Lock()  # networks are made and removed one at a time

    # ------------------------------------------------------------------------------------ life of the room

    async def start(self, running: Sequence[str]) -> None:
        """Bring the host in line with the records; what belongs to containers not in `running` is removed."""
        self._settings.validate()
        alive = set(running)
        await self._book.load(alive)
        self._book.leave(await run_blocking(stale, self._sandboxes, list(self._book.endpoints.values())))
        for container_id in await run_blocking(self._sandboxes.existing):
            if container_id not in alive:
                await run_blocking(self._sandboxes.close, container_id)
        await self._endpoints.forget_left()
        if self._settings.ip_forward:
            await run_blocking(bridge.enable_forwarding, [], 4)
        with contextlib.ExitStack() as held:
            await run_blocking(held.enter_context, turn())
            await self._predefine()
        for record in list(self._book.networks.values()):
            if record.linked and not record.network.predefined:
                try:
                    await self._make(record)
                except GantryError as error:
                    log.error("network %s cannot be used: %s", record.name, error)  # noqa: TRY400 - one line is enough
        self._endpoints.restore()
        await self._names.start(alive)
        await self._firewall.rebuild()
        await self._settle()

    async def stop(self) -> None:
        """Bridges and rules are removed where no container needs them any more; else all stays for the next start."""
        await self._tasks.close()
        await self._endpoints.forget_left()
        await self._endpoints.close()
        await self._names.stop()
        if self._book.endpoints:
            return
        if self._settings.iptables:
            await self._neighbours.settle([], [])
        await self._firewall.remove()
        managed = [each for each in self._book.networks.values() if each.managed and each.linked]
        await run_blocking(bridge.remove_links, *(each.bridge or each.parent for each in managed))

    async def warnings(self) -> list[str]:
        """What is wrong with this host's networking, a line each, for `info`."""
        found: list[str] = []
        if (await run_blocking(_FORWARDING.read_text)).strip() != "1":
            found.append("WARNING: IPv4 forwarding is disabled")
        if not self._settings.iptables:
            found.append("WARNING: iptables is disabled: no port is published, containers reach nothing outside")
            return found
        return found + [f"WARNING: {each}" for each in await self._neighbours.warnings(self._book.bridges())]

    async def _predefine(self) -> None:
        """`bridge`, `host` and `none`, with the ids that they have had from the beginning."""
        for name, driver in (("host", "host"), ("none", "null")):
            if self._book.named(name) is None:
                await self._book.put_network(design.simple_network(name, driver))
        before = self._book.named("bridge")
        if self._settings.bridge == "none":
            if before is not None:
                await self._book.drop_network(before)
            return
        facts = await run_blocking(HostFacts)
        others = self._book.subnets(but=before)
        record = design.default_network(self._settings, self._instance, facts, before, others)
        if before is not None and not design.same_effect(before, record):
            if self._book.of(network_id=before.id):
                shown = ", ".join(each.net for each in before.subnets)
                log.warning("containers run on %s (%s): it changes when they have ended", before.bridge, shown)
                record = before
            elif (old := facts.links.get(before.bridge)) and before.managed and design.is_ours(old, self._instance):
                await run_blocking(bridge.remove_links, before.bridge)
        await self._book.put_network(record)
        await self._make(record)

    async def _make(self, record: NetworkRecord) -> None:
        """Bring the host in line with a network's record; raises Conflict and Internal."""
        if record.network.enable_ipv6 and self._settings.ip_forward and record.bridge:
            await run_blocking(bridge.enable_forwarding, (await run_blocking(HostFacts)).uplinks(), 6)
        await run_blocking(driver_of(record).create, record, self._instance.name)

    async def _settle(self) -> None:
        if self._settings.iptables:
            facts = await run_blocking(HostFacts)
            await self._neighbours.settle(self._book.bridges(), facts.uplinks())

    # -------------------------------------------------------------------------------------------- networks

    async def get(self, name_or_id: str) -> Network:
        return self._book.find(name_or_id).network

    async def list(self) -> Sequence[Network]:
        return [each.network for each in self._book.networks.values()]

    async def create(self, request: NetworkRequest) -> Network:
        """Raises what `check_network` raises, Conflict for the name, Forbidden for overlaps, Internal for the host."""
        requests.check_network(request)
        async with self._changing, contextlib.AsyncExitStack() as undo:
            if self._book.named(request.name) is not None:
                raise Conflict(f"network with name {request.name} already exists")
            with contextlib.ExitStack() as held:
                await run_blocking(held.enter_context, turn())
                facts = await run_blocking(HostFacts)
                known = self._book.networks.values()
                record = design.user_network(request, self._settings, self._instance, facts, known)
                await self._book.put_network(record)
                undo.push_async_callback(self._book.drop_network, record)
                faults.point("network.recorded")
                undo.push_async_callback(run_blocking, driver_of(record).delete, record)
                await self._make(record)
            faults.point("network.made")
            await self._firewall.add_network(record)
            await self._settle()
            undo.pop_all()
        return record.network

    async def delete(self, network_id: str) -> None:
        """Forbidden for the predefined ones and while containers are attached."""
        async with self._changing:
            record = self._book.find(network_id)
            if record.network.predefined:
                raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
            if users := self._book.of(network_id=record.id):
                shown = " ".join(f'name:"{each.container_name}" id:"{short_id(each.key)}"' for each in users)
                raise Forbidden(f"error while removing network: network {record.name} has active endpoints ({shown})")
            await run_blocking(driver_of(record).delete, record)
            faults.point("network.unlinked")
            await self._book.drop_network(record)
            self._names.forget_network(record)
            await self._firewall.remove_network(record)
            await self._settle()

    # ------------------------------------------------------------------------------ sandboxes and endpoints

    async def open_sandbox(self, container: Container, *, host: bool, hosts: Sequence[tuple[str, str]] = ()) -> Sandbox:
        """A namespace (none where `host`), and the three files in the container's directory."""
        with span("netns"):
            sandbox, plan, sockets = await run_blocking(self._open_sandbox, container, host, hosts)
        self._names.remember(container.id, plan)
        if sockets is not None:
            self._names.serve(container.id, sockets)
        return sandbox

    def _open_sandbox(
        self, container: Container, host: bool, hosts: Sequence[tuple[str, str]]
    ) -> tuple[Sandbox, files.ResolverPlan, Sockets | None]:
        default = self._book.named("bridge")
        gateway = self._settings.host_gateway_ip or (default.gateway(4) if default else "")
        networks = [] if host else [record for name in container.networks if (record := self._book.known(name))]
        named = any(is_named(record) for record in networks)
        plan = files.resolver_plan(container, self._settings)
        directory = self._instance.data_root / "containers" / container.id
        paths = files.make(
            directory,
            container,
            plan,
            gateway,
            host_network=host,
            internal=named,
            further=hosts,
            special=gateway if host or any(record is default for record in networks) else "",
        )
        sockets: list[Sockets] = []
        inside = (lambda: sockets.append(open_sockets())) if named else None
        try:
            remap = self._remap.of(container.host_config) if self._remap else None
            owner = remap.namespace if remap else ""
            path = "" if host else str(self._sandboxes.open(container.id, inside, owner))
        except BaseException:
            for each in sockets:
                os.close(each[0])
                os.close(each[1])
            raise
        return Sandbox(container.id, path, *paths), plan, sockets[0] if sockets else None

    async def close_sandbox(self, container_id: str) -> None:
        """Release ports, addresses and the namespace. Idempotent."""
        await self._endpoints.release(container_id)

    def check_addresses(self, name_or_id: str, settings: EndpointSettings) -> None:
        record = self._book.known(name_or_id)
        if record is not None:
            requests.check_addresses(settings, record)

    async def attach(self, container: Container, network: Network, request: EndpointRequest) -> Endpoint:
        return await self._endpoints.attach(container, self._book.find(network.id), request)

    async def detach(self, container_id: str, network_id: str) -> None:
        """Take a living container off a network; nothing happens where it is not on it."""
        await self._endpoints.detach(container_id, self._book.find(network_id))

    async def rename(self, container_id: str, old: str, new: str) -> None:
        """A container has another name: the resolver knows it by that one alone from now on."""
        await self._endpoints.rename(container_id, old, new)

    async def set_host(self, container_id: str, address: str, names: str) -> None:
        path = self._instance.data_root / "containers" / container_id / "hosts"
        await run_blocking(files.set_names, path, address, names)

    async def endpoints(self, *, network_id: str = "", container_id: str = "") -> Sequence[Endpoint]:
        return [each.endpoint for each in self._book.of(network_id=network_id, container_id=container_id)]
