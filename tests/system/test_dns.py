"""Names of containers and names beyond: real containers ask the resolver, servers stand in network namespaces."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.reversename
import docker
import pytest

from gantry.linux.namespaces import CLONE_NEWNET, setns
from lib.daemon import BIN, PROJECT, Client, Daemon

T = TypeVar("T")
RESOLVER = "127.0.0.11"
UPSTREAM, SECOND, DEAD = "198.18.53.2", "198.18.53.3", "198.18.53.9"


def inside(pid: int, function: Callable[[], T]) -> T:
    """Call a function in a process's network namespace, in a thread that ends."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
                setns(namespace.fileno(), CLONE_NEWNET)
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Net:
    """Containers of one test on one daemon; all are removed at its end, and the networks after them."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self._containers: list[str] = []
        self._networks: list[str] = []

    def network(self, name: str, *options: str) -> str:
        full = f"{self.prefix}-{name}"
        self.client.run("network", "create", *options, full)
        self._networks.append(full)
        return full

    def run(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "600")) -> str:
        full = f"{self.prefix}-{name}"
        self._containers.append(full)
        self.client.run("run", "-d", "--name", full, *options, "busybox", *command)
        return full

    def inspect(self, name: str) -> dict:  # type: ignore[type-arg]
        return json.loads(self.client.out("inspect", name))[0]  # type: ignore[no-any-return]

    def pid(self, name: str) -> int:
        return int(self.client.out("inspect", "-f", "{{.State.Pid}}", name))

    def address(self, name: str, network: str) -> str:
        return str(self.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"])

    def file(self, name: str, path: str) -> str:
        return self.client.out("exec", name, "cat", path)

    def ask(
        self, who: str | int, name: str, kind: str = "A", *, tcp: bool = False, timeout: float = 6, **options: object
    ) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
        function = dns.query.tcp if tcp else dns.query.udp
        pid = who if isinstance(who, int) else self.pid(who)
        return inside(pid, lambda: function(query, RESOLVER, timeout=timeout))

    def addresses(self, who: str | int, name: str, kind: str = "A") -> list[str]:
        """In the order of the answer; raises AssertionError for another code than NOERROR."""
        answer = self.ask(who, name, kind)
        assert answer.rcode() == dns.rcode.NOERROR, f"{name}: {dns.rcode.to_text(answer.rcode())}"
        return [str(each) for rrset in answer.answer for each in rrset]

    def code(self, who: str | int, name: str, kind: str = "A") -> str:
        return dns.rcode.to_text(self.ask(who, name, kind).rcode())

    def close(self) -> None:
        if self._containers:
            self.client.run("rm", "-f", *self._containers, check=False)
        for name in self._networks:
            self.client.run("network", "rm", name, check=False)


@pytest.fixture
def net(gantry: Client, request: pytest.FixtureRequest) -> Iterator[Net]:
    made = Net(gantry, f"d{abs(hash(request.node.name)) % 100000}")
    yield made
    made.close()


@pytest.fixture
def each_net(client: Client, gantry: Client, request: pytest.FixtureRequest) -> Iterator[Net]:
    """The same once with `gantry` and once with the official client."""
    made = Net(client, f"e{abs(hash(request.node.name)) % 100000}")
    yield made
    made.close()


@pytest.fixture
def own(scratch: Path) -> Iterator[tuple[Daemon, Net]]:
    """A daemon that may be killed."""
    daemon = Daemon(scratch)
    daemon.start()
    net = Net(Client(str(BIN / "gantry"), daemon.host, scratch / "config"), "own")
    net.client.run("image", "bootstrap", "busybox", "-t", "busybox")
    try:
        yield daemon, net
    finally:
        net.close()
        daemon.clean()


class Upstream:
    """Name servers on two addresses of another host, and an address where nobody answers."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "queries"
        self._log.touch()
        self._servers: list[subprocess.Popen[str]] = []
        run("ip", "netns", "add", "gt-dns")
        run("ip", "link", "add", "gtdns0", "type", "veth", "peer", "name", "eth0", "netns", "gt-dns")
        run("ip", "addr", "add", "198.18.53.1/24", "dev", "gtdns0")
        run("ip", "link", "set", "gtdns0", "up")
        for address in (UPSTREAM, SECOND, DEAD):
            run("ip", "-n", "gt-dns", "addr", "add", f"{address}/24", "dev", "eth0")
        for name in ("lo", "eth0"):
            run("ip", "-n", "gt-dns", "link", "set", name, "up")
        run("ip", "-n", "gt-dns", "route", "add", "default", "via", "198.18.53.1")
        # A dead server is silent: nobody says that the port is closed.
        rule = f"table ip x {{ chain i {{ type filter hook input priority 0; ip daddr {DEAD} drop; }}; }}"
        run("ip", "netns", "exec", "gt-dns", "nft", rule)
        for address in (UPSTREAM, SECOND):
            server = subprocess.Popen(
                ["ip", "netns", "exec", "gt-dns", sys.executable, str(PROJECT / "tests/lib/nameserver.py"), address,
                 str(self._log)],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            self._servers.append(server)

    def queries(self) -> list[str]:
        return self._log.read_text().splitlines()

    def close(self) -> None:
        for server in self._servers:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        run("ip", "netns", "del", "gt-dns")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    made = Upstream(tmp_path_factory.mktemp("dns"))
    yield made
    made.close()


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


# ---------------------------------------------------------------------------------------------- our names


def test_containers_find_each_other(each_net: Net) -> None:
    net = each_net
    front = net.network("front")
    web = net.run("web", "--network", front, "--network-alias", "WWW", "--hostname", "webhost")
    cli = net.run("cli", "--network", front)
    address = net.address(web, front)
    short = net.inspect(web)["Id"][:12]
    pid = net.pid(cli)
    for name in (web, web.upper(), f"{web}.{front}", "www", "Www.", short, "webhost"):
        assert net.addresses(pid, name) == [address], name
    assert net.client.out("exec", cli, "ping", "-c1", "-W2", "www").startswith(f"PING www ({address})")
    assert net.addresses(net.pid(web), cli) == [net.address(cli, front)]
    for kind in ("AAAA", "TXT", "MX", "SRV"):
        assert net.addresses(pid, web, kind) == []  # it is there, and has nothing of this kind
    assert net.addresses(pid, str(dns.reversename.from_address(address)), "PTR") == [f"{web}.{front}."]
    free = address.rpartition(".")[0] + ".250"
    assert net.code(pid, str(dns.reversename.from_address(free)), "PTR") == "NXDOMAIN"
    found = net.inspect(web)["NetworkSettings"]["Networks"][front]
    assert found["DNSNames"] == [web, "WWW", short, "webhost"]
    assert found["Aliases"] in (["WWW"], ["WWW", short, "webhost"])  # the latter before API 1.45


def test_the_containers_files(net: Net) -> None:
    front = net.network("front")
    web = net.run("web", "--network", front, "--dns-search", "a.example", "--add-host", "extra:1.2.3.4")
    lines = net.file(web, "/etc/resolv.conf").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "nameserver 127.0.0.11", "search a.example", "options ndots:0",
    ]  # fmt: skip
    assert any(line.startswith("# ExtServers: [") for line in lines)
    hosts = net.file(web, "/etc/hosts").splitlines()
    assert "1.2.3.4\textra" in hosts
    assert f"{net.address(web, front)}\t{net.inspect(web)['Id'][:12]}" in hosts
    plain = net.run("plain", "--dns", "192.0.2.1", "--dns-option", "timeout:3")
    resolv = net.file(plain, "/etc/resolv.conf")
    assert "nameserver 192.0.2.1\n" in resolv
    assert "options timeout:3\n" in resolv


