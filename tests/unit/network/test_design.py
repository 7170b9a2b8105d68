"""Networks before they exist: which bridge, which subnet, whose."""

import ipaddress
from pathlib import Path

import pytest

from gantry.errors import Forbidden, Internal
from gantry.linux.netlink import Link, Route
from gantry.model.instance import DEFAULT_DATA_ROOT, Instance
from gantry.model.network import IPAM, IPAMPool
from gantry.network.design import bridge_name, default_network, user_network
from gantry.network.hostfacts import HostFacts
from gantry.network.records import NetworkRecord, Subnet
from gantry.network.settings import NetworkSettings
from gantry.ports import NetworkRequest

OURS = Instance.of(DEFAULT_DATA_ROOT, Path("/run/gantry"))
OTHER = Instance.of(Path("/srv/two"), Path("/run/two"))


def facts(*links: Link, addresses: dict[int, str] | None = None, routes: dict[str, int] | None = None) -> HostFacts:
    made = HostFacts.__new__(HostFacts)
    made.links = {link.name: link for link in (Link(1, "lo", "", 65536, 0, "", True, ""), *links)}
    made.addresses = [(number, ipaddress.ip_interface(text)) for number, text in (addresses or {}).items()]
    made.routes = [Route(ipaddress.ip_network(net), None, number) for net, number in (routes or {}).items()]
    return made


def link(number: int, name: str, kind: str = "bridge", alias: str = "", mtu: int = 1500) -> Link:
    return Link(number, name, kind, mtu, 0, alias, True, "02:00:00:00:00:01")


def v4(record: NetworkRecord) -> Subnet:
    [block] = record.blocks(4)
    return block


def test_the_bridge_is_docker0_unless_another_engine_has_it() -> None:
    assert bridge_name(OURS, {}) == "docker0"
    assert bridge_name(OURS, {"docker0": link(2, "docker0", alias="gantry")}) == "docker0"
    assert bridge_name(OURS, {"docker0": link(2, "docker0")}) == "gantry0"
    name = bridge_name(OTHER, {})
    assert name == f"{OTHER.tag}0"
    assert len(name) <= 15


def test_the_default_subnet_avoids_addresses_and_routes() -> None:
    host = facts(
        link(2, "eth0", "", mtu=1400), addresses={2: "172.17.3.4/24"}, routes={"172.18.0.0/15": 2, "0.0.0.0/0": 2}
    )
    made = default_network(NetworkSettings(), OURS, host, None, [])
    assert (v4(made).net, v4(made).gateway, made.mtu) == ("172.20.0.0/16", "172.20.0.1", 1400)
    assert made.network.options["com.docker.network.driver.mtu"] == "1400"
    assert made.network.options["com.docker.network.bridge.name"] == "docker0"


def test_it_keeps_id_and_subnet_but_yields_to_what_is_new_on_the_host() -> None:
    first = default_network(NetworkSettings(), OURS, facts(), None, [])
    there = link(5, "docker0", alias="gantry")
    again = default_network(NetworkSettings(), OURS, facts(there, addresses={5: "172.17.0.1/16"}), first, [])
    assert again == first
    moved = default_network(NetworkSettings(), OURS, facts(link(7, "tun0", ""), routes={"172.16.0.0/12": 7}), first, [])
    assert moved.id == first.id
    assert v4(moved).net == "192.168.0.0/20"


def test_configuration_decides() -> None:
    settings = NetworkSettings(bip="10.5.0.1/24", fixed_cidr="10.5.0.128/25", mtu=1300, icc=False, ip_masq=False)
    made = default_network(settings, OURS, facts(), None, [])
    assert (v4(made).net, v4(made).gateway, v4(made).ip_range, made.mtu) == (
        "10.5.0.0/24",
        "10.5.0.1",
        "10.5.0.128/25",
        1300,
    )
    assert (made.icc, made.masquerade, made.managed) == (False, False, True)
    own = default_network(
        NetworkSettings(bridge="br0"), OURS, facts(link(3, "br0"), addresses={3: "10.6.0.7/24"}), None, []
    )
    assert (own.bridge, own.managed, v4(own).gateway) == ("br0", False, "10.6.0.7")
    with pytest.raises(Internal, match="br1"):
        default_network(NetworkSettings(bridge="br1"), OURS, facts(), None, [])


def test_user_networks() -> None:
    first = user_network(NetworkRequest("a"), NetworkSettings(), OURS, facts(), [])
    assert (v4(first).net, v4(first).gateway, v4(first).configured) == ("172.17.0.0/16", "172.17.0.1", False)
    assert first.bridge == f"br-{first.id[:12]}"
    assert first.network.ipam.config == [IPAMPool("172.17.0.0/16", gateway="172.17.0.1")]
    second = user_network(NetworkRequest("b"), NetworkSettings(), OURS, facts(), [first])
    assert v4(second).net == "172.18.0.0/16"


def test_a_chosen_subnet_is_shown_as_it_was_given() -> None:
    pool = IPAMPool("10.9.0.0/24", "10.9.0.0/25", auxiliary_addresses={"router": "10.9.0.1"})
    made = user_network(NetworkRequest("a", ipam=IPAM(config=[pool])), NetworkSettings(), OURS, facts(), [])
    assert (v4(made).gateway, v4(made).reserved, v4(made).configured) == ("10.9.0.2", ("10.9.0.1",), True)
    assert made.network.ipam.config == [pool]
    inner = NetworkRequest("b", ipam=IPAM(config=[IPAMPool("10.9.0.128/25")]))
    with pytest.raises(Forbidden, match="invalid pool request: Pool overlaps with other one on this address space"):
        user_network(inner, NetworkSettings(), OURS, facts(), [made])


def test_one_bridge_serves_one_network() -> None:
    option = {"com.docker.network.bridge.name": "mine"}
    first = user_network(NetworkRequest("a", options=option), NetworkSettings(), OURS, facts(), [])
    assert first.bridge == "mine"
    with pytest.raises(Forbidden, match="networks have same bridge name"):
        user_network(NetworkRequest("b", options=option), NetworkSettings(), OURS, facts(), [first])
    foreign = user_network(NetworkRequest("c", options=option), NetworkSettings(), OURS, facts(link(4, "mine")), [])
    assert foreign.managed is False
