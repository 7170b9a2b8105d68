"""Who finds whom under which name."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.network.dns.zone import Endpoint, Zone, folded


def endpoint(
    key: str, sandbox: str, network: str, *names: str, ip: str = "", links: dict[str, str] | None = None
) -> Endpoint:
    plain = {
        "key": key, "sandbox": sandbox, "network": network, "names": list(names), "ipv4": ip or key.encode().hex(),
        "ipv6": "", "links": list((links or {}).items()),
    }  # fmt: skip
    return Endpoint.of(plain)


def zone() -> Zone:
    made = Zone()
    made.put_network("n1", "front", [(b"e1\0\0", b"e1\xff\xff")])
    made.put_network("n2", "Back.End")
    made.put(endpoint("e1", "web", "n1", "web", "www", "shared"))
    made.put(endpoint("e2", "web", "n2", "web", "www"))
    made.put(endpoint("e3", "db", "n2", "db", "shared", links={"w": "web"}))
    made.put(endpoint("e4", "old", "n1", "old", "shared", "dotted.name"))
    return made


def test_names_count_within_the_networks_of_who_asks() -> None:
    made = zone()
    assert made.resolve("web", b"db", ipv6=False) == [b"e3"]
    assert made.resolve("old", b"db", ipv6=False) is None
    assert made.resolve("old", b"web", ipv6=False) == [b"e1"]
    assert made.resolve("db", b"web", ipv6=False) == [b"e2"]
    assert made.resolve("nobody", b"web", ipv6=False) is None


def test_the_first_network_that_knows_a_name_counts() -> None:
    assert zone().resolve("web", b"www", ipv6=False) == [b"e1"]
    assert zone().resolve("web", b"shared", ipv6=False) == [b"e1", b"e4"]


def test_a_name_with_its_network() -> None:
    made = zone()
    assert made.resolve("web", b"shared.back.end", ipv6=False) == [b"e3"]
    assert made.resolve("web", b"shared.front", ipv6=False) == [b"e1", b"e4"]
    assert made.resolve("web", b"shared.elsewhere", ipv6=False) is None
    assert made.resolve("web", b"dotted.name", ipv6=False) == [b"e4"]
    assert made.resolve("web", b"dotted.name.front", ipv6=False) == [b"e4"]
    assert made.resolve("web", b"front", ipv6=False) is None
    assert made.resolve("web", b"", ipv6=False) is None


def test_links_are_for_one_container() -> None:
    made = zone()
    assert made.resolve("db", b"w", ipv6=False) == [b"e2"]
    assert made.resolve("db", b"w.back.end", ipv6=False) == [b"e2"]
    assert made.resolve("web", b"w", ipv6=False) is None


def test_a_name_without_an_address_of_the_family() -> None:
    assert zone().resolve("web", b"db", ipv6=True) == []
    assert zone().resolve("web", b"nosuch", ipv6=True) is None


def test_reverse() -> None:
    made = zone()
    assert made.reverse("db", b"e3") == b"db.back.end"
    assert made.reverse("db", b"e4") is None
    assert made.reverse("old", b"e1") == b"web.front"
    assert made.reverse("old", b"e1\0\x09") == b""
    assert made.reverse("db", b"e1\0\x09") is None


def test_who_leaves_has_no_name_any_more() -> None:
    made = zone()
    made.drop("e1")
    assert made.resolve("old", b"web", ipv6=False) is None
    assert made.resolve("old", b"shared", ipv6=False) == [b"e4"]
    assert made.reverse("old", b"e1") is None
    made.drop("e1")
    made.put(endpoint("e2", "web", "n2", "renamed"))
    assert made.resolve("db", b"renamed", ipv6=False) == [b"e2"]
    assert made.resolve("db", b"www", ipv6=False) is None
    made.drop_network("n2")
    assert made.resolve("db", b"renamed", ipv6=False) is None


def test_special_names_come_first_and_are_for_one_container() -> None:
    made = zone()
    made.set_special("web", {b"host.docker.internal": (b"abcd", b"")})
    assert made.resolve("web", b"host.docker.internal", ipv6=False) == [b"abcd"]
    assert made.resolve("web", b"host.docker.internal", ipv6=True) == []
    assert made.resolve("db", b"host.docker.internal", ipv6=False) is None
    made.set_special("web", None)
    assert made.resolve("web", b"host.docker.internal", ipv6=False) is None


def test_names_are_folded() -> None:
    assert folded("WEB.Front.") == b"web.front"
    assert folded("Ä") == "ä".encode()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.randoms(use_true_random=False))
def test_coming_and_going_in_any_order(moves: list[tuple[int, bool]], chance: random.Random) -> None:
    """A zone that changed often knows what one knows that was made at once."""
    made = Zone()
    made.put_network("n", "net")
    there: dict[str, Endpoint] = {}
    for number, comes in moves:
        key = f"e{number}"
        if comes:
            there[key] = endpoint(key, f"s{number % 3}", "n", f"c{number}", f"alias{chance.randrange(3)}")
            made.put(there[key])
        else:
            there.pop(key, None)
            made.drop(key)
    for name in [f"c{number}" for number in range(10)] + [f"alias{number}" for number in range(3)]:
        for sandbox in ("s0", "s1", "s2"):
            found = made.resolve(sandbox, name.encode(), ipv6=False)
            if not any(each.sandbox == sandbox for each in there.values()):
                assert found is None
                continue
            wanted = {each.ipv4 for each in there.values() if name.encode() in each.names}
            assert set(found or ()) == wanted