def test_ipv6(net: Net) -> None:
    dual, only = net.network("dual", "--ipv6"), net.network("only", "--ipv4=false", "--ipv6")
    for network in (dual, only):
        web, cli = (
            net.run(f"web-{network[-4:]}", "--network", network),
            net.run(f"cli-{network[-4:]}", "--network", network),
        )
        pid = net.pid(cli)
        given = net.inspect(web)["NetworkSettings"]["Networks"][network]
        assert net.addresses(pid, web, "AAAA") == [given["GlobalIPv6Address"]]
        assert net.addresses(pid, web) == ([given["IPAddress"]] if given["IPAddress"] else [])
        pointer = str(dns.reversename.from_address(given["GlobalIPv6Address"]))
        assert net.addresses(pid, pointer, "PTR") == [f"{web}.{network}."]
        assert net.addresses(pid, "gateway.docker.internal", "AAAA") == [given["IPv6Gateway"]]
        assert net.client.run("exec", cli, "ping", "-6", "-c1", "-W2", web).returncode == 0
        assert net.file(cli, "/etc/hosts").count(net.inspect(cli)["Id"][:12]) == 1 + bool(given["IPAddress"])


def test_names_are_known_within_their_networks_alone(net: Net) -> None:
    front, back = net.network("front"), net.network("back")
    net.run("web", "--network", front, "--network-alias", "www")
    outsider, plain = net.run("outsider", "--network", back), net.run("plain")
    assert net.code(outsider, "www") != "NOERROR"
    with pytest.raises((dns.exception.Timeout, ConnectionError)):  # nobody listens on the default bridge
        net.ask(plain, "www", timeout=0.5)


