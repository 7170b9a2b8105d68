"""DNS messages as far as the resolver looks into them (RFC 1035, RFC 6891): questions, answers, times to live.

Bytes from containers and from upstream servers are hostile: every offset is checked before it is used. What is
forwarded stays as it came; only its first bytes and its question are read.
"""

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

A, PTR, AAAA, OPT, SOA = 1, 12, 28, 41, 6
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, BADVERS = 0, 1, 2, 3, 4, 16

HEADER = 12
TTL = 600  # seconds, Docker's; glibc and musl do not keep answers anyway
MAX_MESSAGE = 65535
PLAIN_SIZE = 512  # what a client takes over UDP that says nothing else (RFC 1035, 4.2.1)
OWN_SIZE = 1232  # what we say that we take: passes every link unfragmented
_ADDITIONAL = struct.Struct("!HIH")  # class, time to live, length: what stands behind the type of a record
_HEADER = struct.Struct("!HHHHHH")
_QR, _OPCODE, _TC, _RD, _RA, _CD = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0010
_QUESTION_POINTER = b"\xc0\x0c"
_REVERSE4, _REVERSE6 = b".in-addr.arpa", b".ip6.arpa"


class Malformed(Exception):
    """Not a DNS message that can be understood."""


class Query(NamedTuple):
    """A question: `name` in lower case without the last dot ("" where it has none or cannot be one of ours).

    `end` is where the question ends; `size` is what the client takes over UDP; `edns` is the version of the OPT
    record, -1 where there is none.
    """

    data: bytes
    name: bytes
    type: int
    kind: int
    end: int
    size: int
    edns: int


def parse_query(data: bytes) -> Query | int:
    """A question, or the response code that it deserves. Raises Malformed for what gets no answer at all."""
    if len(data) < HEADER or data[2] & 0x80:
        raise Malformed
    _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _OPCODE:
        return NOTIMP
    if questions != 1:
        return FORMERR
    try:
        name, end = _question_name(data)
        kind, klass = struct.unpack_from("!HH", data, end)
        end += 4
        position, size, edns = end, PLAIN_SIZE, -1
        for _ in range(answers + authorities + additional):
            position = _skip_name(data, position)
            (record,) = struct.unpack_from("!H", data, position)
            payload, extended, length = _ADDITIONAL.unpack_from(data, position + 2)
            position += 10 + length
            if position > len(data):
                return FORMERR
            if record == OPT:
                size, edns = max(payload, PLAIN_SIZE), extended >> 16 & 0xFF
    except (Malformed, struct.error, IndexError):
        return FORMERR
    return Query(data, name, kind, klass, end, size, edns)


def _question_name(data: bytes) -> tuple[bytes, int]:
    """The name at the beginning of the question, and where it ends. A pointer has nothing to point to here."""
    labels: list[bytes] = []
    position = HEADER
    ours = True
    while length := data[position]:
        if length > 63 or position - HEADER > 255:
            raise Malformed
        label = data[position + 1 : position + 1 + length]
        if len(label) < length:
            raise Malformed
        ours = ours and b"." not in label
        labels.append(label)
        position += length + 1
    return b".".join(labels).lower() if ours else b"", position + 1


def _skip_name(data: bytes, position: int) -> int:
    while True:
        length = data[position]
        if length >= 0xC0:
            return position + 2
        if length > 63:
            raise Malformed
        position += length + 1
        if not length:
            return position


# --------------------------------------------------------------------------------------------- answers


def address_records(kind: int, addresses: Sequence[bytes]) -> list[bytes]:
    """A record for each packed address, under the name that was asked."""
    return [_QUESTION_POINTER + struct.pack("!HHIH", kind, IN, TTL, len(each)) + each for each in addresses]


def pointer_record(name: bytes) -> bytes:
    """The record of a reverse lookup."""
    target = encode_name(name)
    return _QUESTION_POINTER + struct.pack("!HHIH", PTR, IN, TTL, len(target)) + target


def encode_name(name: bytes) -> bytes:
    """A dotted name as labels; what is too long for a label is cut, so that the message stays whole."""
    return b"".join(bytes([len(label[:63])]) + label[:63] for label in name.split(b".") if label)[:254] + b"\0"


