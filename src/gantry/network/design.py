"""Networks before they exist: from a request or the configuration, and what the host has, to a record. Pure."""

import ipaddress
from collections.abc import Collection, Iterable, Mapping

import msgspec

from gantry.errors import Forbidden, Internal
from gantry.linux.netlink import Link
from gantry.model import timestamp
from gantry.model.identity import new_id
from gantry.model.instance import Instance
from gantry.model.network import IPAM, IPAMPool, Network
from gantry.network import options, requests
from gantry.network.addresses import Net, choose_subnet, edges
from gantry.network.hostfacts import HostFacts
from gantry.network.records import ISOLATED, NetworkRecord, Subnet
from gantry.network.settings import NetworkSettings, parse_interface
from gantry.ports import NetworkRequest


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
    """A checked request with everything decided; raises Forbidden for a subnet or an interface that is taken."""
    network_id = new_id()
    given = request.options
    bridge = ""
    if request.driver == requests.BRIDGE:
        bridge = given.get(options.BRIDGE_NAME) or f"br-{network_id[:12]}"
        _check_bridge_is_free(bridge, network_id, existing)
    subnets, shown = _subnets(request, settings, instance, facts, existing)
    ipv4, ipv6 = options.families(given, request.enable_ipv4, request.enable_ipv6)
    there = facts.links.get(bridge)
    record = NetworkRecord(
        Network(
            name=request.name,
            id=network_id,
            created=timestamp.rfc3339(timestamp.now()),
            driver=request.driver,
            enable_ipv4=ipv4,
            enable_ipv6=ipv6,
            ipam=IPAM(request.ipam.driver or "default", request.ipam.options, shown),
            internal=request.internal,
            attachable=request.attachable,
            options=given,
            labels=request.labels,
        ),
        bridge=bridge,
        managed=there is None or is_ours(there, instance),
        subnets=subnets,
        mtu=options.mtu(given) or settings.mtu or facts.uplink_mtu(),
        icc=options.flag(given, options.ICC, True),
        masquerade=options.flag(given, options.MASQUERADE, True),
        mode4=requests.mode_of(request, 4),
        mode6=requests.mode_of(request, 6),
        host_ip=options.address(given, options.HOST_BINDING),
        sources=tuple(text for name in options.SOURCES.values() if (text := options.address(given, name))),
        trusted=requests.trusted_interfaces(given),
        prefix=given.get(options.IFACE_PREFIX, "") or "eth",
        addressed=not options.flag(given, options.INHIBIT_IPV4, False),
    )
    return record if request.driver == requests.BRIDGE else _on_parent(record, facts, existing)


def _check_bridge_is_free(bridge: str, network_id: str, existing: Iterable[NetworkRecord]) -> None:
    for other in existing:
        if other.bridge == bridge:
            raise Forbidden(
                f"cannot create network {network_id} ({bridge}): conflicts with network {other.id} ({other.bridge}):"
                " networks have same bridge name"
            )


def _on_parent(record: NetworkRecord, facts: HostFacts, existing: Iterable[NetworkRecord]) -> NetworkRecord:
    """A macvlan or ipvlan network: which interface of the host it stands on, and whether that one is ours to make."""
    given = record.network.options
    driver = record.driver
    parent = given.get(requests.PARENT, "")
    for other in existing:
        if parent and other.parent == parent and "passthru" in (other.link_mode, given.get(requests.MACVLAN_MODE)):
            raise Internal(f"network {other.name} is already using parent interface {parent}")
    managed = False
    if not parent:
        parent, managed = f"{'dm' if driver == requests.MACVLAN else 'di'}-{record.id[:12]}", True
    elif parent not in facts.links:
        vlan = requests.vlan_of(parent)
        if vlan is None:
            raise Internal(f"invalid subinterface vlan name {parent}, example formatting is eth0.10")
        if vlan[0] not in facts.links:
            raise Internal(f"-o parent interface was not found on the host: {vlan[0]}")
        managed = True
    below = facts.links.get(parent) or facts.links.get(parent.rpartition(".")[0])
    mode = given.get(requests.MACVLAN_MODE if driver == requests.MACVLAN else requests.IPVLAN_MODE, "")
    return msgspec.structs.replace(
        record,
        parent=parent,
        managed=managed,
        mtu=options.mtu(given) or (below.mtu if below else record.mtu),
        link_mode=mode or ("bridge" if driver == requests.MACVLAN else "l2"),
        link_flag=given.get(requests.IPVLAN_FLAG, ""),
    )


def _subnets(
    request: NetworkRequest,
    settings: NetworkSettings,
    instance: Instance,
    facts: HostFacts,
    existing: Collection[NetworkRecord],
) -> tuple[tuple[Subnet, ...], list[IPAMPool]]:
    """The subnets of a network, and its IPAM configuration as it is shown: what was asked for, then what was chosen.

    Docker ignores a pool of a family that the network does not have, and shows it.
    """
    own: list[Net] = [subnet.network for each in existing for subnet in each.subnets]
    pools = list(request.ipam.config or [])
    subnets: list[Subnet] = []
    shown: list[IPAMPool] = []
    wanted = options.families(request.options, request.enable_ipv4, request.enable_ipv6)
    versions = [version for version, on in ((4, wanted[0]), (6, wanted[1])) if on]
    chosen = list(pools)
    for version in versions:
        if not any(pool.subnet and ipaddress.ip_network(pool.subnet).version == version for pool in pools):
            seed = f"{instance.data_root} {instance.name}"
            net = choose_subnet(settings.pools(version, seed), [*own, *facts.used()])
            own.append(net)
            chosen.append(IPAMPool(str(net)))
    for number, pool in enumerate(chosen):
        net = ipaddress.ip_network(pool.subnet)
        if net.version not in versions:
            shown.append(pool)
            continue
        if number < len(pools):
            if any(net.version == each.version and net.overlaps(each) for each in own):
                raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
            own.append(net)
        gateway = _gateway(request, pool, net)
        subnets.append(
            Subnet(
                str(net),
                gateway,
                pool.ip_range,
                tuple((pool.auxiliary_addresses or {}).values()),
                configured=number < len(pools),
            )
        )
        shown.append(pool if number < len(pools) else msgspec.structs.replace(pool, gateway=gateway))
    return tuple(subnets), shown