def test_equal_aliases_take_turns(net: Net) -> None:
    front = net.network("front")
    for number in range(3):
        net.run(f"w{number}", "--network", front, "--network-alias", "pool")
    pid = net.pid(net.run("cli", "--network", front))
    answers = [net.addresses(pid, "pool") for _ in range(9)]
    assert {len(each) for each in answers} == {3}
    assert {tuple(sorted(each)) for each in answers} == {tuple(sorted(answers[0]))}
    assert {each[0] for each in answers} == set(answers[0])


def test_the_host_has_names_everywhere(net: Net) -> None:
    front, closed = net.network("front"), net.network("closed", "--internal")
    bridge = net.client.out("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    gateways = {
        name: net.client.out("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", name)
        for name in (front, closed)
    }
    plain, named, shut = net.run("plain"), net.run("named", "--network", front), net.run("shut", "--network", closed)
    assert f"{bridge}\thost.docker.internal gateway.docker.internal" in net.file(plain, "/etc/hosts")
    assert net.addresses(named, "host.docker.internal") == [bridge]
    assert net.addresses(named, "gateway.docker.internal") == [gateways[front]]
    assert net.addresses(shut, "host.docker.internal") == [gateways[closed]]
    for name in (plain, named, shut):
        assert net.client.run("exec", name, "ping", "-c1", "-W2", "host.docker.internal").returncode == 0


def test_connecting_and_disconnecting(net: Net) -> None:
    front = net.network("front")
    web = net.run("web", "--network", front)
    late = net.run("late")
    assert "127.0.0.11" not in net.file(late, "/etc/resolv.conf")
    net.client.run("network", "connect", "--alias", "latecomer", front, late)
    assert "nameserver 127.0.0.11" in net.file(late, "/etc/resolv.conf")
    assert net.addresses(late, web) == [net.address(web, front)]
    assert net.addresses(web, "latecomer") == [net.address(late, front)]
    assert f"{net.address(late, front)}\t" in net.file(late, "/etc/hosts")
    gone = net.address(late, front)
    net.client.run("network", "disconnect", front, late)
    assert net.code(web, "latecomer") != "NOERROR"
    assert gone not in net.file(late, "/etc/hosts")
    assert net.code(late, web) != "NOERROR"
    net.client.run("rm", "-f", late)
    net.client.run("stop", "-t", "0", web)
    again = net.run("again", "--network", front)
    assert net.code(again, web) != "NOERROR"
    net.client.run("start", web)
    assert net.addresses(again, web) == [net.address(web, front)]


