"""An image's configuration under a container's."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.engine.merge import merge_config, merge_env, parse_signal
from gantry.errors import InvalidArgument
from gantry.model.container import ContainerConfig, HealthConfig

IMAGE = ContainerConfig(
    entrypoint=["/entry"], cmd=["serve"], env=["A=1", "B=2"], labels={"x": "image"}, user="app", working_dir="/srv"
)


@pytest.mark.parametrize(
    ("asked", "entrypoint", "cmd"),
    [
        (ContainerConfig(), ["/entry"], ["serve"]),
        (ContainerConfig(cmd=["other"]), ["/entry"], ["other"]),
        (ContainerConfig(entrypoint=["/mine"]), ["/mine"], None),
        (ContainerConfig(entrypoint=["/mine"], cmd=["arg"]), ["/mine"], ["arg"]),
        (ContainerConfig(entrypoint=[""], cmd=["arg"]), None, ["arg"]),
    ],
)
def test_entrypoint_and_command(asked: ContainerConfig, entrypoint: list[str] | None, cmd: list[str] | None) -> None:
    merged = merge_config(asked, IMAGE)
    assert (merged.entrypoint, merged.cmd) == (entrypoint, cmd)


def test_other_fields_fall_back_to_the_image() -> None:
    merged = merge_config(ContainerConfig(labels={"y": "own"}, env=["B=own", "C=3"], user="root"), IMAGE)
    assert merged.labels == {"x": "image", "y": "own"}
    assert merged.env == ["B=own", "C=3", "A=1"]
    assert (merged.user, merged.working_dir) == ("root", "/srv")


def test_health_check_without_a_test_changes_only_what_it_names() -> None:
    image = ContainerConfig(healthcheck=HealthConfig(test=["CMD", "true"], interval=5, retries=3))
    merged = merge_config(ContainerConfig(healthcheck=HealthConfig(interval=9)), image)
    assert merged.healthcheck == HealthConfig(test=["CMD", "true"], interval=9, retries=3)


def test_a_name_without_a_value_removes_the_variable() -> None:
    assert merge_env(["A=1", "B=2"], ["A"]) == ["B=2"]
    with pytest.raises(InvalidArgument, match="invalid environment variable: =x"):
        merge_env([], ["=x"])


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+1", int(signal.SIGRTMIN) + 1), ("", 15)]
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@given(st.text())
def test_signals_raise_only_their_own_error(text: str) -> None:
    try:
        number = parse_signal(text)
    except InvalidArgument:
        return
    assert 0 < number <= 64
