"""Asking several servers: who is asked when, and whose answer counts. Servers are sockets on this machine."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gantry.network.dns import forward, messages
from gantry.network.dns.forward import Exchange, Health, Upstream
from gantry.network.dns.loop import Loop

Behaviour = Callable[[bytes], bytes | None]


def query() -> messages.Query:
    data = struct.pack("!HHHHHH", 77, 0x100, 1, 0, 0, 0) + b"\4some\4name\0\0\1\0\1"
    made = messages.parse_query(data)
    assert isinstance(made, messages.Query)
    return made


def answer(last: int = 1, *, code: int = 0, count: int = 1) -> Behaviour:
    def behave(data: bytes) -> bytes:
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + bytes([10, 0, 0, last])
        return data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, count, 0, 0) + data[12:] + record * count

    return behave


def silence(_: bytes) -> None:
    return None


def slowly(seconds: float, behaviour: Behaviour) -> Behaviour:
    def behave(data: bytes) -> bytes | None:
        time.sleep(seconds)
        return behaviour(data)

    return behave


class Servers:
    """Name servers on ports of their own; `asked` counts queries by their place in the order."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.asked = [0] * len(behaviours)
        self.upstreams: list[Upstream] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        for place, behaviour in enumerate(behaviours):
            tcp = socket.create_server(("127.0.0.1", 0))
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind(tcp.getsockname())
            except OSError:  # somebody has the port for datagrams: one more try
                tcp.close()
                tcp = socket.create_server(("127.0.0.1", 0))
                udp.bind(tcp.getsockname())
            self._sockets += [udp, tcp]
            self.upstreams.append(Upstream("127.0.0.1", host=True, port=udp.getsockname()[1]))
            self._threads.append(threading.Thread(target=self._udp, args=(place, udp, behaviour), daemon=True))
            self._threads.append(threading.Thread(target=self._tcp, args=(place, tcp, behaviour), daemon=True))
        for thread in self._threads:
            thread.start()

    def _udp(self, place: int, udp: socket.socket, behaviour: Behaviour) -> None:
        while True:
            data, client = udp.recvfrom(4096)
            if data == b"end":
                return
            self.asked[place] += 1

            def one(data: bytes = data, client: object = client) -> None:
                if (made := behaviour(data)) is not None:
                    with contextlib.suppress(OSError):
                        udp.sendto(made, client)  # type: ignore[arg-type]

            threading.Thread(target=one, daemon=True).start()

    def _tcp(self, place: int, tcp: socket.socket, behaviour: Behaviour) -> None:
        while True:
            connection, _ = tcp.accept()
            with connection:
                data = connection.recv(4096)
                if data == b"end":
                    return
                self.asked[place] += 1
                if (made := behaviour(data[2:])) is not None:
                    for part in (len(made).to_bytes(2, "big"), made[:5], made[5:]):
                        connection.sendall(part)
                        time.sleep(0.01)

    def close(self) -> None:
        for each in self._sockets:
            if each.type == socket.SOCK_DGRAM:
                each.sendto(b"end", each.getsockname())
            else:
                with socket.create_connection(each.getsockname()) as last:
                    last.sendall(b"end")
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@contextlib.contextmanager
def serving(*behaviours: Behaviour) -> Iterator[Servers]:
    made = Servers(*behaviours)
    try:
        yield made
    finally:
        made.close()


def opener(family: int, kind: int, host: bool) -> socket.socket:
    assert host
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


def ask(loop: Loop, servers: list[Upstream], health: Health | None = None, *, tcp: bool = False) -> bytes | None:
    found: list[bytes | None] = []
    exchange = Exchange(loop, health or Health(), "s", servers, query(), opener, found.append, tcp=tcp)
    exchange.start()
    deadline = time.monotonic() + 6
    while not found and time.monotonic() < deadline:
        loop.turn()
    assert len(found) == 1
    return found[0]


def last(data: bytes | None) -> int:
    assert data is not None
    assert data[:2] == query().data[:2]  # the client's number, not the one that was sent
    return data[-1]


def test_the_first_server_is_enough(loop: Loop) -> None:
    with serving(answer(1), answer(2)) as servers:
        assert last(ask(loop, servers.upstreams)) == 1
        assert servers.asked == [1, 0]