def test_a_new_name_counts_at_once(net: Net) -> None:
    front = net.network("front")
    web, pid = net.run("web", "--network", front), net.pid(net.run("cli", "--network", front))
    address = net.address(web, front)
    assert net.addresses(pid, web) == [address]
    net.client.run("rename", web, f"{web}-new")
    try:
        assert net.addresses(pid, f"{web}-new") == [address]
        assert net.code(pid, web) != "NOERROR"
        assert net.addresses(pid, str(dns.reversename.from_address(address)), "PTR") == [f"{web}-new.{front}."]
    finally:
        net.client.run("rename", f"{web}-new", web)


def test_port_53_is_the_containers_own(net: Net) -> None:
    """Name servers run in containers: they listen on port 53, and others on their network ask them."""
    front = net.network("front")
    server, cli = net.run("server", "--network", front), net.run("cli", "--network", front)
    address = net.address(server, front)

    def listen() -> list[socket.socket]:
        made = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
        for each in made:
            each.bind(("0.0.0.0", 53))
        made[1].listen()
        return made

    def ask() -> socket.socket:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.sendto(b"hello", (address, 53))
        return udp

    udp, tcp = inside(net.pid(server), listen)
    with udp, tcp, inside(net.pid(cli), ask) as client:
        data, sender = udp.recvfrom(100)
        assert data == b"hello"
        udp.sendto(b"world", sender)
        assert client.recvfrom(100) == (b"world", (address, 53))
        assert net.addresses(server, cli) == [net.address(cli, front)]
        assert net.ask(server, cli, tcp=True).answer


def test_names_through_the_sdk(net: Net, daemon: Daemon) -> None:
    front = net.network("front")
    client = docker.DockerClient(base_url=daemon.host)
    try:
        made = client.containers.run("busybox", ["sleep", "600"], detach=True, name=f"{net.prefix}-sdk", network=front)
        late = client.containers.run("busybox", ["sleep", "600"], detach=True, name=f"{net.prefix}-late")
        try:
            network = client.networks.get(front)
            network.connect(late, aliases=["alias"], links=[(made.name, "linked")])
            address = net.address(made.name, front)
            for name in (made.name, "linked"):
                code, output = late.exec_run(["nslookup", name])
                assert code == 0
                assert f"Address: {address}".encode() in output
            assert made.exec_run(["ping", "-c1", "alias"])[0] == 0
            made.rename(f"{net.prefix}-other")
            assert net.addresses(late.name, f"{net.prefix}-other") == [address]
            network.disconnect(late)
            assert made.exec_run(["ping", "-c1", "-W1", "alias"])[0] != 0
        finally:
            for each in (made, late):
                each.remove(force=True)
    finally:
        client.close()


# ---------------------------------------------------------------------------------------------- links


def test_links_on_a_network_are_names(each_net: Net) -> None:
    net = each_net
    front = net.network("front")
    web = net.run("web", "--network", front)
    cli = net.run("cli", "--network", front, "--link", f"{web}:db")
    assert net.addresses(cli, "db") == [net.address(web, front)]
    assert net.code(web, "db") != "NOERROR"
    late = net.run("late")
    net.client.run("network", "connect", "--link", f"{web}:other", front, late)
    assert net.addresses(late, "other") == [net.address(web, front)]


