"""The network room on the real kernel, without a daemon around it: containers are namespaces, and so is the outside."""

import ipaddress
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gantry.errors import Forbidden, GantryError, Internal
from gantry.linux.netlink import delete_links
from gantry.linux.nft import apply
from gantry.model.network import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMPool, PortBinding
from gantry.network.settings import NetworkSettings
from gantry.ports import NetworkRequest
from lib.site import LAN_HOST, LAN_PEER, Site, links_of, run


async def bridge_of(site: Site, name: str = "bridge") -> str:
    options = (await site.networks.get(name)).options
    return options["com.docker.network.bridge.name"]


async def test_containers_reach_each_other_and_the_host(site: Site) -> None:
    a, b = await site.container("a"), await site.container("b")
    network = await site.networks.get("bridge")
    subnet = ipaddress.IPv4Network(network.ipam.config[0].subnet if network.ipam.config else "")
    assert ipaddress.IPv4Address(a.ip_address) in subnet
    assert a.ip_address != b.ip_address
    assert site.pings("a", b.ip_address)
    assert site.pings("b", a.gateway)
    shown = run([*site.inside("a"), "ip", "-br", "addr"]).stdout
    assert f"{a.ip_address}/{a.ip_prefix_len}" in shown
    assert a.mac_address in run([*site.inside("a"), "ip", "link", "show", "eth0"]).stdout
    assert f"default via {a.gateway} dev eth0" in run([*site.inside("a"), "ip", "route"]).stdout
    hosts = site.instance.data_root / "containers" / site.containers["a"].id / "hosts"
    assert hosts.read_text().splitlines()[-1] == f"{a.ip_address}\ta"


async def test_ipv6_is_off_on_a_network_without_it(site: Site) -> None:
    await site.container("a")
    assert "inet6" not in run([*site.inside("a"), "ip", "addr", "show", "eth0"]).stdout
    assert "inet6" not in run(["ip", "addr", "show", await bridge_of(site)]).stdout


async def test_a_published_port_from_everywhere(site: Site, lan: list[str], scratch: Path) -> None:
    a = await site.container("a", ports={"80/tcp": [PortBinding("", "23080")]})
    b = await site.container("b")
    with site.serving("a", "hello from a", scratch / "www"):
        for address in ("127.0.0.1", "127.1.2.3", LAN_HOST, a.gateway):
            assert site.fetches([], address, 23080) == "hello from a", f"from the host by {address}"
        assert site.fetches(lan, LAN_HOST, 23080) == "hello from a"
        assert site.fetches(site.inside("b"), LAN_HOST, 23080) == "hello from a"
        assert site.fetches(site.inside("b"), a.ip_address, 80) == "hello from a"
        assert site.fetches(site.inside("a"), LAN_HOST, 23080) == "hello from a", "hairpin"
        # What is not published stays inside, however well the other host knows the way.
        assert site.fetches(lan, a.ip_address, 80) == ""
        # Nobody comes to the host's loopback from a container.
        assert site.fetches(site.inside("b"), "127.0.0.1", 23080) == ""
        await site.networks.detach(site.containers["a"].id, (await site.networks.get("bridge")).id)
        assert site.fetches([], "127.0.0.1", 23080) == ""
    assert b.ports == ()


