"""rtnetlink(7): links, addresses and routes of the calling thread's network namespace.

A small codec instead of pyroute2: its IPRoute costs 13 MB of resident memory and 140 ms of import here, a
seventh of what the whole daemon may take, for the dozen messages that are needed. Several requests travel in
one datagram, so that attaching a container is two system calls on the host and two in its namespace.

Messages: `struct nlmsghdr`, then `ifinfomsg`, `ifaddrmsg` or `rtmsg`, then attributes (rtnetlink(7)).
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Net = ipaddress.IPv4Network | ipaddress.IPv6Network

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_NEWQDISC, RTM_DELQDISC = 28, 36, 37

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_DUMP_INTR = 0x10
_NLA_F_NESTED, _NLA_TYPE = 0x8000, 0x3FFF

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
_IFLA_PROTINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 12, 20, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER, _BRPORT_MODE, _BRPORT_ISOLATED = 1, 2, 1, 4, 33
_IFLA_MACVLAN_MODE, _IFLA_IPVLAN_MODE, _IFLA_IPVLAN_FLAGS, _IFLA_VLAN_ID = 1, 1, 2, 1
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"": 0, "bridge": 0, "private": 1, "vepa": 2}
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFA_F_NODAD = 0x02
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80
_TCA_KIND, _TCA_OPTIONS, _TCA_TBF_PARMS, _TCA_TBF_RATE64, _TCA_TBF_BURST = 1, 2, 1, 4, 6
_TC_H_ROOT, _TC_HANDLE = 0xFFFFFFFF, 0x00010000
_TICKS = 15.625  # the kernel's clock ticks of a microsecond (PSCHED_SHIFT 6), what tc(8) reads from /proc/net/psched
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
IFF_UP = 1

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_NDMSG = struct.Struct("=BxxxiHBB")
_TCMSG = struct.Struct("=BxxxiIII")
_RATESPEC = struct.Struct("=BBHhHI")
_U32 = struct.Struct("=I")


class Message(NamedTuple):
    """One request: type, additional flags, and what follows the header. `what` is for error messages."""

    kind: int
    flags: int
    body: bytes
    what: str


class Link(NamedTuple):
    """One interface; `kind` is veth, bridge, … ("" for hardware and lo), `master` a number (0: none).

    `number` is what the kernel calls the interface's index.
    """

    number: int
    name: str
    kind: str
    mtu: int
    master: int
    alias: str
    up: bool
    mac: str


class Route(NamedTuple):
    """One IPv4 or IPv6 route of the main table; `gateway` is None for a directly connected network."""

    destination: Net
    gateway: Address | None
    interface: int


class NetlinkError(OSError):
    """The kernel refused a request; `errno` is its reason and the text names the request."""


# -------------------------------------------------------------------------------------------- messages


def add_bridge(name: str, mac: str, mtu: int) -> Message:
    """A bridge that is up, with an address of its own: its ports coming and going do not change it."""
    body = _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + _text(_IFLA_IFNAME, name) + _attribute(_IFLA_ADDRESS, _mac(mac))
    body += _attribute(_IFLA_MTU, _U32.pack(mtu)) + _nested(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create bridge {name}")


def add_veth(name: str, bridge: int, mtu: int, *, peer: str, peer_mac: str, peer_namespace: int) -> Message:
    """A pair: `name` here, up and a port of `bridge` (index); `peer`, down, in the namespace of that descriptor.

    The kernel cannot bring the peer up before the pair is complete (ENOTCONN).
    """
    inside = _IFINFO.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer) + _attribute(_IFLA_MTU, _U32.pack(mtu))
    inside += _attribute(_IFLA_ADDRESS, _mac(peer_mac)) + _attribute(_IFLA_NET_NS_FD, _U32.pack(peer_namespace))
    info = _text(_INFO_KIND, "veth") + _nested(_INFO_DATA, _attribute(_VETH_PEER, inside))
    body = _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + _text(_IFLA_IFNAME, name) + _attribute(_IFLA_MTU, _U32.pack(mtu))
    body += _attribute(_IFLA_MASTER, _U32.pack(bridge)) + _nested(_IFLA_LINKINFO, info)
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create veth {name}")


def add_child(
    kind: str, name: str, parent: int, *, mode: str, flag: str = "", mtu: int = 0, mac: str = "", namespace: int = -1
) -> Message:
    """A macvlan or ipvlan interface on `parent` (index), down, in the namespace of descriptor `namespace`.

    Modes and flags are those of ip-link(8).
    """
    if kind == "macvlan":
        data = _attribute(_IFLA_MACVLAN_MODE, _U32.pack(_MACVLAN_MODES[mode]))
    else:
        data = _attribute(_IFLA_IPVLAN_MODE, struct.pack("=H", _IPVLAN_MODES[mode]))
        data += _attribute(_IFLA_IPVLAN_FLAGS, struct.pack("=H", _IPVLAN_FLAGS[flag]))
    body = _IFINFO.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name) + _attribute(_IFLA_LINK, _U32.pack(parent))
    if mtu:
        body += _attribute(_IFLA_MTU, _U32.pack(mtu))
    if mac:
        body += _attribute(_IFLA_ADDRESS, _mac(mac))
    if namespace >= 0:
        body += _attribute(_IFLA_NET_NS_FD, _U32.pack(namespace))
    body += _nested(_IFLA_LINKINFO, _text(_INFO_KIND, kind) + _nested(_INFO_DATA, data))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create {kind} {name}")


def add_vlan(name: str, parent: int, number: int) -> Message:
    """An IEEE 802.1Q interface on `parent` (index), up."""
    data = _attribute(_IFLA_VLAN_ID, struct.pack("=H", number))
    body = _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + _text(_IFLA_IFNAME, name)
    body += _attribute(_IFLA_LINK, _U32.pack(parent))
    body += _nested(_IFLA_LINKINFO, _text(_INFO_KIND, "vlan") + _nested(_INFO_DATA, data))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create vlan {name}")


def add_dummy(name: str) -> Message:
    """An interface that leads nowhere, up: what stands on it meets only itself."""
    body = _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + _text(_IFLA_IFNAME, name)
    return Message(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        body + _nested(_IFLA_LINKINFO, _text(_INFO_KIND, "dummy")),
        f"create dummy {name}",
    )


def add_neighbour(index: int, address: Address, mac: str) -> Message:
    """A fixed entry of the neighbour table."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _NDMSG.pack(family, index, _NUD_PERMANENT, 0, 0) + _attribute(_NDA_DST, address.packed)
    return Message(RTM_NEWNEIGH, NLM_F_CREATE, body + _attribute(_NDA_LLADDR, _mac(mac)), f"add neighbour {address}")