def test_links_on_the_default_bridge_are_lines_and_variables(net: Net) -> None:
    target = net.run("tgt", "-e", "FOO=bar", "--expose", "5432", "--expose", "53/udp", "--hostname", "h.example.com")
    cli = net.run("cli", "--link", f"{target}:db-1", "--link", target)
    address = net.address(target, "bridge")
    hosts = net.file(cli, "/etc/hosts").splitlines()
    assert f"{address}\tdb-1 h.example.com {target}" in hosts
    assert f"{address}\t{target} h.example.com" in hosts
    environment = net.client.out("exec", cli, "env").splitlines()
    for line in (
        f"DB_1_NAME=/{cli}/db-1", "DB_1_ENV_FOO=bar", f"DB_1_PORT=tcp://{address}:5432",
        f"DB_1_PORT_5432_TCP_ADDR={address}", "DB_1_PORT_53_UDP_PROTO=udp",
    ):  # fmt: skip
        assert line in environment
    assert net.inspect(cli)["HostConfig"]["Links"] == [f"/{target}:/{cli}/db-1", f"/{target}:/{cli}/{target}"]
    # The target comes back with another address: the line follows.
    net.client.run("stop", "-t", "0", target)
    net.run("between")
    net.client.run("start", target)
    fresh = net.address(target, "bridge")
    hosts = net.file(cli, "/etc/hosts").splitlines()
    assert f"{fresh}\tdb-1 h.example.com {target}" in hosts
    assert len([line for line in hosts if line.endswith(f"db-1 h.example.com {target}")]) == 1
    net.client.run("stop", "-t", "0", target, cli)
    refused = net.client.run("start", cli, check=False)
    assert f"Cannot link to a non running container: /{target} AS /{cli}/db-1" in refused.stderr


def test_links_that_lead_nowhere(net: Net) -> None:
    front = net.network("front")
    other = net.run("other", "--network", front)
    refused = net.client.run("run", "--rm", "--link", "nosuch:x", "busybox", "true", check=False)
    assert "could not get container for nosuch: No such container: nosuch" in refused.stderr
    refused = net.client.run("run", "--rm", "--link", f"{other}:x", "busybox", "true", check=False)
    assert "not attached to default bridge network" in refused.stderr


# --------------------------------------------------------------------------------------------- upstream


def test_other_names_are_asked_for_behind_us(net: Net, upstream: Upstream) -> None:
    front = net.network("front")
    pid = net.pid(net.run("cli", "--network", front, "--dns", UPSTREAM))
    assert net.addresses(pid, "plain.test") == ["10.9.8.7"]
    assert net.code(pid, "nosuch.example") == "NXDOMAIN"
    assert net.code(pid, "failing.test") == "SERVFAIL"
    assert net.code(pid, "refused.test") == "REFUSED"
    answer = net.ask(pid, "edns.test", "TXT", use_edns=0, payload=1400)
    assert "1400" in str(answer.answer[0])
    assert answer.edns == 0
    assert "none" in str(net.ask(pid, "edns.test", "TXT").answer[0])
    start = time.monotonic()
    assert net.addresses(pid, "slow.test") == ["10.9.8.7"]
    assert time.monotonic() - start < 3


def test_a_truncated_answer_is_asked_for_again_by_tcp(net: Net, upstream: Upstream) -> None:
    pid = net.pid(net.run("cli", "--network", net.network("front"), "--dns", UPSTREAM))
    short = net.ask(pid, "big.test", "TXT")
    assert short.flags & dns.flags.TC
    assert not short.answer
    whole = net.ask(pid, "big.test", "TXT", tcp=True)
    assert len(whole.to_wire()) > 3000
    assert net.ask(pid, "plain.test", tcp=True).answer


def test_many_addresses_do_not_fit_into_a_datagram(net: Net) -> None:
    front = net.network("front")
    cli = net.run("cli", "--network", front)
    pid = net.pid(cli)
    name = f"{'p' * 60}.{'q' * 60}.{'r' * 60}.{'s' * 60}"  # the question alone takes half of it
    for number in range(17):
        net.run(f"w{number}", "--network", front, f"--network-alias={name}")
    answer = net.ask(pid, name)
    assert answer.flags & dns.flags.TC
    assert 0 < len(answer.answer[0]) < 17
    assert len(net.ask(pid, name, tcp=True).answer[0]) == 17
    assert len(net.ask(pid, name, use_edns=0, payload=1232).answer[0]) == 17


