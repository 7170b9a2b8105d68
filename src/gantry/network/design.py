"""Networks before they exist: from a request or the configuration, and what the host has, to a record. Pure."""

import ipaddress
from collections.abc import Collection, Mapping

from gantry.errors import Forbidden, Internal
from gantry.linux.netlink import Link
from gantry.model import timestamp
from gantry.model.identity import new_id
from gantry.model.instance import Instance
from gantry.model.network import IPAM, IPAMPool, Network
from gantry.network import requests
from gantry.network.addresses import choose_subnet
from gantry.network.bridge import HostFacts
from gantry.network.records import NetworkRecord
from gantry.network.settings import NetworkSettings, parse_interface
from gantry.ports import NetworkRequest

Net = ipaddress.IPv4Network


def simple_network(name: str, driver: str) -> NetworkRecord:
    """`host` or `none`: a name without interfaces."""
    return NetworkRecord(Network(name, new_id(), timestamp.rfc3339(timestamp.now()), driver=driver))


def user_network(
    request: NetworkRequest,
    settings: NetworkSettings,
    instance: Instance,
    facts: HostFacts,
    existing: Collection[NetworkRecord],
) -> NetworkRecord:
    """A checked request with everything decided; raises Forbidden for a subnet or a bridge that is taken."""
    network_id = new_id()
    bridge = request.options.get(requests.BRIDGE_NAME) or f"br-{network_id[:12]}"
    for other in existing:
        if other.bridge == bridge:
            raise Forbidden(
                f"cannot create network {network_id} ({bridge}): conflicts with network {other.id} ({other.bridge}):"
                " networks have same bridge name"
            )
    own = [Net(each.subnet) for each in existing if each.subnet]
    asked = (request.ipam.config or [IPAMPool()])[0]
    shown = request.ipam.config
    if asked.subnet:
        subnet = Net(asked.subnet)
        if any(subnet.overlaps(each) for each in own):
            raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
    else:
        subnet = choose_subnet(settings.pools, [*own, *facts.used()])
    reserved = tuple((asked.auxiliary_addresses or {}).values())
    gateway = asked.gateway or _first_free(Net(asked.ip_range) if asked.ip_range else subnet, subnet, reserved)
    if shown is None or not asked.subnet:
        shown = [IPAMPool(str(subnet), gateway=gateway)]
    there = facts.links.get(bridge)
    return NetworkRecord(
        Network(
            name=request.name,
            id=network_id,
            created=timestamp.rfc3339(timestamp.now()),
            driver="bridge",
            enable_ipv4=True,
            enable_ipv6=False,
            ipam=IPAM(request.ipam.driver or "default", request.ipam.options, shown),
            internal=request.internal,
            attachable=request.attachable,
            options=request.options,
            labels=request.labels,
        ),
        bridge=bridge,
        managed=there is None or is_ours(there, instance),
        subnet=str(subnet),
        gateway=gateway,
        ip_range=asked.ip_range,
        reserved=reserved,
        configured=bool(asked.subnet),
        mtu=requests.integer_option(request.options, requests.MTU, 0) or settings.mtu or facts.uplink_mtu(),
        icc=requests.flag_option(request.options, requests.ICC, True),
        masquerade=requests.flag_option(request.options, requests.MASQUERADE, True),
        host_ip=request.options.get(requests.HOST_BINDING, ""),
    )


def default_network(
    settings: NetworkSettings,
    instance: Instance,
    facts: HostFacts,
    before: NetworkRecord | None,
    others: Collection[Net],
) -> NetworkRecord:
    """The network `bridge` as the configuration and the host want it; it keeps the id and, if possible, the subnet."""
    bridge = settings.bridge or bridge_name(instance, facts.links)
    there = facts.links.get(bridge)
    bip = parse_interface(settings.bip, "bip") if settings.bip else None
    if settings.bridge:
        if there is None:
            raise Internal(f"bridge device with non default name {bridge} must be created manually")
        bip = next(
            (
                at
                for number, at in facts.addresses
                if number == there.number and isinstance(at, ipaddress.IPv4Interface)
            ),
            None,
        )
    used = [*others, *facts.used(but=[bridge])]
    if bip is not None:
        subnet, gateway = bip.network, str(bip.ip)
    elif before is not None and before.subnet and not any(Net(before.subnet).overlaps(each) for each in used):
        subnet, gateway = Net(before.subnet), before.gateway
    else:
        subnet = choose_subnet(settings.pools, used)
        gateway = str(subnet.network_address + 1)
    if gateway and ipaddress.IPv4Address(gateway) not in subnet:
        gateway = str(subnet.network_address + 1)
    fixed = str(parse_interface(settings.fixed_cidr, "fixed-cidr").network) if settings.fixed_cidr else ""
    mtu = settings.mtu or facts.uplink_mtu()
    known = before.network if before is not None else None
    network = Network(
        name="bridge",
        id=known.id if known else new_id(),
        created=known.created if known else timestamp.rfc3339(timestamp.now()),
        driver="bridge",
        ipam=IPAM(config=[IPAMPool(str(subnet), fixed, gateway)]),
        options={
            requests.DEFAULT_BRIDGE: "true",
            requests.ICC: str(settings.icc).lower(),
            requests.MASQUERADE: str(settings.ip_masq).lower(),
            requests.HOST_BINDING: settings.ip,
            requests.BRIDGE_NAME: bridge,
            requests.MTU: str(mtu),
        },
    )
    return NetworkRecord(
        network,
        bridge=bridge,
        managed=not settings.bridge,
        subnet=str(subnet),
        gateway=gateway,
        ip_range=fixed,
        reserved=(settings.default_gateway,) if settings.default_gateway else (),
        mtu=mtu,
        icc=settings.icc,
        masquerade=settings.ip_masq,
        host_ip=settings.ip,
        route_via=settings.default_gateway,
    )


def same_effect(one: NetworkRecord, other: NetworkRecord) -> bool:
    """Whether two records of a network mean the same to containers that are attached already."""
    return (one.bridge, one.subnet, one.gateway) == (other.bridge, other.subnet, other.gateway)


def bridge_name(instance: Instance, links: Mapping[str, Link]) -> str:
    """`docker0`, or `gantry0` where another engine has that name; other instances have a name of their own."""
    if instance.name != "gantry":
        return f"{instance.tag}0"
    there = links.get("docker0")
    return "docker0" if there is None or is_ours(there, instance) else "gantry0"


def is_ours(link: Link, instance: Instance) -> bool:
    """Our bridges carry the instance's name as their alias."""
    return link.kind == "bridge" and link.alias == instance.name


def _first_free(within: Net, subnet: Net, reserved: Collection[str]) -> str:
    """The gateway that Docker chooses: the lowest address."""
    start = int(within.network_address)
    for number in range(start, int(within.broadcast_address) + 1):
        address = ipaddress.IPv4Address(number)
        if subnet.prefixlen < 31 and address in (subnet.network_address, subnet.broadcast_address):
            continue
        if str(address) not in reserved:
            return str(address)
    raise Forbidden(f"no free address for the gateway in {within}")
