"""Networks: what the `/networks` routes ask for."""

import builtins
from collections.abc import Callable, Sequence

import msgspec

from gantry import faults
from gantry.engine.networking import ContainerNetworks, endpoint_request
from gantry.engine.registry import Registry
from gantry.errors import Forbidden, Internal, InvalidArgument, NotFound
from gantry.model.container import Container, Phase
from gantry.model.network import Endpoint, EndpointSettings, Network
from gantry.ports import Events, NetworkRequest, Networks

_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


class NetworkUser(msgspec.Struct, frozen=True):
    """One container on one network, as `inspect` shows it."""

    name: str
    endpoint: Endpoint


class NetworkCases:
    """`connections` knows who is on what right now: it is told of every change here."""

    def __init__(self, networks: Networks, registry: Registry, connections: ContainerNetworks, events: Events) -> None:
        self._networks = networks
        self._registry = registry
        self._connections = connections
        self._events = events

    async def get(self, name_or_id: str) -> Network:
        return await self._networks.get(name_or_id)

    async def list(self) -> Sequence[Network]:
        return await self._networks.list()

    async def users(self, network: Network) -> builtins.list[NetworkUser]:
        """The running containers on a network."""
        return [
            NetworkUser(self._registry.get(each.container_id).name, each)
            for each in await self._networks.endpoints(network_id=network.id)
            if each.container_id in self._registry
        ]

    async def create(self, request: NetworkRequest) -> Network:
        network = await self._networks.create(request)
        self._publish(network, "create")
        return network

    async def remove(self, name_or_id: str) -> None:
        network = await self._networks.get(name_or_id)
        await self._networks.delete(network.id)
        self._publish(network, "destroy")

    async def prune(self, keep: Callable[[Network], bool]) -> builtins.list[str]:
        """Remove the networks that nobody uses, except those to `keep`; their names."""
        removed: builtins.list[str] = []
        for network in await self._networks.list():
            if network.predefined or keep(network) or await self._networks.endpoints(network_id=network.id):
                continue
            try:
                await self._networks.delete(network.id)
            except (Forbidden, NotFound):
                continue  # somebody was faster: it is used now, or gone
            self._publish(network, "destroy")
            removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    async def connect(self, name_or_id: str, container_name: str, settings: EndpointSettings) -> None:
        """Put a container on one more network, at once where it runs."""
        network = await self._networks.get(name_or_id)
        if not container_name:
            raise InvalidArgument('invalid name or ID supplied: ""')
        async with self._registry.lock(self._registry.get(container_name).id):
            container = self._registry.get(container_name)
            self._check_connect(container, network)
            made: Endpoint | None = None
            if container.status.phase in (Phase.RUNNING, Phase.PAUSED):
                made = await self._networks.attach(container, network, endpoint_request(container, settings))
            try:
                networks = {**container.networks, network.name: settings}
                container = await self._registry.update(container.id, lambda c: c.replace(networks=networks))
                faults.point("connect.recorded")
            except BaseException:
                if made is not None:
                    await self._networks.detach(container.id, network.id)
                raise
            if made is not None:
                await self._connections.refresh(container)
                self._publish(network, "connect", container=container.id)

    @staticmethod
    def _check_connect(container: Container, network: Network) -> None:
        mode = container.host_config.network_mode
        if container.status.phase in (Phase.REMOVING, Phase.DEAD):
            raise Forbidden(
                f"container {container.id} is marked for removal and cannot be connected or disconnected to the network"
            )
        if mode == "host" and network.driver == "host" and container.status.running:
            raise Forbidden(f"endpoint with name {container.name} already exists in network host")
        if mode.startswith("container:") or (mode == "host" and network.driver != "host"):
            raise InvalidArgument(_SHARED)
        if network.driver == "host" and mode != "host":
            raise InvalidArgument(
                "cannot connect container to host network - container must be created in host network mode"
            )
        if "none" in container.networks or network.driver == "null":
            raise InvalidArgument(_PRIVATE)

    async def disconnect(self, name_or_id: str, container_name: str, *, force: bool) -> None:
        """Take a container off a network, at once where it runs."""
        network = await self._networks.get(name_or_id)
        if not container_name:
            raise InvalidArgument('invalid name or ID supplied: ""')
        try:
            container = self._registry.get(container_name)
        except NotFound:
            if force:
                raise NotFound(f"endpoint {container_name} not found") from None
            raise
        async with self._registry.lock(container.id):
            container = self._registry.get(container.id)
            running = container.status.phase in (Phase.RUNNING, Phase.PAUSED)
            if network.driver == "host" and container.host_config.network_mode == "host" and running:
                raise InvalidArgument(
                    "cannot disconnect container from host network - container was created in host network mode"
                )
            key = next((each for each in container.networks if each in (network.name, network.id)), "")
            if not key:
                article = "" if running else "the "
                raise Internal(f"container {container.id} is not connected to {article}network {network.name}")
            if running:
                await self._networks.detach(container.id, network.id)
            faults.point("disconnect.detached")
            left = {name: settings for name, settings in container.networks.items() if name != key}
            container = await self._registry.update(container.id, lambda c: c.replace(networks=left))
            if running:
                await self._connections.refresh(container)
                self._publish(network, "disconnect", container=container.id)

    def _publish(self, network: Network, action: str, **attributes: str) -> None:
        named = {"name": network.name, "type": network.driver}
        self._events.publish("network", action, network.id, {**attributes, **named})
