"""What the benchmark says of its samples."""

import xml.etree.ElementTree as ET

import pytest
from bench import page, report
from bench.cases import CASES, choose
from bench.measure import Result, measure
from bench.model import Case, Failed, Metric, Scale, Skip, Surroundings, Target
from bench.summary import Spread, row, rows, shown


class _Engine:
    has_images = False

    def __init__(self, name: str, values: list[float] | None = None, problem: Exception | None = None) -> None:
        self.name = self.kind = name
        self.values = list(values or ())
        self.problem = problem
        self.finished = False


class _Case(Case):
    name = "example"
    group = "examples"
    title = "an <example>"
    metrics = (Metric("time", "ms", targets=(Target(0.5, "docker"), Target(3))),)
    rounds = (1, 4, 4)

    def prepare(self, engine, here) -> None:
        if isinstance(engine.problem, Skip):
            raise engine.problem

    def sample(self, engine, here) -> dict[str, float]:
        if engine.problem:
            raise engine.problem
        return {"time": engine.values.pop(0)}

    def finish(self, engine, here) -> None:
        engine.finished = True


def _measured(tmp_path, *engines: _Engine) -> Result:
    here = Surroundings(Scale.MAIN, tmp_path, images=None, contestants=list(engines))
    return measure(_Case(), here, budget=60)


def test_a_spread_is_the_median_between_the_quartiles() -> None:
    assert Spread.of([4, 1, 3, 2, 5]) == Spread(3, 2, 4)
    assert Spread.of([7]) == Spread(7, 7, 7)


def test_ratios_are_taken_round_by_round() -> None:
    # The medians' ratio would be 2/3: a disturbance that hit both in one round does not count.
    made = row("x", Metric(targets=(Target(0.5, "docker"),)), {"gantry": [1, 2, 30], "docker": [2, 4, 60]})
    assert made.ratios["docker"].median == pytest.approx(0.5)
    assert [verdict.met for verdict in made.verdicts] == [True]


def test_more_is_better_turns_a_target_round() -> None:
    made = row(
        "x", Metric(unit="req/s", better="more", targets=(Target(1, "docker"),)), {"gantry": [9], "docker": [10]}
    )
    assert [verdict.met for verdict in made.verdicts] == [False]


def test_the_first_round_warms_up_and_every_engine_is_finished(tmp_path) -> None:
    ours, docker = _Engine("gantry", [99, 1, 2, 3, 4]), _Engine("docker", [99, 4, 4, 4, 8])
    result = _measured(tmp_path, ours, docker)
    assert result.samples == {"time": {"gantry": [1, 2, 3, 4], "docker": [4, 4, 4, 8]}}
    assert ours.finished
    assert docker.finished


def test_a_failing_engine_is_reported_and_the_others_go_on(tmp_path) -> None:
    ours = _Engine("gantry", [1] * 5)
    result = _measured(
        tmp_path, ours, _Engine("docker", problem=Failed("no")), _Engine("podman", problem=Skip("not here"))
    )
    assert result.errors == {"docker": "Failed: no"}
    assert result.skipped == {"podman": "not here"}
    assert result.samples["time"] == {"gantry": [1] * 4}
    text = report.table([result])
    assert "example: docker FAILED: Failed: no" in text
    assert "example: podman skipped: not here" in text


def test_the_page_has_a_plot_for_each_metric_and_escapes_what_it_shows(tmp_path) -> None:
    result = _measured(tmp_path, _Engine("gantry", [1, 1, 2, 3, 4]), _Engine("docker", [1, 4, 4, 4, 8]))
    html = page.page([result], {"machine": {"processor": "a <b>"}, "engines": {"gantry": {"server": "1"}}})
    assert "an &lt;example&gt;" in html
    assert "a &lt;b&gt;" in html
    (made,) = rows(result)
    plot = ET.fromstring(page.plot(made))
    assert len(plot.findall("circle")) == 8
    assert len(plot.findall("rect")) == 2


def test_cases_are_chosen_by_name_group_and_scale() -> None:
    assert [case.name for case in choose(["run", "start"], Scale.MAIN)] == [
        "run",
        "run-none",
        "run-options",
        "run-ports",
    ]
    assert choose(["all"], Scale.MAIN) == list(CASES)
    groups = {"start", "command", "life", "api", "transfer", "build", "streams", "network", "memory", "daemon"}
    assert {case.group for case in choose([], Scale.QUICK)} >= groups
    with pytest.raises(KeyError):
        choose(["nothing"], Scale.MAIN)


def test_names_of_cases_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (0.01234, "0.0123")])
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert shown(value) == text
