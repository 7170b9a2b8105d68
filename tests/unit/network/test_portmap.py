"""Published ports: what is asked for, who has what, and the programs that were there before."""

import errno
import socket
from collections.abc import Iterator

import pytest

from gantry.errors import GantryError, Internal, InvalidArgument
from gantry.model.network import EndpointSettings, PortBinding, PublishedPort
from gantry.network.portmap import PortMap, ephemeral_range
from gantry.network.portwishes import granted, like, of_family, parse_port, wanted_ports
from gantry.network.records import WantedPort
from gantry.ports import EndpointRequest

ANY = "0.0.0.0"


def request(
    bindings: dict[str, object], *, publish_all: bool = False, exposed: tuple[str, ...] = ()
) -> EndpointRequest:
    return EndpointRequest(EndpointSettings(), port_bindings=bindings, publish_all=publish_all, exposed=exposed)


@pytest.fixture
def ports() -> Iterator[PortMap]:
    made = PortMap()
    yield made
    made.close()


@pytest.fixture
def free() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def one(port: int, host_ip: str = ANY, protocol: str = "tcp") -> list[WantedPort]:
    return [WantedPort(protocol, 80, (host_ip,), port, port)]


def test_what_is_asked() -> None:
    wanted = wanted_ports(
        request(
            {
                "81/udp": [PortBinding("127.0.0.1", "9000-9005")],
                "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                "82": None,
            },
            publish_all=True,
            exposed=("80/tcp", "99/sctp"),
        ),
        ANY,
    )
    assert wanted == (
        WantedPort("tcp", 80, (ANY, "::"), 8080, 8080),
        WantedPort("udp", 81, ("127.0.0.1",), 9000, 9005),
        WantedPort("sctp", 99, (ANY, "::"), 0, 0),
        WantedPort("tcp", 82, (ANY, "::"), 0, 0),
    )


