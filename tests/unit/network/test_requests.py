"""Network requests and configuration: Docker's checks in Docker's words."""

import ipaddress

import pytest

from gantry.errors import Forbidden, GantryError, InvalidArgument, NotFound
from gantry.model.network import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMPool, Network
from gantry.network.records import NetworkRecord, Subnet
from gantry.network.requests import check_endpoint, check_network
from gantry.network.settings import NetworkSettings, parse_pool
from gantry.ports import NetworkRequest

CONFIG = "invalid network config:\n"
ENDPOINT = "invalid endpoint settings:\n"
ONLY_CONFIGURED = "user specified IP address is supported only when connecting to networks with user configured subnets"
USER = NetworkRecord(Network("n", "1" * 64, ""), subnets=(Subnet("10.9.2.0/24", "10.9.2.1", configured=True),))
AUTOMATIC = NetworkRecord(Network("n", "1" * 64, ""), subnets=(Subnet("10.9.2.0/24", "10.9.2.1"),))
DEFAULT = NetworkRecord(Network("bridge", "1" * 64, ""), subnets=(Subnet("172.17.0.0/16", "172.17.0.1"),))


def pool(subnet: str, **more: str) -> NetworkRequest:
    return NetworkRequest("n", ipam=IPAM(config=[IPAMPool(subnet, **more)]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (NetworkRequest(""), InvalidArgument, "invalid name: name is empty"),
        (NetworkRequest("bridge"), Forbidden, "operation is not permitted on predefined bridge network "),
        (NetworkRequest("n", driver="nope"), NotFound, 'plugin "nope" not found'),
        (NetworkRequest("n", driver="host"), Forbidden, 'only one instance of "host" network is allowed'),
        (NetworkRequest("n", ipam=IPAM("zz")), NotFound, 'plugin "zz" not found'),
        (NetworkRequest("n", enable_ipv4=False), InvalidArgument, "IPv4 or IPv6 must be enabled"),
        (
            pool("10.1.2.3"),
            InvalidArgument,
            CONFIG + "invalid subnet 10.1.2.3: invalid CIDR block notation",
        ),
        (pool(""), InvalidArgument, CONFIG + "invalid subnet : invalid CIDR block notation"),
        (
            pool("10.9.2.3/24"),
            InvalidArgument,
            CONFIG + "invalid subnet 10.9.2.3/24: it should be 10.9.2.0/24",
        ),
        (
            pool("10.9.2.0/24", gateway="10.8.0.1"),
            InvalidArgument,
            CONFIG + "invalid gateway 10.8.0.1: parent subnet 10.9.2.0/24 doesn't contain this address",
        ),
        (
            pool("10.9.2.0/24", gateway="x"),
            InvalidArgument,
            CONFIG + "invalid gateway x: invalid address",
        ),
        (
            pool("10.9.2.0/24", ip_range="10.8.0.0/25"),
            InvalidArgument,
            CONFIG + "invalid ip-range 10.8.0.0/25: parent subnet 10.9.2.0/24 doesn't contain ip-range",
        ),
        (
            pool("10.9.7.0/30", ip_range="10.9.7.0/29"),
            InvalidArgument,
            CONFIG + "invalid ip-range 10.9.7.0/29: CIDR block is bigger than its parent subnet 10.9.7.0/30",
        ),
        (
            NetworkRequest("n", ipam=IPAM(config=[IPAMPool("10.9.7.0/30"), IPAMPool("10.9.8.0/24")])),
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            NetworkRequest("n", options={"com.docker.network.driver.mtu": "xx"}),
            InvalidArgument,
            'failed to parse com.docker.network.driver.mtu value: xx (strconv.Atoi: parsing "xx": invalid syntax)',
        ),
        (
            NetworkRequest("n", options={"com.docker.network.bridge.name": "abcdefghijklmnopqrst"}),
            InvalidArgument,
            'invalid bridge name "abcdefghijklmnopqrst": at most 15 letters, digits, "_", "." and "-"',
        ),
        (
            NetworkRequest("n", options={"com.docker.network.bridge.name": 'x"};flush'}),
            InvalidArgument,
            'invalid bridge name "x"};flush": at most 15 letters, digits, "_", "." and "-"',
        ),
    ],
)
def test_bad_requests(request_: NetworkRequest, kind: type[GantryError], words: str) -> None:
    with pytest.raises(kind) as caught:
        check_network(request_)
    assert caught.value.message == words


def test_good_requests_pass() -> None:
    check_network(NetworkRequest("a b", options={"com.docker.network.bridge.nope": "x"}))
    check_network(pool("10.9.2.0/24", gateway="10.9.2.254", ip_range="10.9.2.128/25"))


def endpoint(address: str = "", mac: str = "") -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=address) if address else None, mac_address=mac)


@pytest.mark.parametrize(
    ("record", "settings", "words"),
    [
        (USER, endpoint(mac="zz"), "invalid MAC address zz"),
        (
            USER,
            endpoint("10.9.3.9"),
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.9.3.9",
        ),
        (
            AUTOMATIC,
            endpoint("10.77"),
            f"{ENDPOINT}* invalid IPv4 address: 10.77\n* {ONLY_CONFIGURED}",
        ),
        (
            DEFAULT,
            endpoint("172.17.0.9"),
            f"{ENDPOINT}* user specified IP address is supported on user defined networks only\n* {ONLY_CONFIGURED}",
        ),
    ],
)
def test_bad_endpoints(record: NetworkRecord, settings: EndpointSettings, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_endpoint(settings, record)
    assert caught.value.message == words


def test_good_endpoints_pass() -> None:
    check_endpoint(endpoint("10.9.2.9", "02:42:0a:09:02:09"), USER)
    check_endpoint(endpoint(), DEFAULT)


def test_settings() -> None:
    NetworkSettings(bip="172.30.0.1/16", fixed_cidr="172.30.1.0/24", mtu=1400).validate()
    for bad in (
        NetworkSettings(bridge="br0", bip="172.30.0.1/16"),
        NetworkSettings(iptables=False, icc=False),
        NetworkSettings(bip="172.30.0.1"),
        NetworkSettings(ip="here"),
        NetworkSettings(mtu=3),
        NetworkSettings(bridge='br"0'),
    ):
        with pytest.raises(InvalidArgument):
            bad.validate()
    assert parse_pool("10.10.0.0/16", 24) == (ipaddress.IPv4Network("10.10.0.0/16"), 24)
    assert parse_pool("fd00::/48", 64)[1] == 64
    for base, size in (("10.10.0.1/16", 24), ("10.10.0.0/16", 8), ("x", 24)):
        with pytest.raises(InvalidArgument, match="invalid default address pool"):
            parse_pool(base, size)
