"""nf_tables by netlink: the few rules that a container's network namespace gets, in one system call each way.

The `nft` program (see `nft`) takes some milliseconds to start; this takes a tenth of one. Only what the rewriting
of ports needs is here. Messages: `struct nlmsghdr`, `struct nfgenmsg`, attributes; numbers are big-endian
(linux/netfilter/nf_tables.h). A batch is one transaction.
"""

import os
import socket
import struct

from gantry.linux.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _DELTABLE = _SUBSYSTEM << 8 | 0, _SUBSYSTEM << 8 | 2
_NEWCHAIN, _NEWRULE = _SUBSYSTEM << 8 | 3, _SUBSYSTEM << 8 | 6
_IPV4 = 2  # NFPROTO_IPV4
_NLM_F_APPEND, _NLA_F_NESTED = 0x800, 0x8000
_NLMSG_ERROR = 2
_LOCAL_OUT = 3  # NF_INET_LOCAL_OUT
_PRIORITY = -150  # mangle
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_REGISTER = 1
_META_L4PROTO = 16
_SOURCE_ADDRESS, _DESTINATION_ADDRESS = 12, 16
_SOURCE_PORT, _DESTINATION_PORT = 0, 2
_CHECKSUMS = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}
_HEADER = struct.Struct("=IHHII")


def rewrite_ports(table: str, address: bytes, port: int, ports: dict[int, int], *, replace: bool) -> None:
    """Let clients in this thread's network namespace reach `address` (packed) at `port`, for each protocol of `ports`.

    `ports` says where the servers really listen; their answers seem to come from `port`. The ports are rewritten on
    the way out, both ways, without tracking connections; `port` itself stays free for everybody. With `replace` the
    table may be there already; it costs some milliseconds, as the kernel waits for readers of the old one. Raises
    OSError.
    """
    rules: list[bytes] = []
    for protocol, real in ports.items():
        rules.append(_rule(table, _DESTINATION_ADDRESS, address, protocol, _DESTINATION_PORT, port, real))
        rules.append(_rule(table, _SOURCE_ADDRESS, address, protocol, _SOURCE_PORT, real, port))
    hook = _attribute(1, _be32(_LOCAL_OUT)) + _attribute(2, struct.pack("!i", _PRIORITY))
    chain = _text(1, table) + _text(3, "output") + _nested(4, hook) + _attribute(5, _be32(1)) + _text(7, "filter")
    named = _family() + _text(1, table)
    messages = [
        (_BATCH_BEGIN, 0, struct.pack("!BBH", 0, 0, _SUBSYSTEM)),
        *(((_NEWTABLE, NLM_F_CREATE, named), (_DELTABLE, 0, named)) if replace else ()),
        (_NEWTABLE, NLM_F_CREATE, named),
        (_NEWCHAIN, NLM_F_CREATE, _family() + chain),
        *((_NEWRULE, NLM_F_CREATE | _NLM_F_APPEND, _family() + rule) for rule in rules),
        (_BATCH_END, 0, struct.pack("!BBH", 0, 0, _SUBSYSTEM)),
    ]
    last = len(messages) - 2
    data = b""
    for number, (kind, flags, body) in enumerate(messages):
        flags |= NLM_F_REQUEST | (NLM_F_ACK if number == last else 0)
        data += _HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        kernel.sendto(data, (0, 0))
        answer = kernel.recv(1 << 16)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    if kind == _NLMSG_ERROR and code:
        raise OSError(-code, f"nf_tables: table {table}: {os.strerror(-code).lower()}")


def _rule(table: str, address_at: int, address: bytes, protocol: int, port_at: int, port: int, other: int) -> bytes:
    """Where address, protocol and port are these, the port becomes the other one; the checksum follows."""
    changed = _attribute(2, _be32(_TRANSPORT_HEADER)) + _attribute(3, _be32(port_at)) + _attribute(4, _be32(2))
    changed += _attribute(5, _be32(_REGISTER)) + _attribute(6, _be32(1)) + _attribute(7, _be32(_CHECKSUMS[protocol]))
    expressions = [
        *_equals("payload", _load(_NETWORK_HEADER, address_at, 4), address),
        *_equals("meta", _attribute(1, _be32(_REGISTER)) + _attribute(2, _be32(_META_L4PROTO)), bytes([protocol])),
        *_equals("payload", _load(_TRANSPORT_HEADER, port_at, 2), struct.pack("!H", port)),
        _expression("immediate", _attribute(1, _be32(_REGISTER)) + _value(2, struct.pack("!H", other))),
        _expression("payload", changed),
    ]
    return _text(1, table) + _text(2, "output") + _nested(4, b"".join(expressions))


def _load(base: int, offset: int, length: int) -> bytes:
    """A part of the packet into the register."""
    destination = _attribute(1, _be32(_REGISTER)) + _attribute(2, _be32(base))
    return destination + _attribute(3, _be32(offset)) + _attribute(4, _be32(length))


def _equals(name: str, load: bytes, value: bytes) -> list[bytes]:
    """Go on only where what `load` brings into the register is `value`."""
    compare = _attribute(1, _be32(_REGISTER)) + _attribute(2, _be32(0)) + _value(3, value)
    return [_expression(name, load), _expression("cmp", compare)]


def _expression(name: str, data: bytes) -> bytes:
    return _nested(1, _text(1, name) + _nested(2, data))


def _value(kind: int, data: bytes) -> bytes:
    return _nested(kind, _attribute(1, data))


def _family() -> bytes:
    return struct.pack("!BBH", _IPV4, 0, 0)


def _be32(number: int) -> bytes:
    return struct.pack("!I", number)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def _nested(kind: int, data: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, data)