@pytest.mark.parametrize(
    ("key", "binding", "words"),
    [
        ("80/tcp", PortBinding("", "70000"), 'invalid port specification: "70000"'),
        ("80/tcp", PortBinding("", "9-8"), 'invalid port specification: "9-8"'),
        ("80/tcp", PortBinding("", "x"), 'invalid port specification: "x"'),
        ("99999", PortBinding("", "1"), 'invalid port specification: "99999"'),
        ("80/zzz", PortBinding("", "1"), "invalid proto: zzz"),
        ("80/tcp", PortBinding("nowhere", "1"), "invalid IP address in port binding: nowhere"),
    ],
)
def test_bad_bindings(key: str, binding: PortBinding, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        wanted_ports(request({key: [binding]}), ANY)


def test_families_of_wishes() -> None:
    wanted = wanted_ports(request({"80/tcp": [PortBinding("", "80"), PortBinding("[::1]", "81")]}), ANY)
    assert of_family(wanted, [6]) == (WantedPort("tcp", 80, ("::",), 80, 80), WantedPort("tcp", 80, ("::1",), 81, 81))
    assert of_family(wanted, [4]) == (WantedPort("tcp", 80, (ANY,), 80, 80),)
    assert wanted_ports(request({"80/tcp": [{}]}), "192.0.2.7")[0].host_ips == ("192.0.2.7",)


def test_a_wish_keeps_the_number_that_it_had() -> None:
    wishes = (WantedPort("tcp", 80, (ANY,), 0, 0), WantedPort("tcp", 80, (ANY,), 8000, 8010))
    before = (PublishedPort("tcp", 80, ANY, 8003), PublishedPort("tcp", 80, "::", 40001))
    assert like(wishes[1:], before) == (WantedPort("tcp", 80, (ANY,), 8003, 8003),)
    assert like(wishes[:1], before[1:]) == (WantedPort("tcp", 80, (ANY,), 40001, 40001),)
    assert granted(wishes[1], before) == [before[0]]
    assert granted(WantedPort("udp", 80, (ANY,), 0, 0), before) == []


def test_both_families_share_a_number(ports: PortMap, free: int) -> None:
    both = [WantedPort("tcp", 80, (ANY, "::"), free, free)]
    published = ports.publish(both, {4: "172.17.0.2", 6: "fd00::2"})
    assert published == (PublishedPort("tcp", 80, ANY, free), PublishedPort("tcp", 80, "::", free))
    with pytest.raises(Internal, match=rf"Bind for \[::\]:{free} failed: port is already allocated"):
        ports.publish(one(free, "::1"), {6: "fd00::3"})
    ports.release(published)
    words = rf"for \[::\]:{free}:\[fd00::2\]:80/tcp: address already in use"
    with (
        socket.create_server(("::1", free), family=socket.AF_INET6),
        pytest.raises(Internal, match=words),
    ):
        ports.publish(both, {4: "172.17.0.2", 6: "fd00::2"})
    assert ports.publish(both, {4: "172.17.0.2", 6: "fd00::2"}) == published


def test_parse_port() -> None:
    assert (parse_port("80"), parse_port("53/UDP")) == ((80, "tcp"), (53, "udp"))


def test_a_port_has_one_owner(ports: PortMap, free: int) -> None:
    assert ports.publish(one(free), {4: "172.17.0.2"}) == (PublishedPort("tcp", 80, ANY, free),)
    for host_ip in (ANY, "127.0.0.1"):
        with pytest.raises(Internal, match=rf"Bind for 0\.0\.0\.0:{free} failed: port is already allocated"):
            ports.publish(one(free, host_ip), {4: "172.17.0.3"})
    assert ports.publish(one(free, protocol="udp"), {4: "172.17.0.2"})[0].host_port == free
    ports.release([PublishedPort("tcp", 80, ANY, free)])
    assert ports.publish(one(free), {4: "172.17.0.3"})[0].host_port == free


def test_all_or_none(ports: PortMap, free: int) -> None:
    taken = ports.publish(one(free), {4: "172.17.0.2"})
    with pytest.raises(Internal):
        ports.publish([*one(free, protocol="udp"), *one(free)], {4: "172.17.0.3"})
    assert ports.publish(one(free, protocol="udp"), {4: "172.17.0.3"})
    ports.release(taken)


def test_a_listening_program_is_found(ports: PortMap) -> None:
    with socket.create_server(("127.0.0.1", 0)) as program:
        number = program.getsockname()[1]
        words = rf"failed to bind host port for 0\.0\.0\.0:{number}:172\.17\.0\.2:80/tcp: address already in use"
        with pytest.raises(Internal, match=words):
            ports.publish(one(number), {4: "172.17.0.2"})
    assert ports.publish(one(number), {4: "172.17.0.2"})


def test_connections_of_an_ended_program_do_not_matter(ports: PortMap) -> None:
    with socket.create_server(("127.0.0.1", 0)) as program:
        number = program.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", number))
        served, _ = program.accept()
        served.close()  # the side that closes first keeps TIME_WAIT
        client.recv(1)
        client.close()
    assert ports.publish(one(number), {4: "172.17.0.2"})


def listens(program: socket.socket, number: int) -> bool:
    try:
        program.bind((ANY, number))
        program.listen()
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


@pytest.mark.parametrize("reuse", [0, 1])
def test_nobody_else_can_take_a_published_port(ports: PortMap, free: int, reuse: int) -> None:
    ports.publish(one(free), {4: "172.17.0.2"})
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        assert not listens(other, free)
    with socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", free)) != 0  # held, and nobody listens


def test_two_daemons_do_not_share_a_port(ports: PortMap, free: int) -> None:
    ports.publish(one(free), {4: "172.17.0.2"})
    neighbour = PortMap()
    with pytest.raises(Internal, match="address already in use"):
        neighbour.publish(one(free), {4: "172.18.0.2"})


def test_an_address_that_is_not_here(ports: PortMap, free: int) -> None:
    with pytest.raises(Internal, match=rf"for 198\.51\.100\.7:{free}:172\.17\.0\.2:80/tcp: cannot assign requested"):
        ports.publish(one(free, "198.51.100.7"), {4: "172.17.0.2"})


def test_ranges_and_ephemeral_ports(ports: PortMap, free: int) -> None:
    low, high = ephemeral_range()
    first = ports.publish([WantedPort("tcp", 80, (ANY,), 0, 0)], {4: "172.17.0.2"})[0].host_port
    second = ports.publish([WantedPort("tcp", 80, (ANY,), 0, 0)], {4: "172.17.0.2"})[0].host_port
    assert low <= first < second <= high
    ports.release([PublishedPort("tcp", 80, ANY, second)])
    assert ports.publish([WantedPort("tcp", 80, (ANY,), 0, 0)], {4: "172.17.0.2"})[0].host_port > second
    with socket.create_server((ANY, 0)) as program:
        number = program.getsockname()[1]
        chosen = ports.publish([WantedPort("tcp", 80, (ANY,), number, number + 50)], {4: "172.17.0.2"})[0].host_port
        assert number < chosen <= number + 50


def test_ports_of_survivors_are_held_again(ports: PortMap, free: int) -> None:
    kept = PublishedPort("tcp", 80, ANY, free)
    ports.restore([kept])
    with pytest.raises(GantryError, match="already allocated"):
        ports.publish(one(free), {4: "172.17.0.3"})
    ports.release([kept])
    assert ports.publish(one(free), {4: "172.17.0.3"})
