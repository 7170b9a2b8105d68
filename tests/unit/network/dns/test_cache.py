"""Answers that are kept."""

import struct

from gantry.network.dns.cache import Cache


def message(number: int, *, ttl: int = 30, response: bool = True, name: bytes = b"\1a\0", extra: bytes = b"") -> bytes:
    head = struct.pack("!HHHHHH", number, 0x8180 if response else 0x100, 1, int(response), 0, 0) + name + b"\0\1\0\1"
    return head + (b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, ttl, 4) + b"\x0a\0\0\1" + extra if response else b"")


def end(query: bytes) -> int:
    return len(query)


def test_an_answer_is_kept_as_long_as_it_lives() -> None:
    cache, query = Cache(), message(1, response=False)
    cache.put("s", query, end(query), message(7), 100.0)
    found = cache.get("s", message(9, response=False), 110.5)
    assert found == message(9, ttl=20)
    assert cache.get("s", query, 129.9) is not None
    assert cache.get("s", query, 130.0) is None


def test_no_longer_than_a_minute() -> None:
    cache, query = Cache(), message(1, response=False)
    cache.put("s", query, end(query), message(7, ttl=86400), 100.0)
    assert cache.get("s", query, 159.0) is not None
    assert cache.get("s", query, 160.0) is None


def test_scopes_and_queries_are_apart() -> None:
    cache, query = Cache(), message(1, response=False)
    cache.put("s", query, end(query), message(7), 100.0)
    assert cache.get("t", query, 100.0) is None
    assert cache.get("s", message(1, response=False, name=b"\1A\0"), 100.0) is None
    cache.forget("s")
    assert cache.get("s", query, 100.0) is None


def test_it_is_bounded() -> None:
    cache = Cache(entries=10)
    queries = [message(1, response=False, name=b"\1" + bytes([97 + each]) + b"\0") for each in range(20)]
    for query in queries:
        cache.put("s", query, end(query), message(7, name=query[12:15]), 100.0)
    assert [cache.get("s", query, 100.0) is not None for query in queries] == [False] * 10 + [True] * 10
    huge = message(7, ttl=30, extra=b"x" * 5000)
    cache.put("s", queries[0], end(queries[0]), huge, 100.0)
    assert cache.get("s", queries[0], 100.0) is None
