"""IPv6, gateway modes, macvlan and ipvlan, and which network leads outside, on the real kernel."""

import subprocess
import sys
from pathlib import Path

import pytest

from gantry.errors import Internal
from gantry.linux.netlink import RouteSocket
from gantry.linux.nft import apply
from gantry.model.network import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMPool, PortBinding
from gantry.ports import NetworkRequest
from lib.site import LAN_HOST, LAN_HOST6, LAN_PEER, LAN_PEER6, Site, run

PREFIX = "com.docker.network.bridge."
SEEN = "import socket; s = socket.socket({family}, 2); s.bind(('', 9)); print(s.recvfrom(9)[1][0])"


async def network(site: Site, name: str, *pools: str, ipv6: bool = False, **more: object) -> None:
    ipam = IPAM(config=[IPAMPool(each) for each in pools] or None)
    await site.networks.create(NetworkRequest(name, enable_ipv6=ipv6, ipam=ipam, **more))  # type: ignore[arg-type]


async def test_dual_stack_from_everywhere(site: Site, lan: list[str], scratch: Path) -> None:
    await network(site, "both", ipv6=True)
    a = await site.container("a", "both", {"80/tcp": [PortBinding("", "23180")]})
    await site.container("b", "both")
    assert a.ipv6_address.startswith("fd")
    assert [port.host_ip for port in a.ports] == ["0.0.0.0", "::"]
    assert site.pings("b", a.ipv6_address)
    with site.serving("a", "both", scratch / "www"):
        for where, address in (
            ([], "127.0.0.1"), ([], LAN_HOST), ([], LAN_HOST6), (lan, LAN_HOST), (lan, LAN_HOST6),
            (site.inside("b"), LAN_HOST6), (site.inside("a"), LAN_HOST6),
        ):  # fmt: skip
            assert site.fetches(where, address, 23180) == "both", f"{where} -> {address}"
        assert site.fetches(site.inside("b"), a.ipv6_address, 80) == "both"
        assert site.fetches(lan, a.ipv6_address, 80) == "", "not published"
    assert site.pings("b", LAN_PEER6), "masqueraded on the way out"
    options = (await site.networks.get("both")).ipam.config or []
    assert [":" in pool.subnet for pool in options] == [False, True]
    await site.restart(["a", "b"])
    assert site.pings("b", a.ipv6_address)


async def test_a_network_of_ipv6_alone(site: Site, lan: list[str]) -> None:
    await network(site, "six", "fd00:66::/64", ipv6=True, enable_ipv4=False)
    settings = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address="fd00:66::99"))
    a = await site.container("a", "six", settings=settings)
    assert (a.ip_address, a.ipv6_address, a.ipv6_gateway) == ("", "fd00:66::99", "fd00:66::1")
    assert "inet " not in run([*site.inside("a"), "ip", "addr", "show", "eth0"]).stdout
    assert site.pings("a", LAN_PEER6)


async def test_ipv6_stays_off_beside_a_network_with_it(site: Site) -> None:
    """GHSA-x84c-p2g9-rqv9: no address, not even a link-local one, where IPv6 was not asked for."""
    await network(site, "four")
    await network(site, "both", ipv6=True)
    await site.container("a", "four")
    await site.connect("a", "both")
    assert "inet6" not in run([*site.inside("a"), "ip", "addr", "show", "eth0"]).stdout
    assert "inet6 fd" in run([*site.inside("a"), "ip", "addr", "show", "eth1"]).stdout


async def test_routed_networks_are_reached_directly_and_only_where_opened(
    site: Site, lan: list[str], scratch: Path
) -> None:
    options = {PREFIX + "gateway_mode_ipv4": "routed", PREFIX + "gateway_mode_ipv6": "routed"}
    await network(site, "routed", ipv6=True, options=options)
    a = await site.container("a", "routed", {"80/tcp": [PortBinding("", "23181")]})
    closed = await site.container("closed", "routed")
    assert [(port.host_ip, port.host_port) for port in a.ports] == [("0.0.0.0", 0), ("::", 0)]
    with site.serving("a", "routed", scratch / "a"), site.serving("closed", "closed", scratch / "b"):
        for address in (a.ip_address, a.ipv6_address):
            assert site.fetches(lan, address, 80) == "routed"
        for address in (closed.ip_address, closed.ipv6_address):
            assert site.fetches(lan, address, 80) == ""
        assert site.fetches(lan, LAN_HOST, 23181) == "", "no port of the host's"
    assert not run([*lan, "busybox", "ping", "-c1", "-W1", closed.ip_address]).returncode
    # Nothing is masqueraded: the other host sees the container's own address.
    listener = subprocess.Popen([*lan, sys.executable, "-c", SEEN.format(family=2)], stdout=subprocess.PIPE)
    send = f"import socket; socket.socket(2, 2).sendto(b'x', ('{LAN_PEER}', 9))"
    for _ in range(100):
        run([*site.inside("a"), sys.executable, "-c", send])
        if listener.poll() is not None:
            break
    assert listener.communicate()[0].decode().strip() == a.ip_address


