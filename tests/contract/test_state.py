"""What every State must do."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from gantry.errors import Conflict, Internal
from gantry.ports import State, Table
from gantry.store.state import SQLiteState

Make = Callable[[Path], State]


class Thing(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    labels: dict[str, str] = {}


class ThingOfTomorrow(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    added: int = 7


THINGS = Table("thing", Thing, unique="name")
OTHERS = Table("other", Thing)


@pytest.fixture(params=[SQLiteState], ids=["sqlite"])
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


@pytest.fixture
def state(make: Make, tmp_path: Path) -> Iterator[State]:
    state = make(tmp_path / "state.db")
    yield state
    state.close()


def put(state: State, *things: Thing) -> None:
    with state.update() as tx:
        for thing in things:
            tx.put(THINGS, thing.id, thing)


def test_put_get_find_list_delete(state: State) -> None:
    a, b = Thing("1", "a", {"k": "v"}), Thing("2", "b")
    put(state, b, a)
    with state.view() as tx:
        assert tx.get(THINGS, "1") == a
        assert tx.find(THINGS, "b") == b
        assert list(tx.list(THINGS)) == [a, b]
        assert tx.get(THINGS, "3") is None
        assert tx.find(THINGS, "c") is None
        assert list(tx.list(OTHERS)) == []
    with state.update() as tx:
        tx.delete(THINGS, "1")
        tx.delete(THINGS, "never there")
    with state.view() as tx:
        assert list(tx.list(THINGS)) == [b]


def test_tables_do_not_mix(state: State) -> None:
    with state.update() as tx:
        tx.put(THINGS, "1", Thing("1", "a"))
        tx.put(OTHERS, "1", Thing("1", "other"))
    with state.view() as tx:
        assert tx.get(THINGS, "1").name == "a"  # type: ignore[union-attr]
        assert tx.get(OTHERS, "1").name == "other"  # type: ignore[union-attr]


def test_a_unique_name_that_is_taken_is_a_conflict_and_undoes_everything(state: State) -> None:
    put(state, Thing("1", "a"))
    with pytest.raises(Conflict):
        put(state, Thing("2", "b"), Thing("3", "a"))
    with state.view() as tx:
        assert [thing.id for thing in tx.list(THINGS)] == ["1"]


def test_a_name_moves_with_its_record(state: State) -> None:
    put(state, Thing("1", "a"))
    put(state, Thing("1", "b"))
    put(state, Thing("2", "a"))
    with state.view() as tx:
        assert tx.find(THINGS, "a").id == "2"  # type: ignore[union-attr]


def test_records_without_a_name_do_not_collide(state: State) -> None:
    put(state, Thing("1"), Thing("2"))
    with state.view() as tx:
        assert len(tx.list(THINGS)) == 2


def test_an_error_in_the_block_undoes_it(state: State) -> None:
    def fail() -> None:
        with state.update() as tx:
            tx.put(THINGS, "1", Thing("1", "a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    put(state, Thing("2", "b"))
    with state.view() as tx:
        assert [thing.id for thing in tx.list(THINGS)] == ["2"]


def test_an_update_sees_its_own_writes_and_a_view_does_not(state: State) -> None:
    seen: list[object] = []

    def look() -> None:
        with state.view() as tx:
            seen.append(tx.get(THINGS, "1"))

    with state.update() as tx:
        tx.put(THINGS, "1", Thing("1", "a"))
        assert tx.get(THINGS, "1") == Thing("1", "a")
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    assert seen == [None, Thing("1", "a")]


def test_updates_from_many_threads_are_one_after_the_other(state: State) -> None:
    put(state, Thing("n", "0"))

    def count() -> None:
        for _ in range(20):
            with state.update() as tx:
                number = int(tx.get(THINGS, "n").name)  # type: ignore[union-attr]
                tx.put(THINGS, "n", Thing("n", str(number + 1)))

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with state.view() as tx:
        assert tx.get(THINGS, "n").name == "100"  # type: ignore[union-attr]


def test_it_is_there_again_and_older_records_are_read(make: Make, tmp_path: Path) -> None:
    first = make(tmp_path / "s.db")
    put(first, Thing("1", "a", {"gone": "tomorrow"}))
    first.close()
    second = make(tmp_path / "s.db")
    with second.view() as tx:
        assert tx.get(Table("thing", ThingOfTomorrow), "1") == ThingOfTomorrow("1", "a", 7)
    second.close()


def test_a_record_of_another_version_is_named(make: Make, tmp_path: Path) -> None:
    other = Table("thing", dict)
    state = make(tmp_path / "state.db")
    with state.update() as tx:
        tx.put(other, "k", {"name": ["not", "a", "string"], "value": "neither"})
    with pytest.raises(Internal, match=r"a record of thing is not this version's: .*"), state.view() as tx:
        tx.get(THINGS, "k")
