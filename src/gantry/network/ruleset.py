"""The rules of one daemon, as nft scripts. Pure text; `firewall` applies it.

The rules never change: what comes and goes are elements of sets and maps. A published port is one element of
a map, whatever the number of ports, and one lookup for a packet.

* `ports`: what is published, by address, protocol and port, or by protocol and port alone (0.0.0.0).
* `raw`: `route_localnet` is on for our bridges, so that 127.0.0.1 works for published ports; nothing that comes
  from a container may use it to reach the host's loopback.
* `postrouting`: masquerade on the way out; also for a packet that leaves by the bridge that it came from
  (hairpin), and for one that comes from the host's loopback. Else the source address stays.
* `forward`: between two bridges, and from outside to a container, only through a published port.
"""

from collections.abc import Iterable, Sequence

from gantry.model.network import PublishedPort
from gantry.network.records import EndpointRecord, NetworkRecord

_ANY = "0.0.0.0"  # noqa: S104 - a key, not a socket

_BODY = """\
	set bridges { type ifname; }
	set same { type ifname . ifname; }
	set internal { type ifname; }
	set local4 { type ipv4_addr . ifname; flags interval; }
	set outward4 { type ipv4_addr; flags interval; }
	map address4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
	map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }

	chain ports {
		dnat ip to ip daddr . meta l4proto . th dport map @address4
		dnat ip to meta l4proto . th dport map @any4
	}
	chain raw {
		type filter hook prerouting priority -300; policy accept;
		iifname @bridges ip daddr 127.0.0.0/8 drop
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local jump ports
	}
	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump ports
	}
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		ct status dnat ip saddr . oifname @local4 masquerade
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		oifname != @bridges ip saddr @outward4 masquerade
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname != @bridges oifname != @bridges accept
		ct state established,related accept
		ct status dnat accept
		iifname . oifname @same accept
		oifname @bridges drop
		iifname @internal drop
	}
"""


def whole(table: str, networks: Iterable[NetworkRecord], endpoints: Iterable[EndpointRecord]) -> str:
    """The complete table, in place of whatever it was before, in one transaction."""
    text = f"table inet {table} {{}}\ndelete table inet {table}\ntable inet {table} {{\n{_BODY}}}\n"
    text += "".join(network(table, each) for each in networks if each.bridge)
    return text + ports(table, [(each.endpoint.ip_address, each.endpoint.ports) for each in endpoints])


def remove(table: str) -> str:
    return f"table inet {table} {{}}\ndelete table inet {table}\n"


def network(table: str, record: NetworkRecord, verb: str = "add") -> str:
    """Make a network's bridge known to the rules (or `delete` it)."""
    bridge = f'"{record.bridge}"'
    lines = [f"bridges {{ {bridge} }}"]
    if record.icc:
        lines.append(f"same {{ {bridge} . {bridge} }}")
    if record.network.internal:
        lines.append(f"internal {{ {bridge} }}")
    lines.append(f"local4 {{ {record.subnet} . {bridge} }}")
    if record.masquerade and not record.network.internal:
        lines.append(f"outward4 {{ {record.subnet} }}")
    return "".join(f"{verb} element inet {table} {line}\n" for line in lines)


def ports(table: str, published: Iterable[tuple[str, Sequence[PublishedPort]]], verb: str = "add") -> str:
    """The elements for (container address, its ports); "" where nothing is published."""
    by_address: list[str] = []
    by_port: list[str] = []
    for address, each in ((address, port) for address, some in published for port in some):
        goal = f"{each.protocol} . {each.host_port} : {address} . {each.container_port}"
        if each.host_ip == _ANY:
            by_port.append(goal)
        else:
            by_address.append(f"{each.host_ip} . {goal}")
    text = ""
    for name, elements in (("address4", by_address), ("any4", by_port)):
        if elements:
            text += f"{verb} element inet {table} {name} {{ {', '.join(elements)} }}\n"
    return text