async def test_open_and_trusting_networks(site: Site, lan: list[str], scratch: Path) -> None:
    await network(site, "open", options={PREFIX + "gateway_mode_ipv4": "nat-unprotected"})
    await network(site, "trusting", options={PREFIX + "trusted_host_interfaces": "gt-lan0"})
    await network(site, "plain")
    answers = []
    for name in ("open", "trusting", "plain"):
        made = await site.container(name, name)
        with site.serving(name, name, scratch / name):
            answers.append(site.fetches(lan, made.ip_address, 80))
    assert answers == ["open", "trusting", ""]


async def test_isolated_networks_have_no_host(site: Site) -> None:
    await network(site, "alone", internal=True, options={PREFIX + "gateway_mode_ipv4": "isolated"})
    a = await site.container("a", "alone")
    b = await site.container("b", "alone")
    bridge = next(each.bridge for each in site.networks._book.networks.values() if each.name == "alone")
    assert "inet " not in run(["ip", "addr", "show", bridge]).stdout
    assert a.gateway == ""
    assert site.pings("a", b.ip_address)


async def test_a_chosen_source_address(site: Site, lan: list[str]) -> None:
    run(["ip", "addr", "add", "198.18.77.9/24", "dev", "gt-lan0"])
    await network(site, "as9", options={"com.docker.network.host_ipv4": "198.18.77.9"})
    await site.container("a", "as9")
    listener = subprocess.Popen([*lan, sys.executable, "-c", SEEN.format(family=2)], stdout=subprocess.PIPE)
    send = f"import socket; socket.socket(2, 2).sendto(b'x', ('{LAN_PEER}', 9))"
    for _ in range(100):
        run([*site.inside("a"), sys.executable, "-c", send])
        if listener.poll() is not None:
            break
    assert listener.communicate()[0].decode().strip() == "198.18.77.9"


async def test_the_network_with_the_highest_priority_leads(site: Site, lan: list[str], scratch: Path) -> None:
    for name in ("alpha", "beta"):
        await network(site, name)
    ports = {"80/tcp": [PortBinding("", "23182")]}
    await site.container("a", "beta", ports)
    with site.serving("a", "moved", scratch / "www"):
        await site.connect("a", "alpha", ports)  # same priority: the name decides
        by_name = {each.network_id: each for each in await site.networks.endpoints()}
        alpha, beta = [(await site.networks.get(each)).id for each in ("alpha", "beta")]
        assert [len(by_name[each].ports) for each in (alpha, beta)] == [1, 0]
        assert f"via {by_name[alpha].gateway} dev eth1" in run([*site.inside("a"), "ip", "route"]).stdout
        assert site.fetches(lan, LAN_HOST, 23182) == "moved"
        await network(site, "gamma")
        high = await site.connect("a", "gamma", ports, EndpointSettings(gw_priority=5))
        assert f"via {high.gateway} dev eth2" in run([*site.inside("a"), "ip", "route"]).stdout
        assert site.fetches(lan, LAN_HOST, 23182) == "moved"
        await site.networks.detach(site.containers["a"].id, (await site.networks.get("gamma")).id)
        assert f"via {by_name[alpha].gateway} dev eth1" in run([*site.inside("a"), "ip", "route"]).stdout
        assert site.fetches(lan, LAN_HOST, 23182) == "moved"


async def test_endpoint_options(site: Site) -> None:
    await network(site, "n")
    options = {
        "com.docker.network.endpoint.ifname": "uplink0",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
        "io.gantry.bandwidth.in": "8mbit",
        "io.gantry.bandwidth.out": "4mbit",
    }
    a = await site.container("a", "n", settings=EndpointSettings(driver_opts=options))
    assert a.interface == "uplink0"
    read = [*site.inside("a"), "cat", "/proc/sys/net/ipv4/conf/uplink0/log_martians"]
    assert run(read).stdout.strip() == "1"
    record = site.networks._book.endpoints[a.endpoint_id]
    assert "rate 8Mbit" in run(["tc", "qdisc", "show", "dev", record.link]).stdout
    assert "rate 4Mbit" in run([*site.inside("a"), "tc", "qdisc", "show", "dev", "uplink0"]).stdout