def _gateway(request: NetworkRequest, pool: IPAMPool, net: Net) -> str:
    """The gateway that was asked for or the first free address, "" where the network has none."""
    reserved = pool.auxiliary_addresses or {}
    if pool.gateway:
        if int(ipaddress.ip_address(pool.gateway)) in edges(net):
            raise Internal(f"failed to allocate gateway ({pool.gateway}): Address already in use")
        for name, address in reserved.items():
            if ipaddress.ip_address(address) == ipaddress.ip_address(pool.gateway):
                raise Internal(f"failed to allocate secondary ip address ({name}:{address}): Address already in use")
        return str(ipaddress.ip_address(pool.gateway))
    if requests.mode_of(request, net.version) == ISOLATED:
        return ""
    within = ipaddress.ip_network(pool.ip_range) if pool.ip_range else net
    return _first_free(within, net, set(reserved.values()))


def default_network(
    settings: NetworkSettings,
    instance: Instance,
    facts: HostFacts,
    before: NetworkRecord | None,
    others: Collection[Net],
) -> NetworkRecord:
    """The network `bridge` as the configuration and the host want it; it keeps the id and, if possible, the subnets."""
    bridge = settings.bridge or bridge_name(instance, facts.links)
    there = facts.links.get(bridge)
    if settings.bridge and there is None:
        raise Internal(f"bridge device with non default name {bridge} must be created manually")
    used = [*others, *facts.used(but=[bridge])]
    subnets = []
    for version in (4, 6) if settings.ipv6 else (4,):
        on_bridge = [
            at
            for number, at in facts.addresses
            if there is not None and number == there.number and at.version == version and not at.is_link_local
        ]
        kept = before.blocks(version) if before is not None else ()
        given = _default_subnet(settings, version, on_bridge if settings.bridge else [])
        if given is None:
            given = next((each for each in kept if not _overlaps(each.network, used)), None)
        if given is None:
            net = choose_subnet(settings.pools(version, f"{instance.data_root} {instance.name}"), used)
            given = Subnet(str(net), _first_free(net, net, set()))
        ranges = {4: settings.fixed_cidr, 6: settings.fixed_cidr6}[version]
        via = {4: settings.default_gateway, 6: settings.default_gateway6}[version]
        narrow = str(parse_interface(ranges, "fixed-cidr", version).network) if ranges else ""
        if narrow == given.net:
            narrow = ""
        subnets.append(Subnet(given.net, given.gateway, narrow, (via,) if via else ()))
    mtu = settings.mtu or facts.uplink_mtu()
    known = before.network if before is not None else None
    network = Network(
        name="bridge",
        id=known.id if known else new_id(),
        created=known.created if known else timestamp.rfc3339(timestamp.now()),
        driver="bridge",
        enable_ipv6=settings.ipv6,
        ipam=IPAM(config=[IPAMPool(each.net, each.ip_range, each.gateway) for each in subnets]),
        options={
            options.DEFAULT_BRIDGE: "true",
            options.ICC: str(settings.icc).lower(),
            options.MASQUERADE: str(settings.ip_masq).lower(),
            options.HOST_BINDING: settings.ip,
            options.BRIDGE_NAME: bridge,
            options.MTU: str(mtu),
        },
    )
    return NetworkRecord(
        network,
        bridge=bridge,
        managed=not settings.bridge,
        subnets=tuple(subnets),
        mtu=mtu,
        icc=settings.icc,
        masquerade=settings.ip_masq,
        host_ip=settings.ip,
        route_via=tuple(each for each in (settings.default_gateway, settings.default_gateway6) if each),
    )


def _default_subnet(
    settings: NetworkSettings, version: int, on_bridge: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]
) -> Subnet | None:
    """What configuration, or the address of a bridge that is not ours, says about the default network's subnet."""
    bip = {4: settings.bip, 6: settings.bip6}[version]
    found = parse_interface(bip, "bip" if version == 4 else "bip6", version) if bip else next(iter(on_bridge), None)
    if found is None and version == 6 and settings.fixed_cidr6:
        net = parse_interface(settings.fixed_cidr6, "fixed-cidr-v6", 6).network
        return Subnet(str(net), _first_free(net, net, set()))
    return Subnet(str(found.network), str(found.ip)) if found is not None else None


def _overlaps(net: Net, used: Iterable[Net]) -> bool:
    return any(net.version == each.version and net.overlaps(each) for each in used)


def same_effect(one: NetworkRecord, other: NetworkRecord) -> bool:
    """Whether two records of a network mean the same to containers that are attached already."""
    return (one.bridge, _blocks(one)) == (other.bridge, _blocks(other))


def _blocks(record: NetworkRecord) -> list[tuple[str, str]]:
    return [(each.net, each.gateway) for each in record.subnets]


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
    outside = edges(subnet) | {int(ipaddress.ip_address(each)) for each in reserved}
    kind = ipaddress.IPv4Address if subnet.version == 4 else ipaddress.IPv6Address
    for number in range(int(within.network_address), int(within.broadcast_address) + 1):
        if number not in outside:
            return str(kind(number))
    raise Forbidden(f"no free address for the gateway in {within}")
