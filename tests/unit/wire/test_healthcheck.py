"""HEALTHCHECK in `commit --change`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.model.container import HealthConfig
from gantry.wire.healthcheck import parse_healthcheck


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("NONE", HealthConfig(test=["NONE"])),
        ("CMD true x", HealthConfig(test=["CMD-SHELL", "true x"])),
        ('CMD ["true", "x"]', HealthConfig(test=["CMD", "true", "x"])),
        ("CMD [ -f /x ]", HealthConfig(test=["CMD-SHELL", "[ -f /x ]"])),
        ("--interval=1s --retries=3 cmd true", HealthConfig(test=["CMD-SHELL", "true"], interval=10**9, retries=3)),
        ("--start-period=1m --start-interval=5ms --timeout=2h CMD true",
         HealthConfig(test=["CMD-SHELL", "true"], start_period=60 * 10**9, start_interval=5 * 10**6,
                      timeout=7200 * 10**9)),
    ],
)  # fmt: skip
def test_what_is_asked_for(text: str, made: HealthConfig) -> None:
    assert parse_healthcheck(text) == made


@pytest.mark.parametrize(
    "text", ["", "RUN x", "CMD", "NONE x", "--retries=0 CMD x", "--interval=soon CMD x", "--colour=red CMD x"]
)
def test_mistakes(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_healthcheck(text)


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    try:
        assert parse_healthcheck(text).test
    except InvalidArgument:
        return
