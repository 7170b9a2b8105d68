"""Subnets and addresses: nothing is given twice, nothing overlaps, nothing comes back too soon."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.errors import Forbidden, Internal, InvalidArgument
from gantry.network.addresses import AddressPool, choose_subnet, mac_of
from gantry.network.settings import DEFAULT_POOLS, LAST_RESORT

Net = ipaddress.IPv4Network
networks = st.builds(
    lambda address, prefix: Net((address, prefix), strict=False), st.integers(0, 2**32 - 1), st.integers(4, 32)
)


def test_first_choice_is_dockers() -> None:
    assert choose_subnet(DEFAULT_POOLS, []) == Net("172.17.0.0/16")
    assert choose_subnet(DEFAULT_POOLS, [Net("172.17.5.0/24")]) == Net("172.18.0.0/16")


def test_small_pools_come_after_the_large_ones() -> None:
    assert choose_subnet(DEFAULT_POOLS, [Net("172.16.0.0/12")]) == Net("192.168.0.0/20")
    assert choose_subnet(DEFAULT_POOLS, [Net("172.16.0.0/12"), Net("192.168.3.0/24")]) == Net("192.168.16.0/20")


def test_a_vpn_over_all_private_space_leaves_nothing() -> None:
    everything = [Net("10.0.0.0/8"), Net("172.16.0.0/12"), Net("192.168.0.0/16")]
    with pytest.raises(InvalidArgument, match="all predefined address pools have been fully subnetted"):
        choose_subnet((*DEFAULT_POOLS, LAST_RESORT), everything)


@given(used=st.lists(networks, max_size=30))
def test_the_chosen_subnet_overlaps_nothing(used: list[Net]) -> None:
    try:
        chosen = choose_subnet((*DEFAULT_POOLS, LAST_RESORT), used)
    except InvalidArgument:
        return
    assert not any(chosen.overlaps(each) for each in used)
    assert chosen.is_private
    before = [base for base, size in DEFAULT_POOLS if size == 16 and base < chosen]
    if chosen.prefixlen == 16:
        assert all(any(base.overlaps(each) for each in used) for base in before)


def test_next_fit_does_not_reuse_at_once() -> None:
    pool = AddressPool(Net("10.1.0.0/29"), reserved=("10.1.0.1",))
    first = pool.take()
    assert str(first) == "10.1.0.2"
    pool.give_back(str(first))
    assert [str(pool.take()) for _ in range(5)] == ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.2"]
    with pytest.raises(Internal, match="no available IPv4 addresses on this network's address pools"):
        pool.take()


def test_the_search_goes_on_where_it_was_before_a_restart() -> None:
    pool = AddressPool(Net("10.1.0.0/24"), reserved=("10.1.0.1",), last=int(ipaddress.IPv4Address("10.1.0.9")))
    assert str(pool.take()) == "10.1.0.10"
    elsewhere = AddressPool(Net("10.2.0.0/24"), last=int(ipaddress.IPv4Address("10.1.0.9")))
    assert str(elsewhere.take()) == "10.2.0.1"


def test_static_addresses() -> None:
    pool = AddressPool(Net("10.1.0.0/24"), within=Net("10.1.0.128/25"), reserved=("10.1.0.1",))
    assert str(pool.take("10.1.0.5")) == "10.1.0.5"
    assert pool.take() in Net("10.1.0.128/25")
    for taken in ("10.1.0.5", "10.1.0.1", "10.1.0.0", "10.1.0.255"):
        with pytest.raises(Forbidden, match="Address already in use"):
            pool.take(taken)
    with pytest.raises(InvalidArgument, match=r"no configured subnet or ip-range contain the IP address 10\.2\.0\.5"):
        pool.take("10.2.0.5")


def test_point_to_point_subnets_have_two_addresses() -> None:
    pool = AddressPool(Net("10.1.0.0/31"), reserved=("10.1.0.0",))
    assert str(pool.take()) == "10.1.0.1"


@given(prefix=st.integers(24, 30), steps=st.lists(st.booleans(), max_size=200))
def test_no_address_is_given_twice(prefix: int, steps: list[bool]) -> None:
    subnet = Net(f"10.0.0.0/{prefix}")
    pool = AddressPool(subnet, reserved=("10.0.0.1",))
    given_out: list[str] = []
    for taking in steps:
        if taking and len(given_out) < subnet.num_addresses - 3:
            address = str(pool.take())
            assert address not in given_out
            assert address not in ("10.0.0.0", "10.0.0.1", str(subnet.broadcast_address))
            given_out.append(address)
        elif given_out:
            pool.give_back(given_out.pop(0))


def test_mac_goes_with_the_address() -> None:
    assert mac_of(ipaddress.IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"
