"""Medians, spreads and ratios: what the samples say."""

import statistics
from dataclasses import dataclass

from bench.measure import Result
from bench.model import Metric, Target

OURS = "gantry"


@dataclass(frozen=True)
class Spread:
    """The median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), low, high)


@dataclass(frozen=True)
class Verdict:
    """A target and how far we are from it; `value` is a ratio, or the plain median."""

    target: Target
    value: float
    met: bool


@dataclass(frozen=True)
class Row:
    """One metric of one case. `ratios` are ours to each other contestant's, taken round by round."""

    title: str
    metric: Metric
    values: dict[str, Spread]
    ratios: dict[str, Spread]
    verdicts: list[Verdict]
    samples: dict[str, list[float]]


def rows(result: Result) -> list[Row]:
    """The rows of one case, in the order of its metrics; metrics without samples have none."""
    return [
        row(f"{result.case.name} {metric.name}".strip(), metric, result.samples[metric.name])
        for metric in result.case.metrics
        if metric.name in result.samples
    ]


def row(title: str, metric: Metric, samples: dict[str, list[float]]) -> Row:
    values = {name: Spread.of(taken) for name, taken in samples.items()}
    ratios: dict[str, Spread] = {}
    ours = samples.get(OURS)
    if ours:
        for name, theirs in samples.items():
            pairs = [mine / other for mine, other in zip(ours, theirs, strict=False) if other]
            if name != OURS and pairs:
                ratios[name] = Spread.of(pairs)
    verdicts = []
    for target in metric.targets:
        if not target.against and OURS in values:
            verdicts.append(Verdict(target, values[OURS].median, target.met(values[OURS].median, metric.better)))
        elif target.against in ratios:
            value = ratios[target.against].median
            verdicts.append(Verdict(target, value, target.met(value, metric.better)))
    return Row(title, metric, values, ratios, verdicts, samples)


def shown(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