def limit_rate(index: int, rate: int) -> Message:
    """At most `rate` bits per second leave by this interface (tc-tbf(8)); replaces an earlier limit.

    The bucket holds 10 ms of the rate and at least one large segment; what waits longer than 50 ms is dropped.
    """
    speed = rate // 8
    burst = max(speed // 100, 65536)
    queue = max(speed // 20, burst) + burst
    ticks = min(int(burst / speed * 1_000_000 * _TICKS), 0xFFFFFFFF)
    spec = _RATESPEC.pack(0, 1, 0, -1, 0, min(speed, 0xFFFFFFFF))
    parms = spec + _RATESPEC.pack(0, 0, 0, 0, 0, 0) + struct.pack("=III", min(queue, 0xFFFFFFFF), ticks, 0)
    data = _attribute(_TCA_TBF_PARMS, parms) + _attribute(_TCA_TBF_BURST, _U32.pack(burst))
    if speed > 0xFFFFFFFF:
        data += _attribute(_TCA_TBF_RATE64, struct.pack("=Q", speed))
    body = _TCMSG.pack(0, index, _TC_HANDLE, _TC_H_ROOT, 0) + _text(_TCA_KIND, "tbf") + _nested(_TCA_OPTIONS, data)
    return Message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body, f"limit the rate of interface {index}")


def unlimit_rate(index: int) -> Message:
    """Take the limit away again."""
    body = _TCMSG.pack(0, index, 0, _TC_H_ROOT, 0)
    return Message(RTM_DELQDISC, 0, body, f"remove the limit of interface {index}")


def set_link(name: str, *, up: bool | None = None, mtu: int = 0, alias: str = "") -> Message:
    """Change an existing link; what is not given stays."""
    flags = IFF_UP if up else 0
    body = _IFINFO.pack(0, 0, 0, flags, 0 if up is None else IFF_UP) + _text(_IFLA_IFNAME, name)
    if mtu:
        body += _attribute(_IFLA_MTU, _U32.pack(mtu))
    if alias:
        body += _attribute(_IFLA_IFALIAS, alias.encode())
    return Message(RTM_SETLINK, 0, body, f"configure {name}")


def set_port(number: int, *, isolated: bool = False, hairpin: bool = False) -> Message:
    """A bridge port: `isolated` ones exchange no frames with each other, `hairpin` may send back what it received."""
    body = _IFINFO.pack(socket.AF_BRIDGE, 0, number, 0, 0)
    options = _attribute(_BRPORT_ISOLATED, bytes([isolated])) + _attribute(_BRPORT_MODE, bytes([hairpin]))
    return Message(RTM_SETLINK, 0, body + _nested(_IFLA_PROTINFO, options), f"configure bridge port {number}")


def delete_link(name: str) -> Message:
    return Message(RTM_DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name), f"delete {name}")


