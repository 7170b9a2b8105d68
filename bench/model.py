"""What is measured: metrics with their targets, and cases that give samples of them."""

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from bench.engines import Engine
    from bench.images import Images

T = TypeVar("T")


class Skip(Exception):
    """This case cannot be measured on this engine here; the text is the reason that the report gives."""


class Failed(Exception):
    """An engine did not do what it was asked to; the text has the command and what the engine said."""


class Scale(IntEnum):
    """How much of everything: a smoke run, ten minutes, or all that the cases describe."""

    QUICK = 0
    MAIN = 1
    FULL = 2

    def pick(self, quick: T, main: T, full: T) -> T:
        return (quick, main, full)[self]


@dataclass(frozen=True)
class Target:
    """`limit` times the value of the contestant `against`, or the plain value where that is ""."""

    limit: float
    against: str = ""
    issue: str = ""

    def met(self, value: float, better: str) -> bool:
        return value <= self.limit if better == "less" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.limit:g} of {self.against}" if self.against else f"{self.limit:g}"


@dataclass(frozen=True)
class Metric:
    """One number of a case: `unit` is ms, s, MB, MB/s, req/s or "" for a count; `better` is "less" or "more"."""

    name: str = ""
    unit: str = "ms"
    better: str = "less"
    targets: tuple[Target, ...] = ()


@dataclass
class Surroundings:
    """What every case may use."""

    scale: Scale
    scratch: Path
    images: "Images"
    contestants: "list[Engine]" = field(default_factory=list)
    peers: Path | None = None
    """The script that gives commands beside the peers, where there is one."""


class Case:
    """One measurement. `prepare` and `finish` are called once per engine, `sample` once per round.

    `kinds` are the kinds of engine that take part, `scales` those at which the case runs unless it is asked for by
    name, and `rounds` how many samples each engine gives at each scale.
    """

    name: str = ""
    group: str = ""
    title: str = ""
    metrics: tuple[Metric, ...] = (Metric(),)
    kinds: frozenset[str] = frozenset(("gantry", "docker", "podman"))
    other_clients: ClassVar[bool] = False
    """Whether Gantry is measured through the official client also."""
    scales: frozenset[Scale] = frozenset(Scale)
    rounds: ClassVar[tuple[int, int, int]] = (1, 10, 30)
    warm_up: ClassVar[int] = 1

    def prepare(self, engine: "Engine", here: Surroundings) -> None:
        """Make what the samples need; Skip says why this engine cannot be measured."""

    def sample(self, engine: "Engine", here: Surroundings) -> dict[str, float]:
        """One value for each metric, by its name."""
        raise NotImplementedError

    def finish(self, engine: "Engine", here: Surroundings) -> None:
        """Take away what `prepare` made; also called where `prepare` or a sample failed."""
