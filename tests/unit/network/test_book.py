"""What the network room knows, and that it survives in the state."""

from pathlib import Path

import pytest

from gantry.errors import InvalidArgument, NotFound
from gantry.model.network import Endpoint, Network
from gantry.network.book import Book
from gantry.network.records import EndpointRecord, NetworkRecord, Subnet
from gantry.store.state import SQLiteState


def network(name: str, network_id: str) -> NetworkRecord:
    return NetworkRecord(Network(name, network_id, ""), bridge="b", subnets=(Subnet("10.0.0.0/24", "10.0.0.1"),))


def endpoint(container: str, address: str, network_id: str) -> EndpointRecord:
    return EndpointRecord(Endpoint(container, network_id, "e-" + container, ip_address=address), link="v-" + container)


async def test_names_ids_and_prefixes(tmp_path: Path) -> None:
    book = Book(SQLiteState(tmp_path / "state.db"))
    one, two = network("one", "ab" * 32), network("two", "ac" * 32)
    for each in (one, two):
        await book.put_network(each)
    assert [book.find(text) for text in ("one", "ab" * 32, "aba")] == [one, one, one]
    with pytest.raises(InvalidArgument, match=r"network a is ambiguous \(2 matches found on ID prefix\)"):
        book.find("a")
    for missing in ("three", ""):
        with pytest.raises(NotFound, match=f"network {missing} not found"):
            book.find(missing)


async def test_a_restart_keeps_the_living_and_frees_the_dead_later(tmp_path: Path) -> None:
    state = SQLiteState(tmp_path / "state.db")
    book = Book(state)
    net = network("one", "ab" * 32)
    await book.put_network(net)
    for name in ("a", "b"):
        record = endpoint(name, str(book.take(net, 4)[0]), net.id)
        book.endpoints[record.key] = record
        await book.save_endpoint(record)
    later = Book(state)
    await later.load(["a"])
    assert list(later.endpoints) == ["e-a"]
    assert list(later.leaving) == ["e-b"]
    pool = later.pool(net, net.subnets[0])
    assert str(pool.take()) == "10.0.0.4"  # behind the last one, not what the dead container had
    assert "10.0.0.3" in pool
    await later.drop_endpoints(["e-b"])
    assert "10.0.0.3" not in pool
    last = Book(state)
    await last.load([])
    assert list(last.leaving) == ["e-a"]


async def test_a_dropped_network_is_forgotten(tmp_path: Path) -> None:
    state = SQLiteState(tmp_path / "state.db")
    book = Book(state)
    net = network("one", "ab" * 32)
    await book.put_network(net)
    await book.drop_network(net)
    later = Book(state)
    await later.load([])
    assert later.networks == {}