def test_a_slow_server_is_overtaken_and_still_believed_where_it_is_faster(loop: Loop) -> None:
    with serving(slowly(0.6, answer(1)), answer(2)) as servers:
        start = time.monotonic()
        assert last(ask(loop, servers.upstreams)) == 2
        assert time.monotonic() - start < 0.5


def test_a_denial_waits_for_the_servers_before_it(loop: Loop) -> None:
    """Behind a VPN the first server knows names that the second denies."""
    with serving(slowly(0.3, answer(1)), answer(2, code=3, count=0)) as servers:
        assert last(ask(loop, servers.upstreams)) == 1
    with serving(silence, answer(2, code=3, count=0)) as servers:
        start = time.monotonic()
        made = ask(loop, servers.upstreams)
        assert made is not None
        assert messages.code_of(made) == messages.NXDOMAIN
        assert time.monotonic() - start < 1.5


def test_a_denial_of_the_first_server_counts_at_once(loop: Loop) -> None:
    with serving(answer(1, code=3, count=0), answer(2)) as servers:
        made = ask(loop, servers.upstreams)
        assert made is not None
        assert messages.code_of(made) == messages.NXDOMAIN
        assert servers.asked == [1, 0]


@pytest.mark.parametrize("code", [messages.SERVFAIL, 5])
def test_a_server_that_fails_or_refuses_is_passed_over(loop: Loop, code: int) -> None:
    with serving(answer(1, code=code, count=0), answer(2)) as servers:
        assert last(ask(loop, servers.upstreams)) == 2
    with serving(answer(1, code=code, count=0), answer(2, code=messages.SERVFAIL, count=0)) as servers:
        made = ask(loop, servers.upstreams)
        assert made is not None
        assert messages.code_of(made) == code


@pytest.mark.parametrize("tcp", [False, True])
def test_a_closed_port_is_passed_over(loop: Loop, tcp: bool) -> None:
    with serving(answer(1)) as servers:
        closed = Upstream("127.0.0.1", host=True, port=1)
        start = time.monotonic()
        assert last(ask(loop, [closed, *servers.upstreams], tcp=tcp)) == 1
        assert time.monotonic() - start < 0.5


def test_a_server_that_failed_is_asked_last_for_a_while(loop: Loop) -> None:
    health = Health()
    with serving(silence, answer(2)) as servers:
        for _ in range(3):
            assert last(ask(loop, servers.upstreams, health)) == 2
        before = servers.asked[0]
        start = time.monotonic()
        assert last(ask(loop, servers.upstreams, health)) == 2
        assert time.monotonic() - start < forward.NEXT_AFTER
        assert servers.asked[0] == before
        assert health.order("other", servers.upstreams, time.monotonic()) == servers.upstreams
        later = time.monotonic() + forward.SHUNNED_FOR + 1
        assert health.order("s", servers.upstreams, later) == servers.upstreams


def test_a_lost_query_is_sent_again(loop: Loop) -> None:
    seen: list[bytes] = []

    def lossy(data: bytes) -> bytes | None:
        seen.append(data)
        return answer(1)(data) if len(seen) == 2 else None

    with serving(lossy) as servers:
        assert last(ask(loop, servers.upstreams)) == 1
    assert seen[0] == seen[1]


def test_answers_to_other_questions_are_not_taken(loop: Loop) -> None:
    def forged(data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + answer(66)(data)[1:]  # type: ignore[index]

    with serving(forged, answer(2)) as servers:
        assert last(ask(loop, servers.upstreams)) == 2


def test_over_tcp_in_pieces(loop: Loop) -> None:
    with serving(answer(1, count=200)) as servers:
        made = ask(loop, servers.upstreams, tcp=True)
        assert made is not None
        assert len(made) > 3000


def test_nobody_can_be_asked(loop: Loop) -> None:
    assert ask(loop, [Upstream("127.0.0.1", host=True, port=1)]) is None


def test_nothing_is_left_open(loop: Loop) -> None:
    with serving(slowly(0.3, answer(1)), answer(2)) as servers:
        ask(loop, servers.upstreams)
    assert not loop._handlers
    found: list[bytes | None] = []
    with serving(silence) as servers:
        exchange = Exchange(loop, Health(), "s", servers.upstreams, query(), opener, found.append, tcp=False)
        exchange.start()
        exchange.cancel()
    assert not found
    assert not loop._handlers