def reply(
    query: Query, records: Sequence[bytes] = (), code: int = NOERROR, *, limit: int, recursion: bool = True
) -> bytes:
    """A complete answer of at most `limit` bytes: records that do not fit are left out, and it says so (TC)."""
    if query.edns > 0:
        records, code = (), BADVERS
    extra = b""
    if query.edns >= 0:
        extra = b"\0" + struct.pack("!HHIH", OPT, OWN_SIZE, (code >> 4) << 24, 0)
    room = limit - query.end - len(extra)
    kept = 0
    for record in records:
        room -= len(record)
        if room < 0:
            break
        kept += 1
    flags = struct.unpack_from("!H", query.data, 2)[0] & (_RD | _CD) | _QR | code & 15
    flags |= _RA * recursion | _TC * (kept < len(records))
    header = query.data[:2] + struct.pack("!HHHHH", flags, 1, kept, 0, 1 if extra else 0)
    return b"".join((header, query.data[HEADER : query.end], *records[:kept], extra))


def refusal(data: bytes, code: int) -> bytes:
    """The answer to something that is not understood: its header alone."""
    flags = struct.unpack_from("!H", data, 2)[0] & (_OPCODE | _RD | _CD) | _QR | code
    return data[:2] + struct.pack("!HHHHH", flags, 0, 0, 0, 0)


def truncated(answer: bytes, query: Query) -> bytes:
    """An answer that is too large for the client: the header and the question, and TC, so that it asks by TCP."""
    flags = struct.unpack_from("!H", answer, 2)[0] | _TC
    return query.data[:2] + struct.pack("!HHHHH", flags, 1, 0, 0, 0) + query.data[HEADER : query.end]


def reversed_address(name: bytes) -> bytes | None:
    """The packed address behind a name of in-addr.arpa or ip6.arpa, None for any other name."""
    try:
        if name.endswith(_REVERSE4):
            return socket.inet_pton(socket.AF_INET, b".".join(name[: -len(_REVERSE4)].split(b".")[::-1]).decode())
        if name.endswith(_REVERSE6):
            digits = name[: -len(_REVERSE6)].split(b".")[::-1]
            if len(digits) == 32 and all(len(each) == 1 for each in digits):
                return bytes.fromhex(b"".join(digits).decode())
    except (OSError, ValueError):
        return None
    return None


# --------------------------------------------------------------------------------------- answers of others


def answers(answer: bytes, sent: bytes, end: int) -> bool:
    """Whether `answer` belongs to the query `sent`, whose question ends at `end`: number and question are equal.

    A server that fails may leave the question out.
    """
    if len(answer) < HEADER or answer[:2] != sent[:2] or not answer[2] & 0x80:
        return False
    if answer[4:6] == b"\0\0":
        return code_of(answer) != NOERROR
    return answer[4:6] == b"\0\1" and answer[HEADER:end].lower() == sent[HEADER:end].lower()


def code_of(answer: bytes) -> int:
    """The response code, without its extension by EDNS."""
    return answer[3] & 15


def is_positive(answer: bytes) -> bool:
    """Whether there is something in it."""
    return answer[6:8] != b"\0\0"


def is_truncated(answer: bytes) -> bool:
    return bool(answer[2] & (_TC >> 8))


def lifetimes(answer: bytes, end: int) -> tuple[int, list[int]] | None:
    """How many seconds an answer may be kept, and where its times to live stand; None where it may not be kept.

    `end` is where its question ends. Without records in the answer, the SOA's own bound counts (RFC 2308).
    """
    if code_of(answer) not in (NOERROR, NXDOMAIN) or is_truncated(answer):
        return None
    _, _, _, count, authorities, additional = _HEADER.unpack_from(answer)
    places: list[int] = []
    shortest = -1
    position = end
    try:
        for number in range(count + authorities + additional):
            position = _skip_name(answer, position)
            (kind,) = struct.unpack_from("!H", answer, position)
            _, ttl, length = _ADDITIONAL.unpack_from(answer, position + 2)
            if kind != OPT:
                places.append(position + 4)
                if kind == SOA and not count and length >= 22:
                    ttl = min(ttl, struct.unpack_from("!I", answer, position + 10 + length - 4)[0])
                if number < count or (kind == SOA and not count):
                    shortest = ttl if shortest < 0 else min(shortest, ttl)
            position += 10 + length
    except (Malformed, struct.error, IndexError):
        return None
    if position != len(answer) or shortest <= 0:
        return None
    return shortest, places


def aged(answer: bytes, places: Sequence[int], seconds: int) -> bytearray:
    """A copy of an answer that is `seconds` older."""
    copy = bytearray(answer)
    for place in places:
        (ttl,) = struct.unpack_from("!I", copy, place)
        struct.pack_into("!I", copy, place, max(ttl - seconds, 0))
    return copy
