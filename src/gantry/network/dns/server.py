"""The resolver's process: the sockets of all containers, and the daemon's commands (see `control`)."""

import contextlib
import functools
import os
import resource
import socket
from typing import Any

from gantry.network.dns import control
from gantry.network.dns.answering import Answering
from gantry.network.dns.forward import Upstream
from gantry.network.dns.hostfile import HostServers
from gantry.network.dns.loop import Loop
from gantry.network.dns.sandbox import MAX_CONNECTIONS, Sandbox
from gantry.network.dns.stream import Connection
from gantry.network.dns.zone import Endpoint, Zone, folded

_QUERY = 4096  # bytes of a query over UDP; more is cut, and malformed then
_NICE = -5  # everybody waits for names: on a busy machine the one thread here stands before three others
_UNUSED = 60.0  # seconds that the process stays without containers
_ORPHANED = 3.0  # the same, where there is no daemon either
_ACCEPT_AGAIN = 0.5  # seconds, where the process has no descriptor left


class Server:
    """Serves until it is told to end, or has had nothing to do for a while."""

    def __init__(self, listener: socket.socket, host: HostServers | None = None) -> None:
        self._loop = Loop()
        self._listener = listener
        self._daemon: control.Reader | None = None
        self._daemon_socket = -1
        self._sandboxes: dict[str, Sandbox] = {}
        self._answering = Answering(self._loop, host or HostServers())
        self._idle = self._loop.later(_ORPHANED, self._loop.stop)

    def run(self) -> None:
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), self._accept_daemon)
        while self._loop.running:
            self._loop.turn(self._daemon_socket)
        for key in list(self._sandboxes):
            self._close(key)
        self._lose_daemon()
        self._listener.close()
        self._loop.close()

    # ------------------------------------------------------------------------------------------ the daemon

    def _accept_daemon(self) -> None:
        """A daemon that connects takes the place of the one before, which is dead."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._lose_daemon()
        connection.setblocking(True)
        connection.settimeout(1.0)
        hello = {"version": control.VERSION, "pid": os.getpid(), "sandboxes": list(self._sandboxes)}
        try:
            connection.sendall(control.frame(hello))
        except OSError:
            connection.close()
            return
        connection.setblocking(False)
        self._daemon = control.Reader(connection)
        self._daemon_socket = connection.fileno()
        self._loop.watch(self._daemon_socket, self._commands)
        self._settle()

    def _lose_daemon(self) -> None:
        if self._daemon is not None:
            self._loop.forget(self._daemon_socket)
            self._daemon.close()
            self._daemon, self._daemon_socket = None, -1
        self._settle()

    def _settle(self) -> None:
        """Without containers the process ends after a while."""
        self._idle.cancel()
        if not self._sandboxes:
            self._idle = self._loop.later(_ORPHANED if self._daemon is None else _UNUSED, self._loop.stop)

    def _commands(self) -> None:
        assert self._daemon is not None
        try:
            commands = self._daemon.read()
        except OSError:
            commands = None
        if commands is None:
            self._lose_daemon()
            return
        for command in commands:
            self._do(command)
        for box in self._sandboxes.values():
            box.answers.clear()

    def _do(self, command: dict[str, Any]) -> None:
        zone = self._answering.zone
        kind = command["do"]
        if kind == "join":
            zone.put(Endpoint.of(command["endpoint"]))
        elif kind == "leave":
            zone.drop(command["key"])
        elif kind == "open":
            self._open(command["sandbox"])
        elif kind == "settings":
            self._configure(command["sandbox"])
        elif kind == "close":
            self._close(command["id"])
        elif kind == "network":
            _put_network(zone, command["network"])
        elif kind == "forget":
            zone.drop_network(command["id"])
        elif kind == "load":
            self._load(command)
        elif kind == "end":
            self._loop.stop()

    def _load(self, command: dict[str, Any]) -> None:
        zone = self._answering.zone = Zone()
        for network in command["networks"]:
            _put_network(zone, network)
        for endpoint in command["endpoints"]:
            zone.put(Endpoint.of(endpoint))
        named = {each["id"] for each in command["sandboxes"]}
        for key in [each for each in self._sandboxes if each not in named]:
            self._close(key)
        for sandbox in command["sandboxes"]:
            self._configure(sandbox)

    # -------------------------------------------------------------------------------------------- sandboxes

    def _open(self, settings: dict[str, Any]) -> None:
        assert self._daemon is not None
        namespace, udp, tcp = self._daemon.take(3)
        key = settings["id"]
        self._close(key)
        box = Sandbox(key, namespace, socket.socket(fileno=udp), socket.socket(fileno=tcp))
        self._sandboxes[key] = box
        for each in (box.udp, box.tcp):
            each.setblocking(False)
        self._configure(settings)
        self._loop.watch(udp, lambda: self._datagrams(box))
        self._loop.watch(tcp, lambda: self._accept(box))
        self._settle()

    def _configure(self, settings: dict[str, Any]) -> None:
        if (box := self._sandboxes.get(settings["id"])) is None:
            return
        box.set_servers([Upstream(*each) for each in settings["servers"]], follows=settings["follow"])
        box.ndots = settings["ndots"]
        box.forward = settings["forward"]
        special = {folded(name): (bytes.fromhex(ipv4), bytes.fromhex(ipv6)) for name, ipv4, ipv6 in settings["special"]}
        self._answering.zone.set_special(box.key, special)

    def _close(self, key: str) -> None:
        self._answering.zone.set_special(key, None)
        if (box := self._sandboxes.pop(key, None)) is None:
            return
        for each in (box.udp, box.tcp):
            self._loop.forget(each.fileno())
        box.close()
        self._answering.forget(box)
        self._settle()

    # ---------------------------------------------------------------------------------------------- queries

    def _datagrams(self, box: Sandbox) -> None:
        """One query: what the daemon said before it was sent is heard before it is answered (see `Loop.turn`)."""
        try:
            data, client = box.udp.recvfrom(_QUERY)
            known = box.answers.get(data[2:])
            if known is None:
                self._answering.ask(box, data, lambda answer: _send(box, answer, client), tcp=False)
            elif known.__class__ is bytes:
                box.udp.sendto(data[:2] + known, client)
            else:
                box.turn = turn = box.turn + 1
                box.udp.sendto(data[:2] + known[turn % len(known)], client)  # type: ignore[operator]
        except OSError:
            return  # what a container's own packet filter refuses is its own affair

    def _accept(self, box: Sandbox) -> None:
        try:
            connection, _ = box.tcp.accept()
        except BlockingIOError:
            return
        except OSError:
            self._loop.forget(box.tcp.fileno())
            self._loop.later(_ACCEPT_AGAIN, lambda: self._accept_again(box))
            return
        if len(box.connections) >= MAX_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        ask = functools.partial(self._answering.ask, box, tcp=True)
        box.connections.add(Connection(self._loop, connection, ask, box.connections.discard))

    def _accept_again(self, box: Sandbox) -> None:
        if self._sandboxes.get(box.key) is box:
            self._loop.watch(box.tcp.fileno(), lambda: self._accept(box))


def _send(box: Sandbox, answer: bytes, client: Any) -> None:
    try:
        box.udp.sendto(answer, client)
    except OSError:
        return  # the client is gone, or its packet filter refuses; it will ask again if it wants to know


def _put_network(zone: Zone, plain: dict[str, Any]) -> None:
    own = [(bytes.fromhex(first), bytes.fromhex(last)) for first, last in plain["own"]]
    zone.put_network(plain["id"], plain["name"], own)


def main(descriptor: int) -> None:
    """Serve on the listening socket that was inherited."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(PermissionError):  # slower where the machine is busy, and right all the same
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    Server(socket.socket(fileno=descriptor)).run()
