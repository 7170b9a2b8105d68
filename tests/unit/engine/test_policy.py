"""Restart policies, and the pauses between restarts."""

import msgspec
import pytest

from gantry.engine.policy import BackOff, wants_autostart, wants_restart
from gantry.model.container import Container, ContainerConfig, HostConfig, Phase, RestartPolicy, Status
from gantry.model.task import ExitStatus

_SECOND = 1_000_000_000


def container(policy: str = "no", limit: int = 0, **status: object) -> Container:
    return Container(
        id="c" * 64, name="one", created_at=1, image_id="", image_ref="", platform="linux", path="sh", args=(),
        config=ContainerConfig(), host_config=HostConfig(restart_policy=RestartPolicy(policy, limit)), runtime="",
        driver="", status=msgspec.structs.replace(Status(phase=Phase.EXITED), **status),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "code", "again"),
    [
        (container("no"), 1, False),
        (container(""), 1, False),
        (container("always"), 0, True),
        (container("always", manually_stopped=True), 0, True),
        (container("unless-stopped"), 0, True),
        (container("unless-stopped", manually_stopped=True), 1, False),
        (container("on-failure"), 0, False),
        (container("on-failure", restart_count=100), 1, True),
        (container("on-failure", 3, restart_count=2), 1, True),
        (container("on-failure", 3, restart_count=3), 1, False),
    ],
)
def test_what_the_policy_says(made: Container, code: int, again: bool) -> None:
    assert wants_restart(made, code) is again
    assert wants_autostart(
        msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, exit_code=code))
    ) is (again)


def test_a_restart_that_was_half_done_is_finished() -> None:
    assert wants_autostart(container("no", restart_asked=True))
    assert not wants_autostart(container("always").replace(status=Status(phase=Phase.CREATED)))


def test_pauses_double_up_to_a_minute_and_begin_anew_after_ten_seconds() -> None:
    pauses = BackOff()
    made = container("always", started_at=100 * _SECOND)
    short, long = ExitStatus(1, 101 * _SECOND), ExitStatus(1, 110 * _SECOND)
    assert [pauses.next(made, short) for _ in range(12)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    )
    assert pauses.next(made, long) == 0.1
    assert pauses.next(made, short) == pytest.approx(0.2)
    pauses.reset(made.id)
    assert pauses.next(made, short) == 0.1