def test_answers_are_kept_for_a_while(net: Net, upstream: Upstream) -> None:
    pid = net.pid(net.run("cli", "--network", net.network("front"), "--dns", UPSTREAM))
    first = net.ask(pid, "kept.test")
    time.sleep(1.1)
    second = net.ask(pid, "kept.test")
    assert upstream.queries().count("udp kept.test.") == 1
    assert second.answer[0].ttl in (first.answer[0].ttl - 1, first.answer[0].ttl - 2)


@pytest.mark.parametrize("first", [DEAD, "198.18.53.1"])
def test_a_dead_server_costs_little(net: Net, upstream: Upstream, first: str) -> None:
    front = net.network("front")
    pid = net.pid(net.run("cli", "--network", front, "--dns", first, "--dns", SECOND))
    for number in range(5):
        start = time.monotonic()
        assert net.addresses(pid, f"over{number}-{first.replace('.', '-')}.test") == ["10.9.8.7"]
        assert time.monotonic() - start < 0.8
    assert net.ask(pid, "big.test", "TXT", tcp=True).answer


def test_when_nobody_answers_it_says_so(net: Net, upstream: Upstream) -> None:
    pid = net.pid(net.run("cli", "--network", net.network("front"), "--dns", DEAD))
    start = time.monotonic()
    assert net.code(pid, "silent.test") == "SERVFAIL"
    assert time.monotonic() - start < 5.5


def test_nothing_leaves_an_internal_network(net: Net, upstream: Upstream) -> None:
    """CVE-2024-29018: a name may carry data out of a network that has no way out."""
    closed, front = net.network("closed", "--internal"), net.network("front")
    web = net.run("web", "--network", closed)
    shut = net.run("shut", "--network", closed, "--dns", UPSTREAM)
    pid = net.pid(shut)
    assert net.addresses(pid, web) == [net.address(web, closed)]
    for kind, tcp in (("A", False), ("TXT", False), ("A", True)):
        assert net.ask(pid, "secret.test", kind, tcp=tcp).rcode() == dns.rcode.SERVFAIL
    assert not any("secret" in line for line in upstream.queries())
    net.client.run("network", "connect", front, shut)
    assert net.addresses(pid, "public.test") == ["10.9.8.7"]
    net.client.run("network", "disconnect", front, shut)
    assert net.code(pid, "secret.test") == "SERVFAIL"
    assert not any("secret" in line for line in upstream.queries())


# ------------------------------------------------------------------------------------- life and death


def test_it_answers_while_the_daemon_is_dead(own: tuple[Daemon, Net]) -> None:
    daemon, net = own
    front = net.network("front")
    web = net.run("web", "--network", front, "--network-alias", "www")
    cli = net.run("cli", "--network", front)
    address, pid = net.address(web, front), net.pid(cli)
    ended = threading.Event()
    answers: list[list[str]] = []

    def loop() -> None:
        while not ended.is_set():
            answers.append(net.addresses(pid, "www"))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        for number in range(2):
            daemon.kill()
            assert net.addresses(pid, web) == [address]
            daemon.start()
            late = net.run(f"late{number}", "--network", front)
            assert net.addresses(pid, late) == [net.address(late, front)]
            assert net.addresses(net.pid(late), "www") == [address]
    finally:
        ended.set()
        thread.join()
    assert len(answers) > 50
    assert {tuple(each) for each in answers} == {(address,)}
    net.client.run("rm", "-f", web)
    assert net.code(pid, "www") != "NOERROR"


def resolver_pids(daemon: Daemon) -> list[int]:
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                command = (directory / "cmdline").read_bytes().split(b"\0")
                mine = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if any(part.endswith(b"network/dns/__main__.py") for part in command) and int(mine) in (daemon.pid, 1):
                found.append(int(directory.name))
    return found


