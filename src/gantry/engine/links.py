"""Links between containers on the default bridge (`--link`): a line in /etc/hosts, and Docker's environment variables.

A link is kept as Docker shows it, `/TARGET:/OWN/ALIAS`. Links on other networks are names of the resolver.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gantry.engine.registry import Registry
from gantry.errors import InvalidArgument, NotFound
from gantry.model.container import Container, HostConfig, Phase
from gantry.model.network import Endpoint

DEFAULT = "bridge"
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(\w+))?")
_HIDDEN = ("HOME", "PATH")  # of the target's environment


class Link(NamedTuple):
    """The other container's name, and what this one calls it."""

    target: str
    alias: str


def parse_link(text: str) -> Link:
    """`NAME`, `NAME:ALIAS`, or the form that `inspect` shows; raises InvalidArgument."""
    name, colon, alias = text.partition(":")
    if not name or ":" in alias or (colon and not alias):
        raise InvalidArgument(f"bad format for links: {text}")
    if name.startswith("/") and alias:
        alias = alias.rpartition("/")[2]
    return Link(name.removeprefix("/"), alias or name.removeprefix("/"))


def checked_links(host: HostConfig, own: str, registry: Registry) -> HostConfig:
    """The links in the form in which they are kept; none where the resolver does the work.

    Raises InvalidArgument for a container that is not there, or that has the host's network.
    """
    if not host.links or host.network_mode != DEFAULT:
        return msgspec.structs.replace(host, links=None) if host.links is not None else host
    kept: list[str] = []
    for link in map(parse_link, host.links):
        try:
            target = registry.get(link.target)
        except NotFound as error:
            # A missing image is what a client understands by "not found".
            raise InvalidArgument(f"could not get container for {link.target}: {error.message}") from None
        if target.host_config.network_mode == "host":
            raise InvalidArgument(
                "conflicting options: host type networking can't be used with links."
                " This would result in undefined behavior"
            )
        kept.append(f"/{target.name}:/{own}/{link.alias}")
    return msgspec.structs.replace(host, links=kept)


def renamed_links(container: Container, old: str, new: str) -> HostConfig | None:
    """A container's settings after any container got another name; None where nothing changes."""
    if not container.host_config.links:
        return None
    changed: list[str] = []
    for text in container.host_config.links:
        target, _, own = text.partition(":")
        _, name, alias = own.split("/", 2)
        target = f"/{new}" if target == f"/{old}" else target
        changed.append(f"{target}:/{new if name == old else name}/{alias}")
    if changed == container.host_config.links:
        return None
    return msgspec.structs.replace(container.host_config, links=changed)


class Linked(NamedTuple):
    """A container that another one is linked to: `names` stand behind its address in /etc/hosts."""

    target: Container
    alias: str
    address: str
    names: str


def resolve_links(container: Container, registry: Registry, live: dict[str, dict[str, Endpoint]]) -> list[Linked]:
    """Where a container's links lead now; raises InvalidArgument where one does not run or has another network."""
    found: list[Linked] = []
    for text in container.host_config.links or () if container.host_config.network_mode == DEFAULT else ():
        link = parse_link(text)
        target = registry.get(link.target)
        if target.status.phase not in (Phase.RUNNING, Phase.PAUSED):
            raise InvalidArgument(
                f"Cannot link to a non running container: /{target.name} AS /{container.name}/{link.alias}"
            )
        endpoint = live.get(target.id, {}).get(DEFAULT)
        if endpoint is None:
            raise InvalidArgument(f"container {target.id} not attached to default bridge network")
        found.append(Linked(target, link.alias, endpoint.ip_address, host_names(target, link.alias)))
    return found


def host_names(target: Container, alias: str) -> str:
    """What stands behind a linked container's address."""
    return " ".join(dict.fromkeys((alias, target.config.hostname or target.id[:12], target.name)))


def environment(container: Container, links: Iterable[Linked]) -> list[str]:
    """Docker's variables for a container's links."""
    found: list[str] = []
    for link in links:
        prefix = link.alias.replace("-", "_").upper()
        ports = sorted(_ports(link.target.config.exposed_ports or ()), key=lambda port: (port[1] != "tcp", port[0]))
        if ports:
            found.append(f"{prefix}_PORT={ports[0][1]}://{link.address}:{ports[0][0]}")
        for first, last, protocol in _ranges(ports):
            name = f"{prefix}_PORT_{first}_{protocol.upper()}"
            if last > first:
                found += [
                    f"{name}_START={protocol}://{link.address}:{first}",
                    f"{name}_PORT_START={first}",
                    f"{name}_END={protocol}://{link.address}:{last}",
                    f"{name}_PORT_END={last}",
                ]
            for port in range(first, last + 1):
                name = f"{prefix}_PORT_{port}_{protocol.upper()}"
                found += [
                    f"{name}={protocol}://{link.address}:{port}",
                    f"{name}_ADDR={link.address}",
                    f"{name}_PORT={port}",
                    f"{name}_PROTO={protocol}",
                ]
        found.append(f"{prefix}_NAME=/{container.name}/{link.alias}")
        for item in link.target.config.env or ():
            name, equals, value = item.partition("=")
            if equals and name not in _HIDDEN:
                found.append(f"{prefix}_ENV_{name}={value}")
    return found


def _ports(exposed: Iterable[str]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for text in exposed:
        if match := _PORT.fullmatch(text):
            first = int(match[1])
            found += [(port, match[3] or "tcp") for port in range(first, int(match[2] or first) + 1)]
    return found


def _ranges(ports: Iterable[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Neighbouring ports of one protocol together."""
    found: list[tuple[int, int, str]] = []
    for port, protocol in ports:
        if found and found[-1][1] == port - 1 and found[-1][2] == protocol:
            found[-1] = (found[-1][0], port, protocol)
        else:
            found.append((port, port, protocol))
    return found