async def test_the_source_address_of_other_hosts_is_kept(site: Site, lan: list[str]) -> None:
    await site.container("a", ports={"9/udp": [PortBinding("", "23009")]})
    receive = "import socket; s = socket.socket(2, 2); s.bind(('', 9)); print(s.recvfrom(9)[1][0])"
    send = f"import socket; socket.socket(2, 2).sendto(b'x', ('{LAN_HOST}', 23009))"
    listener = subprocess.Popen([*site.inside("a"), sys.executable, "-c", receive], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while listener.poll() is None:
        assert time.monotonic() < deadline
        run([*lan, sys.executable, "-c", send])
    assert listener.communicate()[0].decode().strip() == LAN_PEER


async def test_a_port_on_loopback_is_for_this_host_alone(site: Site, lan: list[str], scratch: Path) -> None:
    await site.container("a", ports={"80/tcp": [PortBinding("127.0.0.1", "23081")]})
    run(["ip", "-n", "gt-lan", "route", "add", "127.0.0.0/8", "via", LAN_HOST])
    with site.serving("a", "private", scratch / "www"):
        assert site.fetches([], "127.0.0.1", 23081) == "private"
        assert site.fetches([], LAN_HOST, 23081) == ""
        assert site.fetches(lan, LAN_HOST, 23081) == ""
        assert site.fetches(lan, "127.0.0.1", 23081) == ""


async def test_a_port_that_is_taken_leaves_nothing_behind(site: Site) -> None:
    await site.container("a", ports={"80/tcp": [PortBinding("", "23082")]})
    with pytest.raises(Internal) as caught:
        await site.container("b", ports={"80/tcp": [PortBinding("", "23082")]})
    message = caught.value.message
    assert message.startswith("driver failed programming external connectivity on endpoint b (")
    assert message.endswith("): Bind for 0.0.0.0:23082 failed: port is already allocated")
    assert await site.networks.endpoints(container_id=site.containers["b"].id) == []
    assert (await site.connect("b", "bridge")).ip_address
    await site.networks.close_sandbox(site.containers["a"].id)
    await site.container("c", ports={"80/tcp": [PortBinding("", "23082")]})


async def test_networks_are_isolated_from_each_other(site: Site, scratch: Path) -> None:
    for name, internal in (("one", False), ("two", False), ("inner", True)):
        await site.networks.create(NetworkRequest(name, internal=internal))
    endpoints = {name: await site.container(name, name) for name in ("one", "two", "inner")}
    await site.container("one-more", "inner")
    assert not site.pings("one", endpoints["two"].ip_address)
    assert not site.pings("inner", endpoints["one"].ip_address)
    assert site.pings("one-more", endpoints["inner"].ip_address)
    assert endpoints["inner"].gateway == ""
    assert "default" not in run([*site.inside("inner"), "ip", "route"]).stdout
    with pytest.raises(Forbidden, match=r"network one has active endpoints \(name:\"one\" id:"):
        await site.networks.delete((await site.networks.get("one")).id)
    # On two networks at once it reaches both, and keeps its way out when one of them goes.
    await site.connect("one", "two")
    assert site.pings("one", endpoints["two"].ip_address)
    await site.networks.detach(site.containers["one"].id, (await site.networks.get("one")).id)
    assert "default via" in run([*site.inside("one"), "ip", "route"]).stdout
    assert site.pings("one", endpoints["two"].ip_address)
    for name in ("one", "two", "inner", "one-more"):
        await site.networks.close_sandbox(site.containers[name].id)
    for name in ("one", "two", "inner"):
        await site.networks.delete((await site.networks.get(name)).id)
    assert sorted(each.name for each in await site.networks.list()) == ["bridge", "host", "none"]


async def test_icc_off_separates_containers_of_one_network(site: Site, scratch: Path) -> None:
    options = {"com.docker.network.bridge.enable_icc": "false"}
    await site.networks.create(NetworkRequest("quiet", options=options))
    a = await site.container("a", "quiet", ports={"80/tcp": [PortBinding("", "23083")]})
    await site.container("b", "quiet")
    assert not site.pings("b", a.ip_address)
    with site.serving("a", "open door", scratch / "www"):
        assert site.fetches([], "127.0.0.1", 23083) == "open door"
        assert site.fetches(site.inside("b"), a.ip_address, 80) == ""


async def test_static_addresses(site: Site) -> None:
    pool = IPAMPool("198.19.44.0/29", auxiliary_addresses={"printer": "198.19.44.3"})
    await site.networks.create(NetworkRequest("fixed", ipam=IPAM(config=[pool])))
    wanted = EndpointSettings(
        ipam_config=EndpointIPAMConfig(ipv4_address="198.19.44.5"), mac_address="02-42-00-00-00-AA"
    )
    a = await site.container("a", "fixed", settings=wanted)
    assert (a.ip_address, a.mac_address) == ("198.19.44.5", "02:42:00:00:00:aa")
    assert a.mac_address in run([*site.inside("a"), "ip", "link"]).stdout
    with pytest.raises(Forbidden, match="Address already in use"):
        await site.container("b", "fixed", settings=wanted)
    given = [(await site.container(f"c{number}", "fixed")).ip_address for number in range(3)]
    assert given == ["198.19.44.2", "198.19.44.4", "198.19.44.6"]
    with pytest.raises(Internal, match="no available IPv4 addresses on this network's address pools: fixed"):
        await site.container("d", "fixed")


async def test_the_living_go_on_and_the_dead_are_cleared_after_a_kill(site: Site, scratch: Path) -> None:
    kept = await site.container("kept", ports={"80/tcp": [PortBinding("", "23084")]})
    gone = await site.container("gone", ports={"80/tcp": [PortBinding("", "23085")]})
    before = links_of(site)
    with site.serving("kept", "still here", scratch / "www"):
        await site.restart(["kept"])
        assert site.fetches([], "127.0.0.1", 23084) == "still here"
        assert len(before - links_of(site)) == 1
        names = [path.name for path in (site.instance.exec_root / "netns").iterdir()]
        assert names == [site.containers["kept"].id]
        assert list(await site.networks.endpoints()) == [kept]
        with pytest.raises(GantryError, match="port is already allocated"):
            await site.container("late", ports={"80/tcp": [PortBinding("", "23084")]})
        fresh = await site.connect("late", "bridge", {"80/tcp": [PortBinding("", "23085")]})
        assert fresh.ip_address not in (kept.ip_address, gone.ip_address)
        # Somebody flushes all rules: the next start puts them back, and so does the next published port.
        await apply(f"delete table inet {site.instance.nft_table}\n")
        assert site.fetches([], "127.0.0.1", 23084) == ""
        await site.container("later", ports={"80/tcp": [PortBinding("", "23086")]})
        assert site.fetches([], "127.0.0.1", 23084) == "still here"


async def test_half_made_things_of_a_killed_daemon_are_cleared(site: Site) -> None:
    a = await site.container("a")
    network = await site.networks.create(NetworkRequest("n"))
    delete_links([f"br-{network.id[:12]}"])  # recorded, and killed before it was made
    (site.instance.exec_root / "netns" / ("f" * 64)).touch()  # an entry without its mount
    await site.restart([])
    assert list(await site.networks.endpoints()) == []
    assert list((site.instance.exec_root / "netns").iterdir()) == []
    assert f"br-{network.id[:12]}" in links_of(site)
    assert (await site.container("b", "n")).ip_address
    assert a.ip_address != (await site.container("c")).ip_address


async def test_ended_containers_leave_no_interface(site: Site) -> None:
    before = links_of(site)
    for number in range(5):
        await site.container(f"c{number}")
        await site.networks.close_sandbox(site.containers[f"c{number}"].id)
        await site.networks.close_sandbox(site.containers[f"c{number}"].id)
    assert list(await site.networks.endpoints()) == []
    await site.networks.stop()
    await site.networks.start([])
    assert links_of(site) == before


async def test_a_port_can_be_taken_again_at_once(site: Site, scratch: Path) -> None:
    for number in range(5):
        name = f"c{number}"
        await site.container(name, ports={"80/tcp": [PortBinding("", "23088")]})
        with site.serving(name, name, scratch / name):
            assert site.fetches([], "127.0.0.1", 23088) == name
        await site.networks.close_sandbox(site.containers[name].id)


async def test_an_address_is_free_at_once_when_its_container_has_ended(site: Site) -> None:
    """A restart with a static address, and the only address of a network, do not wait for the sweep."""
    await site.networks.create(NetworkRequest("tiny", ipam=IPAM(config=[IPAMPool("198.19.45.0/30")])))
    same = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="198.19.45.2", link_local_ips=["169.254.9.9"]))
    for name, settings in (("a", same), ("b", same), ("c", None)):
        made = await site.container(name, "tiny", **({"settings": settings} if settings else {}))
        assert made.ip_address == "198.19.45.2"
        assert ("169.254.9.9/16" in run([*site.inside(name), "ip", "addr"]).stdout) == bool(settings)
        await site.networks.close_sandbox(site.containers[name].id)


