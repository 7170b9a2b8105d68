"""Scenarios as data: `scenarios/*.toml`, checked when they are read."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KINDS = ("docker", "sdk", "GET", "HEAD", "POST", "PUT", "DELETE", "sh")
_KEYS = {"name", "run", "files", "events"}
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Step:
    """One thing done to an engine: `kind` is a word of KINDS, `text` what follows it.

    `values` compares the values of a JSON answer, not only its keys and types; `quiet` runs the step without comparing.
    """

    kind: str
    text: str
    stdin: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    values: bool = False
    quiet: bool = False

    @property
    def shown(self) -> str:
        return f"{self.kind} {self.text}"


@dataclass(frozen=True)
class Scenario:
    """`events` also compares the engine's events about what the scenario made, in their order."""

    name: str
    steps: tuple[Step, ...]
    files: dict[str, str] = field(default_factory=dict)
    events: bool = False


@dataclass(frozen=True)
class Meant:
    """A difference that is meant: in scenarios like `scenario`, where `where` and `text` are found (as patterns)."""

    scenario: str
    text: re.Pattern[str]
    why: str

    def covers(self, scenario: str, text: str) -> bool:
        return fnmatchcase(scenario, self.scenario) and bool(self.text.search(text))


def load(directory: Path = HERE / "scenarios") -> list[Scenario]:
    """Every scenario of a directory, by file and place; raises ValueError with the file's name."""
    found: list[Scenario] = []
    for path in sorted(directory.glob("*.toml")):
        try:
            document = tomllib.loads(path.read_text())
            found += [parse(entry, path.stem) for entry in document.pop("scenario")]
            _refuse_unknown(path.name, document)
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name}: {error}") from error
    names = [scenario.name for scenario in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"several scenarios have the name {', '.join(sorted(twice))}")
    return found


def parse(entry: dict[str, Any], group: str = "") -> Scenario:
    """One `[[scenario]]` table; its name gets the group (the file's name) before it."""
    _refuse_unknown(str(entry.get("name")), {key: entry[key] for key in entry.keys() - _KEYS})
    if not _NAME.fullmatch(entry["name"]):
        raise ValueError(f"bad name: {entry['name']}")
    steps = tuple(_step(step) for step in entry["run"])
    if not any(not step.quiet for step in steps):
        raise ValueError(f"{entry['name']}: nothing is compared")
    name = f"{group}/{entry['name']}" if group else entry["name"]
    return Scenario(name, steps, dict(entry.get("files", {})), bool(entry.get("events", False)))


def _refuse_unknown(where: str, left: dict[str, Any]) -> None:
    if left:
        raise ValueError(f"{where}: unknown keys {sorted(left)}")


def _step(given: str | dict[str, Any]) -> Step:
    table: dict[str, Any] = {"do": given} if isinstance(given, str) else dict(given)
    kind, _, text = table.pop("do").partition(" ")
    quiet = kind.startswith("-")
    values = kind.endswith("=")
    kind = kind.lstrip("-").rstrip("=")
    if kind not in KINDS:
        raise ValueError(f"a step begins with one of {', '.join(KINDS)}, not {kind!r}")
    return Step(kind, text.strip(), values=values, quiet=quiet, **table)


def load_meant(path: Path = HERE / "meant.toml") -> list[Meant]:
    """The checked-in list of differences that are meant."""
    entries: Iterable[dict[str, str]] = tomllib.loads(path.read_text()).get("meant", ())
    return [Meant(entry.get("scenario", "*"), re.compile(entry["text"]), entry["why"]) for entry in entries]