def add_address(index: int, address: Interface) -> Message:
    """Give an interface an address with its prefix; the connected route comes with it.

    An IPv6 address is used at once, without looking for others who have it: addresses here are given out by us.
    """
    return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _address(index, address), f"add address {address}")


def delete_address(index: int, address: Interface) -> Message:
    return Message(RTM_DELADDR, 0, _address(index, address), f"delete address {address}")


def add_default_route(index: int, gateway: Address | None, version: int = 4) -> Message:
    """The way out: through `gateway`, or straight to the interface where that is None."""
    what = f"add default route via {gateway or 'the interface'}"
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _default(index, gateway, version), what)


def delete_default_route(index: int, gateway: Address | None, version: int = 4) -> Message:
    what = f"delete default route via {gateway or 'the interface'}"
    return Message(RTM_DELROUTE, 0, _default(index, gateway, version), what)


def _address(index: int, address: Interface) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    prefix = address.network.prefixlen
    flags = _IFA_F_NODAD if address.version == 6 else 0
    body = _IFADDR.pack(family, prefix, flags, 0, index) + _attribute(_IFA_LOCAL, address.ip.packed)
    body += _attribute(_IFA_ADDRESS, address.ip.packed)
    if address.version == 4 and prefix < 31:
        body += _attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    return body


