"""Which profile confines a container."""

import pytest

from gantry.runtime.apparmor import DEFAULT, profile


@pytest.mark.parametrize(
    ("asked", "default", "privileged", "expected"),
    [
        ("", DEFAULT, False, DEFAULT),
        ("", DEFAULT, True, "unconfined"),
        ("mine", DEFAULT, True, "mine"),
        ("unconfined", DEFAULT, False, "unconfined"),
        ("", "", False, ""),
        ("mine", "", False, "mine"),
        ("mine", None, False, ""),
        ("", None, True, ""),
    ],
)
def test_profile(asked: str, default: str | None, privileged: bool, expected: str) -> None:
    assert profile(asked, default, privileged=privileged) == expected
