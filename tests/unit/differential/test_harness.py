"""The differential test's own parts: its scenarios are well-formed, and it sees what differs and nothing else."""

import re
from pathlib import Path

import pytest

from differential.compare import Answer, differences
from differential.normalise import Normaliser
from differential.scenario import HERE, Meant, load, load_meant, parse

ID = "0123456789abcdef" * 4


def test_scenarios_are_well_formed() -> None:
    scenarios = load()
    assert len(scenarios) >= 60
    assert all(entry.why for entry in load_meant())
    assert {path.stem for path in (HERE / "scenarios").glob("*.toml")} == {
        each.name.split("/")[0] for each in scenarios
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "a", "run": ["nonsense x"]}, "a step begins with"),
        ({"name": "a b", "run": ["docker ps"]}, "bad name"),
        ({"name": "a", "run": ["-docker ps"]}, "nothing is compared"),
        ({"name": "a", "run": ["docker ps"], "what": 1}, "unknown keys"),
    ],
)
def test_bad_scenarios_are_refused(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(entry)


def test_names_are_unique(tmp_path: Path) -> None:
    one = '[[scenario]]\nname = "a"\nrun = ["docker ps"]\n'
    (tmp_path / "x.toml").write_text(one + one)
    with pytest.raises(ValueError, match="x/a"):
        load(tmp_path)


def test_steps() -> None:
    made = parse({"name": "a", "run": ["-docker ps", "GET= /x", {"do": "docker run", "stdin": "x"}]}, "g")
    assert made.name == "g/a"
    assert [(step.kind, step.text, step.quiet, step.values) for step in made.steps] == [
        ("docker", "ps", True, False), ("GET", "/x", False, True), ("docker", "run", False, False),
    ]  # fmt: skip
    assert made.steps[2].stdin == "x"


def test_what_is_accidental_is_replaced() -> None:
    clean = Normaliser("dt1", {"image-x": "@image"})
    assert clean.text(f"dt1-c {ID} {ID[:12]} {'f' * 63}0") == "@c ID1 ID1 ID2"
    assert clean.text("2026-11-25T10:00:00.123Z at 172.17.0.2/16, 02:42:ac:11:00:02") == "TIME at ADDRESS/16, MAC"
    assert clean.text("Up 3 seconds    image-x") == "Up DURATION  @image"
    assert clean.text("deadbeefcafe 123456789012 deadbeef") == "deadbeefcafe 123456789012 deadbeef"
    assert clean.value({"dt1-a": ["dt1-b", 5, None]}) == {"@a": ["@b", 5, None]}


def test_json_is_compared_by_keys_types_and_message() -> None:
    one = Answer({"status": 200}, {"a": 1, "b": [{"c": "x"}], "message": "m"})
    assert list(differences(one, Answer({"status": 200}, {"a": 2, "b": [{"c": "y"}], "message": "m"}))) == []
    other = Answer({"status": 404}, {"a": "1", "b": [{}], "message": "n", "d": None})
    assert [str(each.where) for each in differences(one, other)] == ["status", "/a", "/b/0/c", "/message", "/d"]
    assert [each.where for each in differences(Answer({}, {"a": [1]}), Answer({}, {"a": []}))] == ["/a"]
    assert [each.where for each in differences(Answer({}, {"a": 1}), Answer({}, {"a": 2}), values=True)] == ["/a"]


def test_meant_differences() -> None:
    entry = Meant("life/*", re.compile("GET /x\n/a"), "because")
    assert entry.covers("life/one", "GET /x\n/a")
    assert not entry.covers("other/one", "GET /x\n/a")
    assert not entry.covers("life/one", "GET /y\n/a")