async def test_nobody_on_the_lan_reaches_a_port_on_loopback(site: Site, lan: list[str]) -> None:
    """A neighbour who puts 127.0.0.1 into a frame for this host's interface gets nowhere (moby issue 45610)."""
    await site.container("a", ports={"9/udp": [PortBinding("127.0.0.1", "23183")]})
    listener = subprocess.Popen(
        [*site.inside("a"), sys.executable, "-c", SEEN.format(family=2)], stdout=subprocess.PIPE
    )
    with RouteSocket() as kernel:
        mac = next(link.mac for link in kernel.links() if link.name == "gt-lan0")
    frame = (
        "import socket, struct, sys\n"
        "def total(b): s = sum(struct.unpack(f'!{len(b)//2}H', b)); s = (s >> 16) + (s & 65535); return ~(s + (s >> 16)) & 65535\n"
        "source, target = socket.inet_aton(sys.argv[2]), socket.inet_aton('127.0.0.1')\n"
        "ip = struct.pack('!BBHHHBBH4s4s', 69, 0, 29, 0, 0, 64, 17, 0, source, target)\n"
        "ip = ip[:10] + struct.pack('!H', total(ip)) + ip[12:]\n"
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))\n"
        "mac = bytes.fromhex(sys.argv[1].replace(':', ''))\n"
        "s.send(mac + s.getsockname()[4] + b'\\x08\\x00' + ip + struct.pack('!HHHH', 999, 23183, 9, 0) + b'x')\n"
    )
    for source in (LAN_PEER, "127.0.0.1"):
        done = run([*lan, sys.executable, "-c", frame, mac, source])
        assert not done.returncode, done.stderr
    run([sys.executable, "-c", "import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', 23183))"])
    seen = listener.communicate(timeout=10)[0].decode().strip()
    assert seen not in (LAN_PEER, "127.0.0.1"), "only what this host itself has sent arrives"


async def test_users_rules_come_first_and_stay(site: Site, lan: list[str], scratch: Path) -> None:
    table = f"inet {site.instance.nft_table}"
    await site.container("a", ports={"80/tcp": [PortBinding("", "23184")]})
    with site.serving("a", "user", scratch / "www"):
        assert site.fetches(lan, LAN_HOST, 23184) == "user"
        await apply(f"add rule {table} GANTRY-USER ip saddr {LAN_PEER} drop\n")
        assert site.fetches(lan, LAN_HOST, 23184) == ""
        await site.restart(["a"])
        await site.networks._firewall.rebuild()
        assert f"ip saddr {LAN_PEER} drop" in run(["nft", "list", "chain", *table.split(), "GANTRY-USER"]).stdout
        assert site.fetches(lan, LAN_HOST, 23184) == ""
        await apply(f"flush chain {table} GANTRY-USER\n")
        assert site.fetches(lan, LAN_HOST, 23184) == "user"


async def test_macvlan(site: Site, lan: list[str]) -> None:
    pool = IPAMPool("198.18.77.0/24", gateway=LAN_PEER, auxiliary_addresses={"host": LAN_HOST})
    request = NetworkRequest("mv", driver="macvlan", ipam=IPAM(config=[pool]), options={"parent": "gt-lan0"})
    await site.networks.create(request)
    a, b = await site.container("a", "mv"), await site.container("b", "mv")
    assert (a.gateway, b.ip_address) == (LAN_PEER, "198.18.77.4")
    assert site.pings("a", LAN_PEER), "another host of the LAN"
    assert site.pings("a", b.ip_address)
    assert not run([*lan, "busybox", "ping", "-c1", "-W1", a.ip_address]).returncode
    await site.networks.detach(site.containers["a"].id, (await site.networks.get("mv")).id)
    assert "eth0" not in run([*site.inside("a"), "ip", "link"]).stdout
    with pytest.raises(Internal, match=r"invalid subinterface vlan name nosuch, example formatting is eth0\.10"):
        await network(site, "bad", driver="macvlan", options={"parent": "nosuch"})
    with pytest.raises(Internal, match="vlan id must be between 1-4094, received: 9999"):
        await network(site, "bad", driver="macvlan", options={"parent": "gt-lan0.9999"})


@pytest.mark.parametrize("mode", ["l2", "l3"])
async def test_ipvlan(site: Site, lan: list[str], mode: str) -> None:
    probe = run(["ip", "link", "add", "gt-probe", "link", "gt-lan0", "type", "ipvlan"])
    if probe.returncode:
        pytest.skip("this kernel has no ipvlan")
    run(["ip", "link", "del", "gt-probe"])
    request = NetworkRequest(
        "iv",
        driver="ipvlan",
        ipam=IPAM(config=[IPAMPool("198.18.77.0/24", gateway=LAN_PEER, auxiliary_addresses={"host": LAN_HOST})]),
        options={"parent": "gt-lan0", "ipvlan_mode": mode},
    )
    await site.networks.create(request)
    a, b = await site.container("a", "iv"), await site.container("b", "iv")
    assert a.mac_address == ""
    assert site.pings("a", b.ip_address)
    if mode == "l2":
        assert site.pings("a", LAN_PEER)
    else:
        assert "default dev eth0" in run([*site.inside("a"), "ip", "route"]).stdout