async def test_many_ports_are_one_transaction(site: Site, scratch: Path) -> None:
    ports = {f"{number}/tcp": [PortBinding("", str(24000 + number))] for number in range(1, 201)}
    made = await site.container("many", ports=ports)
    assert len(made.ports) == 200
    with site.serving("many", "one of many", scratch / "www"):
        assert site.fetches([], "127.0.0.1", 24080) == "one of many"


async def test_two_daemons_do_not_meet(site: Site, scratch: Path) -> None:
    neighbour = Site(scratch / "neighbour")
    await neighbour.networks.start([])
    try:
        mine, theirs = await site.networks.get("bridge"), await neighbour.networks.get("bridge")
        assert await bridge_of(site) != await bridge_of(neighbour)
        subnets = [ipaddress.ip_network(each.ipam.config[0].subnet) for each in (mine, theirs) if each.ipam.config]
        assert not subnets[0].overlaps(subnets[1])
        await neighbour.container("theirs", ports={"80/tcp": [PortBinding("", "23087")]})
        a = await site.container("a")
        with pytest.raises(Internal, match=r"failed to bind host port for .*:23087:.*: address already in use"):
            await site.container("b", ports={"80/tcp": [PortBinding("", "23087")]})
        assert not neighbour.pings("theirs", a.ip_address)
        await site.restart(["a"])
        assert len(await neighbour.networks.endpoints()) == 1
        assert neighbour.pings("theirs", (await neighbour.networks.endpoints())[0].gateway)
    finally:
        await neighbour.networks.close_sandbox(neighbour.containers["theirs"].id)
        await neighbour.networks.stop()
        neighbour.state.close()


