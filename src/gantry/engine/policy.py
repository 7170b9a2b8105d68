"""Restart policies: whether a container that ended is started again, and after how long."""

from gantry.model.container import Container, Phase
from gantry.model.task import ExitStatus

FIRST_DELAY, LONGEST_DELAY, SETTLED = 0.1, 60.0, 10.0  # seconds


def wants_restart(container: Container, code: int) -> bool:
    """What the policy says of an end with exit code `code`."""
    policy, status = container.host_config.restart_policy, container.status
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not status.manually_stopped
        case "on-failure":
            limit = policy.maximum_retry_count
            return code != 0 and (not limit or status.restart_count < limit)
        case _:
            return False


def wants_autostart(container: Container) -> bool:
    """Whether a container that was found ended is started together with the daemon."""
    status = container.status
    return status.phase == Phase.EXITED and (status.restart_asked or wants_restart(container, status.exit_code))


class BackOff:
    """Doubles the delay of each container with every restart; a run of ten seconds begins anew."""

    def __init__(self) -> None:
        self._delays: dict[str, float] = {}

    def next(self, container: Container, status: ExitStatus) -> float:
        """Seconds until the next start."""
        ran = (status.at - container.status.started_at) / 1e9
        before = self._delays.get(container.id, 0.0)
        delay = FIRST_DELAY if ran >= SETTLED or not before else min(before * 2, LONGEST_DELAY)
        self._delays[container.id] = delay
        return delay

    def reset(self, container_id: str) -> None:
        self._delays.pop(container_id, None)
