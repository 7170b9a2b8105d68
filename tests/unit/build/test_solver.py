"""The solver on toy operations."""

import asyncio
from collections.abc import Sequence

import pytest

from gantry.build.progress import BuildEvent, LogEvent, StepLog, VertexEvent
from gantry.build.solver import Solver, Vertex


class Memory:
    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    async def load(self, key: str, inputs: Sequence[str]) -> str | None:
        return self.known.get(key)

    async def save(self, keys: Sequence[str], inputs: Sequence[str], result: str) -> None:
        self.known.update(dict.fromkeys(keys, result))


class Toy:
    """Joins its inputs under a name; `content` makes its second key."""

    shareable = True

    def __init__(self, name: str, *, content: str = "", error: Exception | None = None, wait: float = 0) -> None:
        self.name = name
        self.content = content
        self.error = error
        self.wait = wait
        self.runs = 0
        self.cancelled = False

    def cache_key(self, inputs: Sequence[str]) -> str:
        return f"{self.name} {inputs}"

    async def content_key(self, inputs: Sequence[str]) -> str:
        return self.content

    async def run(self, inputs: Sequence[str], log: StepLog) -> str:
        self.runs += 1
        log.log(1, self.name.encode())
        try:
            await asyncio.sleep(self.wait)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error:
            raise self.error
        return f"{self.name}({','.join(inputs)})"


@pytest.fixture
async def solver() -> "Solver[str]":
    return Solver(Memory())


async def test_each_vertex_runs_once_with_its_inputs(solver: Solver[str]) -> None:
    base = Toy("base")
    below = Vertex(base)
    one, two = Vertex(Toy("one"), [below]), Vertex(Toy("two"), [below])
    events: list[BuildEvent] = []
    assert await solver.solve([Vertex(Toy("top"), [one, two]), one], events.append) == [
        "top(one(base()),two(base()))", "one(base())",
    ]  # fmt: skip
    assert base.runs == 1
    assert next(e.data for e in events if isinstance(e, LogEvent)) == b"base"
    assert sum(1 for e in events if isinstance(e, VertexEvent) and e.completed) == 4


async def test_independent_ones_run_at_once(solver: Solver[str]) -> None:
    began = asyncio.get_running_loop().time()
    await solver.solve([Vertex(Toy("top"), [Vertex(Toy(f"t{n}", wait=0.1)) for n in range(6)])], lambda _: None)
    assert asyncio.get_running_loop().time() - began < 0.4


async def test_results_are_remembered_by_either_key(solver: Solver[str]) -> None:
    await solver.solve([Vertex(Toy("a", content="same"))], lambda _: None)
    other = Toy("b", content="same")
    events: list[BuildEvent] = []
    assert await solver.solve([Vertex(other)], events.append) == ["a()"]
    assert other.runs == 0
    assert [e.cached for e in events if isinstance(e, VertexEvent) and e.completed] == [True]
    third = Toy("b")
    await solver.solve([Vertex(third)], lambda _: None)
    assert third.runs == 0
    await solver.solve([Vertex(third, fresh=True)], lambda _: None)
    assert third.runs == 1


async def test_an_error_stops_the_others(solver: Solver[str]) -> None:
    slow, bad, after = Toy("slow", wait=30), Toy("bad", error=ValueError("no")), Toy("after")
    with pytest.raises(ValueError, match="no"):
        await solver.solve([Vertex(after, [Vertex(slow), Vertex(bad)])], lambda _: None)
    assert slow.cancelled
    assert after.runs == 0


async def test_two_builds_share_what_runs(solver: Solver[str]) -> None:
    toys = [Toy("x", wait=0.1), Toy("x", wait=0.1)]
    heard: list[list[BuildEvent]] = [[], []]
    results = await asyncio.gather(*(solver.solve([Vertex(toy)], heard[n].append) for n, toy in enumerate(toys)))
    assert results == [["x()"], ["x()"]]
    assert sum(toy.runs for toy in toys) == 1
    assert all(any(isinstance(e, LogEvent) for e in each) for each in heard)


async def test_what_must_not_be_shared_is_not(solver: Solver[str]) -> None:
    toys = [Toy("x", wait=0.05), Toy("x", wait=0.05)]
    for toy in toys:
        toy.shareable = False
    await asyncio.gather(*(solver.solve([Vertex(toy)], lambda _: None) for toy in toys))
    assert [toy.runs for toy in toys] == [1, 1]


async def test_a_shared_step_fails_for_both(solver: Solver[str]) -> None:
    toys = [Toy("x", wait=0.05, error=ValueError("no")), Toy("x", wait=0.05)]
    results = await asyncio.gather(
        *(solver.solve([Vertex(toy)], lambda _: None) for toy in toys), return_exceptions=True
    )
    assert [str(each) for each in results] == ["no", "no"]


async def test_a_long_chain_needs_no_stack(solver: Solver[str]) -> None:
    class Count(Toy):
        async def run(self, inputs: Sequence[str], log: StepLog) -> str:
            return str(int(inputs[0]) + 1) if inputs else "0"

    vertex = Vertex(Count("c"))
    for number in range(3000):
        vertex = Vertex(Count(f"c{number}"), [vertex])
    assert await solver.solve([vertex], lambda _: None) == ["3000"]


async def test_closing_stops_what_runs(solver: Solver[str]) -> None:
    slow = Toy("slow", wait=30)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(solver.solve([Vertex(slow)], lambda _: None))
        while not slow.runs:
            await asyncio.sleep(0.01)
        task.cancel()
    assert slow.cancelled
    await solver.close()
