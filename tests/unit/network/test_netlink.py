"""The rtnetlink codec, and what it says about this machine (no privilege needed)."""

import ipaddress
import socket

from hypothesis import given
from hypothesis import strategies as st

from gantry.linux import netlink


@given(st.binary(max_size=200))
def test_attributes_never_fail(data: bytes) -> None:
    for kind, value in netlink.attributes(data):
        assert kind <= 0x3FFF
        assert len(value) <= len(data)


def test_attributes_of_a_message() -> None:
    body = netlink.add_bridge("docker0", "02:42:ac:11:00:01", 1400).body
    found = dict(netlink.attributes(body[16:]))
    assert found[3] == b"docker0\0"
    assert found[1] == bytes.fromhex("0242ac110001")
    assert int.from_bytes(found[4], "little") == 1400
    assert dict(netlink.attributes(found[18]))[1] == b"bridge\0"


def test_loopback_of_this_namespace() -> None:
    with netlink.RouteSocket() as kernel:
        lo = kernel.link("lo")
        assert lo is not None
        assert lo.number == socket.if_nametoindex("lo")
        assert lo.name in {link.name for link in kernel.links()}
        assert (lo.number, ipaddress.ip_interface("127.0.0.1/8")) in kernel.addresses()
        assert kernel.link("no-such-link") is None
        assert all(isinstance(route.interface, int) for route in kernel.routes())
