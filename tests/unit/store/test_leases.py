"""What a lease shields from the collector."""

from gantry.model import timestamp
from gantry.store.leases import MemoryLeases


def shielded(leases: MemoryLeases, resource: str, made_at: int) -> bool:
    with leases.guard(resource, made_at) as answer:
        return answer


def test_named_things_however_old() -> None:
    leases = MemoryLeases()
    with leases.lease("a") as lease:
        lease.add("b", "b")
        assert shielded(leases, "a", 0)
        assert shielded(leases, "b", 0)
        assert not shielded(leases, "c", 0)
    assert not shielded(leases, "a", 0)


def test_everything_that_is_made_meanwhile() -> None:
    leases = MemoryLeases()
    before = timestamp.now() - 1
    with leases.lease():
        assert shielded(leases, "x", timestamp.now())
        assert not shielded(leases, "x", before)
    assert not shielded(leases, "x", timestamp.now())


def test_two_leases_on_the_same_thing() -> None:
    leases = MemoryLeases()
    with leases.lease("a"):
        with leases.lease("a"):
            pass
        assert shielded(leases, "a", 0)
