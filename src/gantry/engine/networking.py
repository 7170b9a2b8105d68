"""A container's network for the length of its run: namespace, endpoints, and the events about them."""

import logging
from contextlib import suppress

import msgspec

from gantry.engine.links import DEFAULT, Linked, environment, host_names, parse_link, renamed_links, resolve_links
from gantry.engine.registry import Registry
from gantry.errors import Conflict, GantryError, Internal, NotFound
from gantry.model.container import Container, Phase
from gantry.model.network import Endpoint, EndpointSettings, Network, Sandbox
from gantry.ports import EndpointRequest, Events, NetworkNames, Networks
from gantry.trace import span

log = logging.getLogger(__name__)

_FAILED = "failed to set up container networking: "


class ContainerNetworks:
    """`endpoints` is who is on what right now, by container id and network name."""

    def __init__(self, registry: Registry, networks: Networks, names: NetworkNames, events: Events) -> None:
        self._registry = registry
        self._networks = networks
        self._names = names
        self._events = events
        self.endpoints: dict[str, dict[str, Endpoint]] = {}
        self.sandboxes: dict[str, Sandbox] = {}

    def donor(self, container: Container) -> Container | None:
        """The running container whose network this one shares; raises Conflict where it does not run."""
        kind, _, name = container.host_config.network_mode.partition(":")
        if kind != "container":
            return None
        try:
            other = self._registry.get(name)
        except NotFound as error:
            raise Internal(f"joining network namespace of container: {error.message}") from None
        if other.status.phase not in (Phase.RUNNING, Phase.PAUSED) or other.id not in self.sandboxes:
            raise Conflict(
                "cannot join network namespace of a non running container: "
                f"container {other.id} is {other.status.phase}"
            )
        return other

    async def open(self, container: Container) -> Sandbox:
        """The container's own namespace, or the one that it shares."""
        if (donor := self.donor(container)) is not None:
            return self.sandboxes[donor.id]
        with span("sandbox"):
            sandbox = await self._networks.open_sandbox(
                container,
                host=container.host_config.network_mode == "host",
                hosts=[(link.address, link.names) for link in self.links(container)],
            )
        self.sandboxes[container.id] = sandbox
        return sandbox

    def links(self, container: Container) -> list[Linked]:
        """Where a container's links on the default bridge lead; raises InvalidArgument where one leads nowhere."""
        return resolve_links(container, self._registry, self.endpoints)

    def variables(self, container: Container) -> list[str]:
        """The variables of a running container's links, without those whose targets have ended."""
        try:
            return environment(container, self.links(container))
        except GantryError:
            return []

    async def renamed(self, container_id: str, old: str, new: str) -> None:
        """A container has another name: the links that name it, and what the others call it, follow."""
        await self._names.rename(container_id, old, new)
        for other in list(self._registry):
            if (host := renamed_links(other, old, new)) is not None:
                await self._registry.update(other.id, lambda c, host=host: c.replace(host_config=host))  # type: ignore[misc]

    async def _tell_linked(self, container: Container, address: str) -> None:
        """Whoever is linked to a container that has started finds it under its new address."""
        for other in self._registry:
            if other.status.phase not in (Phase.RUNNING, Phase.PAUSED) or other.host_config.network_mode != DEFAULT:
                continue
            for text in other.host_config.links or ():
                link = parse_link(text)
                if link.target == container.name:
                    await self._names.set_host(other.id, address, host_names(container, link.alias))

    async def attach(self, container: Container) -> dict[str, EndpointSettings]:
        """Connect to every network of the container; returns their settings with the networks' ids.

        Raises what the networks raise, named as the start's network step.
        """
        settings: dict[str, EndpointSettings] = {}
        # The endpoint that will lead outside comes first: nothing has to be moved to it then.
        for name, asked in sorted(container.networks.items(), key=lambda each: (-each[1].gw_priority, each[0])):
            try:
                network = await self._attach_one(container, name, asked)
            except GantryError as error:
                raise type(error)(_FAILED + error.message) from error
            settings[name] = msgspec.structs.replace(asked, network_id=network.id)
        return settings

    async def _attach_one(self, container: Container, name: str, asked: EndpointSettings) -> Network:
        network = await self._networks.get(name)
        with span("endpoint"):
            made = await self._networks.attach(container, network, endpoint_request(container, asked))
        self.endpoints.setdefault(container.id, {})[name] = made
        if name == DEFAULT and made.ip_address:
            await self._tell_linked(container, made.ip_address)
        self._publish("connect", network, container.id)
        return network

    async def refresh(self, container: Container) -> None:
        """Read a container's endpoints again: what happens to one may have moved ports and routes of the others."""
        found: dict[str, Endpoint] = {}
        for endpoint in await self._networks.endpoints(container_id=container.id):
            network = await self._networks.get(endpoint.network_id)
            # The container may name the network by its id.
            key = next((name for name in container.networks if name in (network.name, network.id)), network.name)
            found[key] = endpoint
        if found:
            self.endpoints[container.id] = found
        else:
            self.endpoints.pop(container.id, None)

    async def release(self, container: Container) -> None:
        """Give everything back. What fails is logged, and found again when a daemon starts."""
        endpoints = self.endpoints.pop(container.id, {})
        self.sandboxes.pop(container.id, None)
        if not container.host_config.network_mode.startswith("container:"):
            try:
                with span("network"):
                    await self._networks.close_sandbox(container.id)
            except GantryError as error:
                log.error("container %s: cannot release its network: %s", container.id[:12], error)  # noqa: TRY400
        for endpoint in endpoints.values():
            with suppress(NotFound):  # it was removed by force
                self._publish("disconnect", await self._networks.get(endpoint.network_id), container.id)

    async def adopt(self, container: Container) -> None:
        """Know again what a container has that runs since before this daemon did.

        A connection that was half made is taken back; one that was half undone is undone.
        """
        if container.sandbox is not None:
            self.sandboxes[container.id] = container.sandbox
        for endpoint in await self._networks.endpoints(container_id=container.id):
            network = await self._networks.get(endpoint.network_id)
            # The container may name the network by its id.
            if not any(name in (network.name, network.id) for name in container.networks):
                await self._networks.detach(container.id, network.id)
        await self.refresh(container)
        if gone := set(container.networks) - set(self.endpoints.get(container.id, ())):
            left = {name: asked for name, asked in container.networks.items() if name not in gone}
            await self._registry.update(container.id, lambda c: c.replace(networks=left))

    def _publish(self, action: str, network: Network, container_id: str) -> None:
        attributes = {"container": container_id, "name": network.name, "type": network.driver}
        self._events.publish("network", action, network.id, attributes)


def endpoint_request(container: Container, asked: EndpointSettings) -> EndpointRequest:
    """What a container asks of one of its networks. Its ports are published on the one that leads outside."""
    host = container.host_config
    publishing = host.network_mode != "host"
    return EndpointRequest(
        asked,
        hostname=container.config.hostname,
        names=(container.name, container.id[:12]),
        port_bindings=(host.port_bindings or {}) if publishing else {},
        publish_all=host.publish_all_ports and publishing,
        exposed=tuple(container.config.exposed_ports or ()),
    )