def _default(index: int, gateway: Address | None, version: int) -> bytes:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    scope = _SCOPE_UNIVERSE if gateway is not None or version == 6 else _SCOPE_LINK
    body = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    if gateway is not None:
        body += _attribute(_RTA_GATEWAY, gateway.packed)
    return body + _attribute(_RTA_OIF, _U32.pack(index))


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def _nested(kind: int, data: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, data)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data`; ends quietly at a malformed one."""
    view = memoryview(data)
    position = 0
    while position + 4 <= len(view):
        length, kind = _ATTRIBUTE.unpack_from(view, position)
        if length < 4 or position + length > len(view):
            return
        yield kind & _NLA_TYPE, bytes(view[position + 4 : position + length])
        position += (length + 3) & ~3


# ---------------------------------------------------------------------------------------------- socket


class RouteSocket:
    """A conversation with the kernel about the network namespace of the thread that opened it.

    Blocking, each exchange takes well below a millisecond. Not for use by two threads at once.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, *messages: Message) -> None:
        """Carry out all messages in order; raises NetlinkError for the first that fails.

        The kernel goes on after a failure: who sends several must be able to undo each.
        """
        if not messages:
            return  # the kernel refuses an empty datagram
        first = self._sequence + 1
        data = b"".join(self._pack(message, NLM_F_REQUEST | NLM_F_ACK) for message in messages)
        self._socket.sendto(data, (0, 0))
        failed: NetlinkError | None = None
        waiting = len(messages)
        while waiting:
            for kind, _, sequence, body in self._receive():
                if kind != _NLMSG_ERROR or sequence < first:
                    continue
                waiting -= 1
                code = -struct.unpack_from("=i", body)[0]
                if code and failed is None:
                    what = messages[sequence - first].what
                    failed = NetlinkError(code, f"{what}: {os.strerror(code).lower()}")
        if failed is not None:
            raise failed

    def links(self) -> list[Link]:
        return [_link(body) for body in self._dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]

    def link(self, name: str) -> Link | None:
        """One interface by name, None where there is none."""
        body = _IFINFO.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
        message = Message(RTM_GETLINK, 0, body, f"look up {name}")
        self._socket.sendto(self._pack(message, NLM_F_REQUEST), (0, 0))
        while True:
            for kind, _, sequence, answer in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == RTM_NEWLINK:
                    return _link(answer)
                code = -struct.unpack_from("=i", answer)[0]
                if code == errno.ENODEV:
                    return None
                raise NetlinkError(code, f"{message.what}: {os.strerror(code).lower()}")

    def addresses(self) -> list[tuple[int, Interface]]:
        """(interface index, address with prefix) of every interface."""
        found: list[tuple[int, Interface]] = []
        for body in self._dump(RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            _, prefix, _, _, index = _IFADDR.unpack_from(body)
            values = dict(attributes(memoryview(body)[_IFADDR.size :]))
            packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if packed:
                found.append((index, ipaddress.ip_interface((packed, prefix))))
        return found

    def routes(self) -> list[Route]:
        """Unicast routes of all tables but the local one, so that policy routing (a VPN's) is seen too."""
        found: list[Route] = []
        for body in self._dump(RTM_GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, prefix, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(body)
            if kind != _RTN_UNICAST or table == 255 or family not in (socket.AF_INET, socket.AF_INET6):
                continue
            values = dict(attributes(memoryview(body)[_RTMSG.size :]))
            empty = bytes(4 if family == socket.AF_INET else 16)
            gateway = values.get(_RTA_GATEWAY)
            found.append(
                Route(
                    ipaddress.ip_network((values.get(_RTA_DST, empty), prefix)),
                    ipaddress.ip_address(gateway) if gateway else None,
                    _U32.unpack(values.get(_RTA_OIF, bytes(4)))[0],
                )
            )
        return found

    def _pack(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        size = _HEADER.size + len(message.body)
        header = _HEADER.pack(size, message.kind, flags | message.flags, self._sequence, 0)
        return header + message.body + b"\0" * (-size % 4)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, sequence, body) of each message in the next datagram."""
        data = memoryview(self._socket.recv(1 << 18))
        position = 0
        while position + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, position)
            if length < _HEADER.size:
                return
            yield kind, flags, sequence, bytes(data[position + _HEADER.size : position + length])
            position += (length + 3) & ~3

    def _dump(self, kind: int, body: bytes) -> Sequence[bytes]:
        """Every object of one kind; asked again where the kernel says that it changed meanwhile."""
        for _ in range(10):
            found: list[bytes] = []
            interrupted = done = False
            self._socket.sendto(self._pack(Message(kind, 0, body, "list"), NLM_F_REQUEST | NLM_F_DUMP), (0, 0))
            while not done:
                for answer, flags, sequence, content in self._receive():
                    if sequence != self._sequence:
                        continue
                    interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                    if answer == _NLMSG_DONE:
                        done = True
                    elif answer == _NLMSG_ERROR:
                        code = -struct.unpack_from("=i", content)[0]
                        raise NetlinkError(code, f"list: {os.strerror(code).lower()}")
                    else:
                        found.append(content)
            if not interrupted:
                break
        return found


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    values = dict(attributes(memoryview(body)[_IFINFO.size :]))
    info = dict(attributes(values.get(_IFLA_LINKINFO, b"")))
    zero = bytes(4)
    return Link(
        index,
        values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        info.get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        _U32.unpack(values.get(_IFLA_MTU, zero))[0],
        _U32.unpack(values.get(_IFLA_MASTER, zero))[0],
        values.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        bool(flags & IFF_UP),
        values.get(_IFLA_ADDRESS, b"").hex(":"),
    )


def delete_links(names: Iterable[str]) -> None:
    """Remove interfaces of this namespace; those that are gone already do not matter."""
    with RouteSocket() as kernel:
        for name in names:
            try:
                kernel.request(delete_link(name))
            except NetlinkError as error:
                if error.errno != errno.ENODEV:
                    raise
