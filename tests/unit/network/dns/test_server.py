"""The resolver's process in a thread: commands from a daemon, queries from a container's sockets."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from gantry.network.dns import control
from gantry.network.dns.hostfile import HostServers
from gantry.network.dns.server import Server

HOST = {"id": "box", "servers": [], "follow": False, "ndots": False, "forward": False, "special": []}


def endpoint(key: str, sandbox: str, *names: str, address: str = "0a000001", network: str = "n") -> dict[str, Any]:
    return {
        "key": key, "sandbox": sandbox, "network": network, "names": names, "ipv4": address, "ipv6": "", "links": [],
    }  # fmt: skip


class Daemon:
    """The other end of the conversation; `udp` and `tcp` are what a container asks."""

    def __init__(self, path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        self._path = path
        self.host = path.parent
        self._server = threading.Thread(target=Server(listener, HostServers(str(self.host / "resolv.conf"))).run)
        self._server.start()
        self._listener = listener
        self.udp = self.tcp = 0
        self.held: list[str] = []
        self.connect()

    def connect(self) -> None:
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(str(self._path))
        self.connection.setblocking(False)
        reader = control.Reader(self.connection)
        while not (frames := reader.read()):
            time.sleep(0.01)
        assert frames[0]["version"] == control.VERSION
        assert frames[0]["pid"] == os.getpid()
        self.held = frames[0]["sandboxes"]
        self.connection.setblocking(True)

    def send(self, do: str, fds: tuple[int, ...] = (), **message: Any) -> None:
        self.connection.sendmsg([control.frame({"do": do, **message})], control.descriptors(fds))

    def open(self, settings: dict[str, Any]) -> None:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        tcp = socket.create_server(("127.0.0.1", 0))
        self.udp, self.tcp = udp.getsockname()[1], tcp.getsockname()[1]
        with udp, tcp, Path("/proc/self/ns/net").open("rb") as namespace:
            self.send("open", (namespace.fileno(), udp.fileno(), tcp.fileno()), sandbox=settings)

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False, **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        function = dns.query.tcp if tcp else dns.query.udp
        return function(query, "127.0.0.1", port=self.tcp if tcp else self.udp, timeout=5)

    def addresses(self, name: str) -> list[str]:
        return [str(each) for rrset in self.ask(name).answer for each in rrset]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.send("end")
        self._server.join(10)
        self.connection.close()
        self._listener.close()
        assert not self._server.is_alive()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "s")
    made.send("load", networks=[{"id": "n", "name": "net", "own": []}], endpoints=[], sandboxes=[])
    yield made
    made.close()


def test_names_come_and_go(daemon: Daemon) -> None:
    daemon.open(HOST)
    daemon.send("join", endpoint=endpoint("e1", "box", "me"))
    daemon.send("join", endpoint=endpoint("e2", "other", "web", "www", address="0a000002"))
    assert daemon.addresses("web") == ["10.0.0.2"]
    assert daemon.addresses("web") == ["10.0.0.2"]  # once more, from what was kept
    daemon.send("join", endpoint=endpoint("e3", "third", "www", address="0a000003"))
    assert sorted(daemon.addresses("www")) == ["10.0.0.2", "10.0.0.3"]
    assert {daemon.addresses("www")[0] for _ in range(4)} == {"10.0.0.2", "10.0.0.3"}
    daemon.send("leave", key="e2")
    assert daemon.addresses("www") == ["10.0.0.3"]
    assert daemon.ask("web").rcode() == dns.rcode.SERVFAIL  # nothing behind: it cannot be known
    daemon.send("forget", id="n")
    assert daemon.ask("www").rcode() == dns.rcode.SERVFAIL


def test_a_daemon_that_was_killed_finds_its_sandboxes_again(daemon: Daemon) -> None:
    daemon.open(HOST)
    daemon.send("join", endpoint=endpoint("e1", "box", "me"))
    assert daemon.addresses("me") == ["10.0.0.1"]
    daemon.connection.close()
    assert daemon.addresses("me") == ["10.0.0.1"]
    daemon.connect()
    assert daemon.held == ["box"]
    special = [("host.docker.internal", "0a0000fe", "")]
    daemon.send(
        "load", networks=[{"id": "n", "name": "net", "own": []}], endpoints=[endpoint("e9", "box", "new")],
        sandboxes=[HOST | {"special": special}],
    )  # fmt: skip
    assert daemon.addresses("new.net") == ["10.0.0.1"]
    assert daemon.addresses("host.docker.internal") == ["10.0.0.254"]
    assert daemon.ask("me").rcode() == dns.rcode.SERVFAIL
    daemon.send("load", networks=[], endpoints=[], sandboxes=[])
    deadline = time.monotonic() + 5
    while True:  # its sockets are closed
        try:
            socket.create_connection(("127.0.0.1", daemon.tcp), timeout=1).close()
        except ConnectionError:
            break
        assert time.monotonic() < deadline


def test_a_second_daemon_takes_over(daemon: Daemon) -> None:
    before = daemon.connection
    daemon.connect()
    assert before.recv(1) == b""
    before.close()
    daemon.open(HOST)
    assert daemon.ask("x").rcode() == dns.rcode.SERVFAIL


def test_over_tcp(daemon: Daemon) -> None:
    daemon.open(HOST)
    for number in range(100):
        daemon.send("join", endpoint=endpoint(f"e{number}", f"s{number}", "many", address=f"0a0001{number:02x}"))
    daemon.send("join", endpoint=endpoint("own", "box", "me"))
    short = daemon.ask("many")
    assert short.flags & dns.flags.TC
    whole = daemon.ask("many", tcp=True)
    assert len(whole.answer[0]) == 100
    with socket.create_connection(("127.0.0.1", daemon.tcp), timeout=5) as connection:
        query = dns.message.make_query("me", "A").to_wire()
        framed = len(query).to_bytes(2, "big") + query
        connection.sendall(framed * 3 + framed[:5])
        time.sleep(0.05)
        connection.sendall(framed[5:])
        received = b""
        while len(received) < 4 * (2 + len(query) + 16):
            received += connection.recv(4096)
    assert received.count(b"\x0a\0\0\1") == 4


def test_broken_messages(daemon: Daemon) -> None:
    daemon.open(HOST)
    daemon.send("join", endpoint=endpoint("e1", "box", "me"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        udp.connect(("127.0.0.1", daemon.udp))
        udp.send(b"\1\2\0\0" + bytes(8))
        assert dns.message.from_wire(udp.recv(512)).rcode() == dns.rcode.FORMERR
        udp.send(b"x")
        udp.send(b"\0" * 2 + b"\x80" + b"\0" * 9)  # an answer is not answered
        udp.send(b"\1\2\x28\0" + bytes(8))
        assert dns.message.from_wire(udp.recv(512)).rcode() == dns.rcode.NOTIMP
    with socket.create_connection(("127.0.0.1", daemon.tcp), timeout=5) as connection:
        connection.sendall(b"\0\0\0\1x\0\2xx")
    assert daemon.addresses("me") == ["10.0.0.1"]
    assert daemon.ask("me", use_edns=1).rcode() == dns.rcode.BADVERS
    assert daemon.ask("me", use_edns=0).edns == 0


def test_a_name_without_a_dot_and_an_ndots_of_the_users(daemon: Daemon) -> None:
    daemon.open(HOST | {"ndots": True})
    answer = daemon.ask("single")
    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
    assert daemon.ask("with.dot").rcode() == dns.rcode.SERVFAIL


def test_it_forwards_and_keeps(daemon: Daemon) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.53", 0))
        port = udp.getsockname()[1]
        asked = 0

        def serve() -> None:
            nonlocal asked
            while True:
                data, client = udp.recvfrom(4096)
                if data == b"end":
                    return
                asked += 1
                answer = dns.message.make_response(dns.message.from_wire(data))
                answer.answer.append(dns.rrset.from_text(answer.question[0].name, 30, "IN", "A", "10.9.9.9"))
                udp.sendto(answer.to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            daemon.open(HOST | {"forward": True, "servers": [("127.0.0.53", True, port)]})
            assert daemon.addresses("outside.example") == ["10.9.9.9"]
            assert daemon.addresses("outside.example") == ["10.9.9.9"]
            assert asked == 1
            (daemon.host / "resolv.conf").write_text("nameserver 127.0.0.77\n")
            follow = HOST | {"forward": True, "follow": True, "servers": [("127.0.0.53", True, port)]}
            daemon.send("settings", sandbox=follow)
            assert daemon.ask("outside.example").rcode() == dns.rcode.SERVFAIL  # nobody is there
            (daemon.host / "resolv.conf").write_text("# none\n")
            assert daemon.addresses("outside.example") == ["10.9.9.9"]
            daemon.send("settings", sandbox=HOST | {"servers": [("127.0.0.53", True, port)]})
            assert daemon.ask("other.example").rcode() == dns.rcode.SERVFAIL
            assert asked == 1
        finally:
            udp.sendto(b"end", ("127.0.0.53", port))
            thread.join()


def test_without_daemon_and_containers_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gantry.network.dns.server._ORPHANED", 0.1)
    made = Daemon(tmp_path / "s")
    made.connection.close()
    made._server.join(5)
    assert not made._server.is_alive()
    made.close()