async def test_the_bridge_follows_the_configuration(site: Site) -> None:
    settings = NetworkSettings(bip="198.19.55.1/24", fixed_cidr="198.19.55.128/25", mtu=1300)
    await site.restart([], settings)
    a = await site.container("a")
    assert (a.ip_address, a.gateway) == ("198.19.55.128", "198.19.55.1")
    assert "mtu 1300" in run([*site.inside("a"), "ip", "link", "show", "eth0"]).stdout
    shown = run(["ip", "-4", "addr", "show", await bridge_of(site)]).stdout
    assert "198.19.55.1/24" in shown
    assert shown.count("inet ") == 1


async def test_forwarding_that_somebody_drops_is_reported(site: Site) -> None:
    assert await site.networks.warnings() == []
    await apply("table ip gt_foreign { chain FORWARD { type filter hook forward priority 0; policy drop; }; }\n")
    try:
        [warning] = await site.networks.warnings()
        assert "chain FORWARD of table ip gt_foreign drops forwarded packets" in warning
        assert await bridge_of(site) in warning
    finally:
        await apply("delete table ip gt_foreign\n")


def test_no_thread_of_this_process_changed_its_namespace() -> None:
    own = Path("/proc/self/ns/net").stat()
    for task in Path("/proc/self/task").iterdir():
        assert (task / "ns" / "net").stat().st_ino == own.st_ino


DOCKER_FILTER = """
import asyncio, subprocess
from gantry.network.neighbours import Neighbours

def sh(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout

async def main():
    ours = Neighbours("gantry", "gantry")
    await ours.settle(["gantry0"], ["eth0"])
    sh("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A DOCKER-USER -s 192.0.2.7 -j DROP")
    sh("iptables -A FORWARD -j DOCKER-USER")
    print(len(await ours.warnings(["gantry0"])))
    for _ in range(2):
        await ours.settle(["gantry0"], ["eth0"])
    print(sh("iptables -S DOCKER-USER"), end="")
    print(len(await ours.warnings(["gantry0"])))
    await Neighbours("gantry", "gantry").settle(["gantry0"], ["eth1"])
    print(sh("iptables -S DOCKER-USER | grep -c eth0 || true"), end="")
    await ours.settle([], [])
    print(sh("iptables -S DOCKER-USER"), end="")

asyncio.run(main())
"""


def test_beside_docker_our_bridges_are_admitted_where_it_leaves_room() -> None:
    if run(["sh", "-c", "command -v iptables"]).returncode:
        pytest.skip("no iptables here: Docker, which this is about, brings it")
    done = run(["unshare", "--net", sys.executable, "-c", DOCKER_FILTER])
    end = "-m comment --comment gantry -j ACCEPT"
    theirs = "-A DOCKER-USER -s 192.0.2.7/32 -j DROP"
    assert done.stdout.splitlines() == [
        "1",
        "-N DOCKER-USER",
        f"-A DOCKER-USER -i gantry0 -o eth0 {end}",
        f"-A DOCKER-USER -o gantry0 {end}",
        theirs,
        "0",
        "0",
        "-N DOCKER-USER",
        theirs,
    ], done.stderr
