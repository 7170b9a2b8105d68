"""Docker's command tree and API as data, and the checked-in list of what Gantry does not have yet.

The reference stands beside the project (`../shared/reference`), not in it: tests that read it skip where it is absent.
"""

import json
import tomllib
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from lib.daemon import PROJECT

REFERENCE = PROJECT.parent / "shared" / "reference"
MISSING = PROJECT / "tests" / "reference" / "missing.toml"


@cache
def load(name: str) -> Any:
    """A file of the reference, decoded; skips the test where there is none."""
    path = REFERENCE / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path} is not there: the reference stands beside the project")
    return json.loads(path.read_text("utf-8"))


def listed(section: str) -> dict[str, str]:
    """What a section of the list names, each with its owner (an open issue, or the reason why it stays out)."""
    owners: dict[str, list[str]] = tomllib.loads(MISSING.read_text("utf-8"))[section]
    return {item: owner for owner, items in owners.items() for item in items}


def compare(section: str, missing: Iterable[str]) -> None:
    """Fails where the list and reality differ, in either direction."""
    found, known = set(missing), listed(section)
    problems = [f"not there, and not listed: {item}" for item in sorted(found - known.keys())]
    problems += [f"listed as missing, but there: {item} ({known[item]})" for item in sorted(known.keys() - found)]
    assert not problems, f"{MISSING.name}, section {section}:\n" + "\n".join(problems)