def test_a_resolver_that_dies_is_replaced(own: tuple[Daemon, Net]) -> None:
    daemon, net = own
    front = net.network("front")
    web, cli = net.run("web", "--network", front), net.run("cli", "--network", front)
    address, pid = net.address(web, front), net.pid(cli)
    assert net.addresses(pid, web) == [address]
    (resolver,) = resolver_pids(daemon)
    os.kill(resolver, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while True:
        try:
            answer = net.ask(pid, web, timeout=0.3)
            break
        except (dns.exception.Timeout, ConnectionError):
            assert time.monotonic() < deadline
    assert str(answer.answer[0][0]) == address
    assert net.addresses(net.pid(web), cli) == [net.address(cli, front)]


def test_it_ends_with_the_last_container_and_the_daemon(own: tuple[Daemon, Net]) -> None:
    daemon, net = own
    assert resolver_pids(daemon) == []
    net.run("web", "--network", net.network("front"))
    assert len(resolver_pids(daemon)) == 1
    net.close()
    assert daemon.stop() == 0
    assert resolver_pids(daemon) == []
    assert not (daemon.exec_root / "resolver.sock").exists()


def test_names_under_load(net: Net) -> None:
    """Containers come and go while others ask: every answer is right for its moment."""
    front = net.network("front")
    web = net.run("web", "--network", front, "--network-alias", "steady")
    cli = net.run("cli", "--network", front)
    address, pid = net.address(web, front), net.pid(cli)
    ended = threading.Event()
    counts = [0] * 4
    wrong: list[object] = []

    def loop(number: int) -> None:
        while not ended.is_set():
            try:
                found = net.addresses(pid, "steady")
            except (AssertionError, OSError, dns.exception.DNSException) as error:
                wrong.append(error)
                return
            counts[number] += 1
            if found != [address]:
                wrong.append(found)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            name = net.run(f"n{number}", "--network", front, "--network-alias", "changing")
            assert net.addresses(pid, name) == [net.address(name, front)]
            net.client.run("rm", "-f", name)
            assert net.code(pid, name) != "NOERROR"
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert sum(counts) > 100


def test_hostile_messages(net: Net) -> None:
    """Nothing that a container sends disturbs the resolver."""
    front = net.network("front")
    web, cli = net.run("web", "--network", front), net.run("cli", "--network", front)
    pid = net.pid(cli)
    address = net.address(web, front)

    def storm() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for number in range(2000):
                udp.sendto(os.urandom(number % 600), (RESOLVER, 53))
        for size in (b"\0\0", b"\xff\xff", b"\0\5abc"):
            with socket.create_connection((RESOLVER, 53), timeout=2) as tcp:
                tcp.sendall(size + os.urandom(40))
        idle = [socket.create_connection((RESOLVER, 53), timeout=2) for _ in range(80)]
        for each in idle:
            each.close()

    inside(pid, storm)
    assert net.addresses(pid, web) == [address]
    assert net.ask(pid, web, tcp=True).answer
    assert net.addresses(net.pid(web), cli) == [net.address(cli, front)]


def test_the_daemons_own_settings(scratch: Path, upstream: Upstream) -> None:
    (scratch / "daemon.json").write_text(
        json.dumps({"dns": [UPSTREAM], "dns-search": ["corp.test"], "dns-opts": ["timeout:2"]})
    )
    daemon = Daemon(scratch)
    daemon.start()
    net = Net(Client(str(BIN / "gantry"), daemon.host, scratch / "config"), "set")
    try:
        net.client.run("image", "bootstrap", "busybox", "-t", "busybox")
        named = net.run("named", "--network", net.network("front"))
        text = net.file(named, "/etc/resolv.conf")
        assert "nameserver 127.0.0.11\nsearch corp.test\noptions timeout:2 ndots:0\n" in text
        assert net.addresses(named, "plain.test") == ["10.9.8.7"]
        plain = net.run("plain")
        assert f"nameserver {UPSTREAM}\nsearch corp.test\noptions timeout:2\n" in net.file(plain, "/etc/resolv.conf")
    finally:
        net.close()
        daemon.clean()
