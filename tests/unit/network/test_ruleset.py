"""The rules as text: fixed, with elements that come and go."""

from gantry.model.network import Endpoint, Network, PublishedPort
from gantry.network import ruleset
from gantry.network.records import EndpointRecord, NetworkRecord

BRIDGE = NetworkRecord(Network("bridge", "1" * 64, ""), bridge="docker0", subnet="172.17.0.0/16", gateway="172.17.0.1")
INTERNAL = NetworkRecord(
    Network("in", "2" * 64, "", internal=True), bridge="br-2", subnet="172.18.0.0/16", gateway="172.18.0.1", icc=False
)
HOST = NetworkRecord(Network("host", "3" * 64, "", driver="host"))
PORTS = (PublishedPort("tcp", 80, "0.0.0.0", 8080), PublishedPort("udp", 53, "127.0.0.1", 53))
ENDPOINT = EndpointRecord(Endpoint("c", "1" * 64, "e", ip_address="172.17.0.2", ports=PORTS))


def test_ports_are_elements_of_two_maps() -> None:
    assert ruleset.ports("t", [("172.17.0.2", PORTS)]).splitlines() == [
        "add element inet t address4 { 127.0.0.1 . udp . 53 : 172.17.0.2 . 53 }",
        "add element inet t any4 { tcp . 8080 : 172.17.0.2 . 80 }",
    ]
    assert ruleset.ports("t", [("172.17.0.2", ())]) == ""


def test_two_hundred_ports_are_one_line() -> None:
    many = tuple(PublishedPort("tcp", number, "0.0.0.0", number) for number in range(2000, 2200))
    assert ruleset.ports("t", [("172.17.0.2", many)]).count("\n") == 1


def test_what_is_added_is_deleted_again() -> None:
    added = ruleset.network("t", INTERNAL)
    assert ruleset.network("t", INTERNAL, "delete") == added.replace("add element", "delete element")
    assert 'internal { "br-2" }' in added
    assert "same" not in added
    assert "outward4" not in added


def test_the_whole_table_replaces_what_was_there() -> None:
    text = ruleset.whole("t", [BRIDGE, INTERNAL, HOST], [ENDPOINT])
    assert text.index("delete table inet t") < text.index("chain forward")
    assert "add element inet t outward4 { 172.17.0.0/16 }" in text
    assert "tcp . 8080 : 172.17.0.2 . 80" in text
