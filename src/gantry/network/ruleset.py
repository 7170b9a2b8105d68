"""The rules of one daemon, as nft scripts. Pure text; `firewall` applies it.

The rules never change: what comes and goes are elements of sets and maps. A published port is one element of
a map, whatever the number of ports, and one lookup for a packet.

* `ports`: what is published, by address, protocol and port, or by protocol and port alone (0.0.0.0 and ::).
* `raw`: `route_localnet` is on for our bridges, so that 127.0.0.1 works for published ports; but nothing that
  comes from outside this host may have such an address, or it would reach ports published on loopback alone.
* `postrouting`: masquerade on the way out, or the address that a network has chosen; also for a packet that
  leaves by the bridge that it came from (hairpin), and for one that comes from the host's loopback. Else the
  source address stays.
* `forward`: the users' own chain first; then between two bridges, and from outside to a container, only through
  a published port, an opened one (mode routed), or to a network that is open or trusts that interface.

The users' chain is the one thing here that is not ours: it is made where it is missing and never emptied.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from gantry.model.network import PublishedPort
from gantry.network.records import OPEN_NAT, ROUTED, EndpointRecord, NetworkRecord

USER_CHAIN = "GANTRY-USER"
ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - keys, not sockets

_SETS: Mapping[str, str] = {
    "bridges": "set {name} { type ifname; }",
    "same": "set {name} { type ifname . ifname; }",
    "trusted": "set {name} { type ifname . ifname; }",
    "internal": "set {name} { type ifname; }",
    "direct4": "set {name} { type ifname; }",
    "direct6": "set {name} { type ifname; }",
    "routed4": "set {name} { type ifname; }",
    "routed6": "set {name} { type ifname; }",
    "local4": "set {name} { type ipv4_addr . ifname; flags interval; }",
    "local6": "set {name} { type ipv6_addr . ifname; flags interval; }",
    "outward4": "set {name} { type ipv4_addr; flags interval; }",
    "outward6": "set {name} { type ipv6_addr; flags interval; }",
    "open4": "set {name} { type ipv4_addr . inet_proto . inet_service; }",
    "open6": "set {name} { type ipv6_addr . inet_proto . inet_service; }",
    "source4": "map {name} { type ipv4_addr : ipv4_addr; flags interval; }",
    "source6": "map {name} { type ipv6_addr : ipv6_addr; flags interval; }",
    "address4": "map {name} { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }",
    "address6": "map {name} { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }",
    "any4": "map {name} { type inet_proto . inet_service : ipv4_addr . inet_service; }",
    "any6": "map {name} { type inet_proto . inet_service : ipv6_addr . inet_service; }",
}

_HOOKS: Mapping[str, str] = {
    "ports": "",
    "raw": "type filter hook prerouting priority -300; policy accept;",
    "prerouting": "type nat hook prerouting priority -100; policy accept;",
    "output": "type nat hook output priority -100; policy accept;",
    "postrouting": "type nat hook postrouting priority 100; policy accept;",
    "forward": "type filter hook forward priority 0; policy accept;",
}

_RULES: Mapping[str, str] = {
    "ports": """\
		dnat ip to ip daddr . meta l4proto . th dport map @address4
		dnat ip to meta l4proto . th dport map @any4
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @address6
		dnat ip6 to meta l4proto . th dport map @any6
""",
    "raw": """\
		iifname != "lo" ip daddr 127.0.0.0/8 drop
		iifname != "lo" ip saddr 127.0.0.0/8 drop
""",
    "prerouting": """\
		fib daddr type local jump ports
""",
    "output": """\
		fib daddr type local jump ports
""",
    "postrouting": """\
		ct status dnat ip saddr . oifname @local4 masquerade
		ct status dnat ip6 saddr . oifname @local6 masquerade
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		oifname @bridges ip6 saddr ::1 masquerade
		oifname != @bridges snat ip to ip saddr map @source4
		oifname != @bridges snat ip6 to ip6 saddr map @source6
		oifname != @bridges ip saddr @outward4 masquerade
		oifname != @bridges ip6 saddr @outward6 masquerade
""",
    "forward": f"""\
		jump {USER_CHAIN}
		iifname != @bridges oifname != @bridges accept
		ct state established,related accept
		ct status dnat accept
		iifname . oifname @same accept
		iifname . oifname @trusted accept
		iifname != @bridges meta nfproto ipv4 oifname @direct4 accept
		iifname != @bridges meta nfproto ipv6 oifname @direct6 accept
		ip daddr . meta l4proto . th dport @open4 accept
		ip6 daddr . meta l4proto . th dport @open6 accept
		oifname @routed4 icmp type echo-request accept
		oifname @routed6 icmpv6 type echo-request accept
		oifname @bridges drop
		iifname @internal drop
