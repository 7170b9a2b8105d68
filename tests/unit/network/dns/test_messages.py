"""DNS messages: our reading and writing against dnspython, and against anything that a container may send."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.network.dns import messages
from gantry.network.dns.messages import Malformed, Query, parse_query

LABEL = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_", min_size=1, max_size=20)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)
ADDRESSES = st.lists(st.binary(min_size=4, max_size=4), max_size=120)


def query(name: str = "web", kind: str = "A", **options: object) -> Query:
    made = parse_query(dns.message.make_query(name, kind, **options).to_wire())
    assert isinstance(made, Query)
    return made


@settings(deadline=None)
@given(NAME, st.sampled_from(["A", "AAAA", "PTR", "MX", "TXT", "SRV"]), st.sampled_from([-1, 0]), st.integers(0, 65535))
def test_questions_are_read(name: str, kind: str, edns: int, payload: int) -> None:
    message = dns.message.make_query(name, kind, use_edns=edns, payload=payload if edns == 0 else None)
    made = parse_query(message.to_wire())
    assert isinstance(made, Query)
    assert made.name == name.lower().encode()
    assert made.type == message.question[0].rdtype
    assert made.kind == messages.IN
    assert made.edns == edns
    assert made.size == (max(512, payload) if edns == 0 else 512)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_anything_is_survived(data: bytes) -> None:
    try:
        made = parse_query(data)
    except Malformed:
        return
    if isinstance(made, int):
        refused = dns.message.from_wire(messages.refusal(data, made), ignore_trailing=True)
        assert refused.rcode() == made
    else:
        assert len(messages.reply(made, [b"x" * 16], limit=512)) <= 512


@settings(deadline=None)
@given(NAME, st.integers(0, 300), st.binary(max_size=4))
def test_a_broken_query_is_refused_or_dropped_and_never_more(name: str, cut: int, junk: bytes) -> None:
    data = dns.message.make_query(name, "A", use_edns=0).to_wire()
    try:
        parse_query(data[:cut] + junk)
    except Malformed:
        assert len(data[:cut] + junk) < 12 or junk


def test_what_is_no_question_gets_no_answer() -> None:
    with pytest.raises(Malformed):
        parse_query(b"")
    with pytest.raises(Malformed):
        parse_query(dns.message.make_response(dns.message.make_query("a", "A")).to_wire())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack("!HHHHHH", 1, 0x2800, 1, 0, 0, 0) + b"\1a\0\0\1\0\1", messages.NOTIMP),
        (struct.pack("!HHHHHH", 1, 0, 2, 0, 0, 0) + b"\1a\0\0\1\0\1" * 2, messages.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 0, 0, 0, 0), messages.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", messages.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\5ab\0\1\0\1", messages.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x3f" + b"a" * 63, messages.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1", messages.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 1) + b"\1a\0\0\1\0\1\0\0\x29\4\0\0\0\0\0\0\x09", messages.FORMERR),
    ],
)
def test_questions_that_are_refused(data: bytes, code: int) -> None:
    assert parse_query(data) == code
    assert messages.code_of(messages.refusal(data, code)) == code


def test_a_dot_in_a_label_makes_no_name_of_ours() -> None:
    data = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\5a.net\0\0\1\0\1"
    made = parse_query(data)
    assert isinstance(made, Query)
    assert made.name == b""


@settings(deadline=None)
@given(NAME, ADDRESSES, st.sampled_from([-1, 0]), st.integers(512, 4096))
def test_answers_are_read_by_others(name: str, addresses: list[bytes], edns: int, limit: int) -> None:
    asked = query(name, use_edns=edns)
    data = messages.reply(asked, messages.address_records(messages.A, addresses), limit=limit)
    assert len(data) <= limit
    read = dns.message.from_wire(data)
    assert dns.message.from_wire(asked.data).is_response(read)
    assert read.edns == edns
    assert read.flags & dns.flags.RA
    found = [each.address for rrset in read.answer for each in rrset]
    wanted = [".".join(str(byte) for byte in each) for each in addresses]
    assert set(found) <= set(wanted)
    if not read.flags & dns.flags.TC:
        assert set(found) == set(wanted)
    else:
        assert len(data) + 16 > limit


def test_a_truncated_answer_says_so_and_keeps_what_fits() -> None:
    records = messages.address_records(messages.A, [bytes([10, 0, 0, each]) for each in range(100)])
    read = dns.message.from_wire(messages.reply(query(), records, limit=512))
    assert read.flags & dns.flags.TC
    assert len(read.answer[0]) == (512 - len(query().data)) // 16


def test_an_unknown_version_of_edns_is_answered_as_the_rfc_says() -> None:
    made = query(use_edns=1)
    read = dns.message.from_wire(messages.reply(made, messages.address_records(1, [b"abcd"]), limit=512))
    assert read.rcode() == dns.rcode.BADVERS
    assert not read.answer


def test_reverse_lookups() -> None:
    asked = query("2.0.18.172.in-addr.arpa", "PTR")
    assert messages.reversed_address(asked.name) == bytes([172, 18, 0, 2])
    read = dns.message.from_wire(messages.reply(asked, [messages.pointer_record(b"web.net")], limit=512))
    assert str(read.answer[0][0].target) == "web.net."
    v6 = dns.reversename.from_address("fd00::1:2").to_text(omit_final_dot=True).encode()
    assert messages.reversed_address(v6) == bytes.fromhex("fd000000000000000000000000010002")


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_names_that_are_no_addresses(name: bytes) -> None:
    for suffix in (b"", b".in-addr.arpa", b".ip6.arpa"):
        found = messages.reversed_address(name + suffix)
        assert found is None or len(found) in (4, 16)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_every_name_makes_a_whole_message(name: str) -> None:
    data = messages.encode_name(name.encode())
    assert data.endswith(b"\0")
    assert len(data) <= 255


# ------------------------------------------------------------------------------------- others' answers


def answer(text: str = "", *, kind: str = "A", soa: str = "", code: int = 0, name: str = "x.example") -> bytes:
    made = dns.message.make_response(dns.message.make_query(name, kind, use_edns=0))
    made.set_rcode(code)
    if text:
        made.answer.append(dns.rrset.from_text(name + ".", int(text.split()[0]), "IN", kind, *text.split()[1:]))
    if soa:
        ttl, minimum = soa.split()
        made.authority.append(dns.rrset.from_text("example.", int(ttl), "IN", "SOA", f"a. b. 1 2 3 4 {minimum}"))
    return made.to_wire()


def end_of(data: bytes) -> int:
    return data.index(b"\0", 12) + 5


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (answer("30 10.0.0.1 10.0.0.2"), 30),
        (answer(soa="300 60"), 60),
        (answer(soa="20 60", code=dns.rcode.NXDOMAIN), 20),
        (answer("0 10.0.0.1"), None),
        (answer(), None),
        (answer("30 10.0.0.1", code=dns.rcode.SERVFAIL), None),
        (answer("30 10.0.0.1")[:-5], None),
    ],
)
def test_how_long_an_answer_lives(data: bytes, seconds: int | None) -> None:
    found = messages.lifetimes(data, end_of(data))
    assert (found[0] if found else None) == seconds


def test_an_answer_grows_older() -> None:
    data = answer("30 10.0.0.1 10.0.0.2", soa="300 60")
    _, places = messages.lifetimes(data, end_of(data))  # type: ignore[misc]
    read = dns.message.from_wire(bytes(messages.aged(data, places, 20)))
    assert read.answer[0].ttl == 10
    assert read.authority[0].ttl == 280
    assert dns.message.from_wire(bytes(messages.aged(data, places, 500))).answer[0].ttl == 0


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_answer_is_survived(tail: bytes) -> None:
    data = answer("30 10.0.0.1")
    head = data[: end_of(data)]
    messages.lifetimes(head[:4] + b"\0\1\0\3\0\2\0\1" + head[12:] + tail, len(head))


def test_only_the_answer_to_our_question_counts() -> None:
    asked = query("x.example", use_edns=0)
    real = dns.message.make_response(dns.message.from_wire(asked.data)).to_wire()
    assert messages.answers(real, asked.data, asked.end)
    assert not messages.answers(b"\0" + real[1:], asked.data, asked.end) or real[0] == 0
    assert not messages.answers(asked.data, asked.data, asked.end)
    other = bytearray(real)
    other[13] ^= 1
    assert not messages.answers(bytes(other), asked.data, asked.end)
    upper = real[:12] + real[12 : asked.end].upper() + real[asked.end :]
    assert messages.answers(upper, asked.data, asked.end)
    without = real[:4] + bytes(8)
    assert not messages.answers(without, asked.data, asked.end)
    assert messages.answers(without[:3] + bytes([2]) + without[4:], asked.data, asked.end)
