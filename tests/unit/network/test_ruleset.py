"""The rules as text: fixed, with elements that come and go."""

import msgspec

from gantry.model.network import Endpoint, Network, PublishedPort
from gantry.network import ruleset
from gantry.network.records import EndpointRecord, NetworkRecord, Subnet

BRIDGE = NetworkRecord(
    Network("bridge", "1" * 64, ""), bridge="docker0", subnets=(Subnet("172.17.0.0/16", "172.17.0.1"),)
)
INTERNAL = NetworkRecord(
    Network("in", "2" * 64, "", internal=True),
    bridge="br-2",
    subnets=(Subnet("172.18.0.0/16", "172.18.0.1"),),
    icc=False,
)
HOST = NetworkRecord(Network("host", "3" * 64, "", driver="host"))
PORTS = (PublishedPort("tcp", 80, "0.0.0.0", 8080), PublishedPort("udp", 53, "127.0.0.1", 53))


def endpoint(*ports: PublishedPort) -> EndpointRecord:
    return EndpointRecord(Endpoint("c", "1" * 64, "e", ip_address="172.17.0.2", ipv6_address="fd00::2", ports=ports))


ENDPOINT = endpoint(*PORTS)


def test_ports_are_elements_of_two_maps() -> None:
    assert ruleset.ports("t", [ENDPOINT]).splitlines() == [
        "add element inet t address4 { 127.0.0.1 . udp . 53 : 172.17.0.2 . 53 }",
        "add element inet t any4 { tcp . 8080 : 172.17.0.2 . 80 }",
    ]
    assert ruleset.ports("t", [endpoint()]) == ""


def test_two_hundred_ports_are_one_line() -> None:
    many = tuple(PublishedPort("tcp", number, "0.0.0.0", number) for number in range(2000, 2200))
    assert ruleset.ports("t", [endpoint(*many)]).count("\n") == 1


def test_what_is_added_is_deleted_again() -> None:
    added = ruleset.network("t", INTERNAL)
    assert ruleset.network("t", INTERNAL, "delete") == added.replace("add element", "delete element")
    assert 'internal { "br-2" }' in added
    assert "same" not in added
    assert "outward4" not in added


def test_both_families_and_opened_ports() -> None:
    ports = (
        PublishedPort("tcp", 80, "::", 8080),
        PublishedPort("tcp", 80, "::1", 8081),
        PublishedPort("udp", 53, "0.0.0.0", 0),
    )
    assert ruleset.ports("t", [endpoint(*ports)]).splitlines() == [
        "add element inet t address6 { ::1 . tcp . 8081 : fd00::2 . 80 }",
        "add element inet t any6 { tcp . 8080 : fd00::2 . 80 }",
        "add element inet t open4 { 172.17.0.2 . udp . 53 }",
    ]


def test_modes_of_networks() -> None:
    def lines(**changes: object) -> str:
        return ruleset.network("t", msgspec.structs.replace(BRIDGE, **changes))

    assert "outward4 { 172.17.0.0/16 }" in lines()
    assert "outward" not in lines(mode4="routed")
    assert 'routed4 { "docker0" }' in lines(mode4="routed")
    assert 'direct4 { "docker0" }' in lines(mode4="nat-unprotected")
    assert "source4 { 172.17.0.0/16 : 192.0.2.7 }" in lines(sources=("192.0.2.7",))
    assert "outward" not in lines(sources=("192.0.2.7",))
    assert 'trusted { "eth1" . "docker0" }' in lines(trusted=("eth1",))


def test_the_whole_table_replaces_all_but_the_users_chain() -> None:
    text = ruleset.whole("t", [BRIDGE, INTERNAL, HOST], [ENDPOINT])
    assert "flush chain inet t forward" in text
    assert "flush chain inet t GANTRY-USER" not in text
    assert text.index("jump GANTRY-USER") < text.index("accept\n", text.index("jump GANTRY-USER"))
    assert "delete" not in text
    assert "add element inet t outward4 { 172.17.0.0/16 }" in text
    assert "tcp . 8080 : 172.17.0.2 . 80" in text
    present = [("chain", "GANTRY-USER"), ("chain", "forward"), ("set", "mine"), ("map", "any4"), ("set", "bridges")]
    assert ruleset.removal("t", present).splitlines() == [
        "flush chain inet t forward",
        "delete chain inet t forward",
        "delete map inet t any4",
        "delete set inet t bridges",
    ]
    assert not ruleset.complete(present)