""",
}


def whole(table: str, networks: Iterable[NetworkRecord], endpoints: Iterable[EndpointRecord]) -> str:
    """All that is ours in the table, in place of what was there, in one transaction; the users' chain stays.

    A table whose sets are of other types (another version's) refuses this: `removal` helps.
    """
    text = f"table inet {table} {{\n\tchain {USER_CHAIN} {{ }}\n"
    text += "".join(f"\t{each.replace('{name}', name)}\n" for name, each in _SETS.items())
    text += "".join(f"\tchain {name} {{ {hook} }}\n" for name, hook in _HOOKS.items()) + "}\n"
    text += "".join(f"flush chain inet {table} {name}\n" for name in _HOOKS)
    text += "".join(f"flush {each.partition(' ')[0]} inet {table} {name}\n" for name, each in _SETS.items())
    text += f"table inet {table} {{\n"
    for name, rules in _RULES.items():
        text += f"\tchain {name} {{\n{rules}\t}}\n"
    text += "}\n" + "".join(network(table, each) for each in networks if each.bridge)
    return text + ports(table, endpoints)


def removal(table: str, present: Sequence[tuple[str, str]]) -> str:
    """Take out of the table what is ours of what is `present`: (chain, set or map, name)."""
    chains = [name for kind, name in present if kind == "chain" and name in _RULES]
    sets = [(kind, name) for kind, name in present if kind in ("set", "map") and name in _SETS]
    text = "".join(f"flush chain inet {table} {name}\n" for name in chains)
    text += "".join(f"delete chain inet {table} {name}\n" for name in chains)
    return text + "".join(f"delete {kind} inet {table} {name}\n" for kind, name in sets)


def complete(present: Iterable[tuple[str, str]]) -> bool:
    """Whether a table that holds this has all of its chains, sets and maps."""
    names = {name for _, name in present}
    return names >= {*_RULES, *_SETS, USER_CHAIN}


def network(table: str, record: NetworkRecord, verb: str = "add") -> str:
    """Make a network's bridge known to the rules (or `delete` it)."""
    bridge = f'"{record.bridge}"'
    lines = [f"bridges {{ {bridge} }}"]
    if record.icc:
        lines.append(f"same {{ {bridge} . {bridge} }}")
    if record.network.internal:
        lines.append(f"internal {{ {bridge} }}")
    lines += [f'trusted {{ "{each}" . {bridge} }}' for each in record.trusted]
    for version in (4, 6):
        lines += _family(record, version, bridge)
    return "".join(f"{verb} element inet {table} {line}\n" for line in lines)


def _family(record: NetworkRecord, version: int, bridge: str) -> list[str]:
    blocks = [each.net for each in record.blocks(version)]
    mode = record.mode(version)
    lines = [f"local{version} {{ {net} . {bridge} }}" for net in blocks]
    if blocks and mode == OPEN_NAT:
        lines.append(f"direct{version} {{ {bridge} }}")
    if blocks and mode == ROUTED:
        lines.append(f"routed{version} {{ {bridge} }}")
    if record.network.internal or mode == ROUTED:
        return lines
    source = next((each for each in record.sources if ipaddress.ip_address(each).version == version), "")
    if source:
        lines += [f"source{version} {{ {net} : {source} }}" for net in blocks]
    elif record.masquerade:
        lines += [f"outward{version} {{ {net} }}" for net in blocks]
    return lines


def ports(table: str, endpoints: Iterable[EndpointRecord], verb: str = "add") -> str:
    """The elements for all ports of endpoints; "" where nothing is published."""
    return port_elements(table, [(each, each.endpoint.ports) for each in endpoints], verb)


def port_elements(
    table: str, published: Iterable[tuple[EndpointRecord, Iterable[PublishedPort]]], verb: str = "add"
) -> str:
    """The elements for some ports of endpoints; host port 0 opens the container's own port (mode routed)."""
    elements: dict[str, list[str]] = {}
    for endpoint, some in published:
        for each in some:
            version = 6 if ":" in each.host_ip else 4
            address = endpoint.endpoint.ip_address if version == 4 else endpoint.endpoint.ipv6_address
            if not each.host_port:
                goal = f"{address} . {each.protocol} . {each.container_port}"
                elements.setdefault(f"open{version}", []).append(goal)
                continue
            goal = f"{each.protocol} . {each.host_port} : {address} . {each.container_port}"
            if each.host_ip == ANY[version]:
                elements.setdefault(f"any{version}", []).append(goal)
            else:
                elements.setdefault(f"address{version}", []).append(f"{each.host_ip} . {goal}")
    return "".join(
        f"{verb} element inet {table} {name} {{ {', '.join(dict.fromkeys(found))} }}\n"
        for name, found in sorted(elements.items())
    )
