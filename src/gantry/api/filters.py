"""Filters of container lists (`filters` of `GET /containers/json` and of prune)."""

import re
from collections.abc import Callable

from gantry.engine.containers import Containers
from gantry.errors import InvalidArgument
from gantry.model.container import Container, Phase
from gantry.wire.times import moment

_LIST = frozenset(
    {
        "ancestor", "before", "since", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name",
        "network", "publish", "status", "volume",
    }
)  # fmt: skip
_PRUNE = frozenset({"label", "label!", "until"})


_HEALTH = ("none", "starting", "healthy", "unhealthy")


class ContainerFilter:
    """Whether a container belongs into a list: keys are joined by and, values of a key by or (labels by and)."""

    def __init__(self, wanted: dict[str, list[str]], containers: Containers) -> None:
        for name in wanted:
            if name not in _LIST:
                raise InvalidArgument(f"invalid filter '{name}'")
        for value in wanted.get("status", ()):
            if value not in list(Phase):
                raise InvalidArgument(
                    f"invalid filter 'status={value}': invalid value for state ({value}): must be one of "
                    "created, running, paused, restarting, removing, exited, dead"
                )
        self._wanted = wanted
        self._containers = containers
        for value in wanted.get("health", ()):
            if value not in _HEALTH:
                raise InvalidArgument(
                    f"invalid filter 'health={value}': invalid value for health ({value}): must be one of "
                    + ", ".join(_HEALTH)
                )
        self.names_a_state = "status" in wanted or "exited" in wanted
        self._exited = {_integer(value) for value in wanted.get("exited", ())}
        self._before = [containers.get(name) for name in wanted.get("before", ())]
        self._since = [containers.get(name) for name in wanted.get("since", ())]

    def __call__(self, container: Container) -> bool:
        wanted, host, running = self._wanted, container.host_config, container.status.running
        return (
            self._any("id", lambda value: container.id == value or _found(value, container.id))
            and self._any("name", lambda value: self._named(value, container))
            and labels_match(container, wanted)
            and self._any("status", lambda value: value == container.status.phase)
            and (not self._exited or self._ended_with(container))
            and all(container.created_at < other.created_at for other in self._before)
            and all(container.created_at > other.created_at for other in self._since)
            and self._any("ancestor", lambda value: self._descends(value, container))
            and self._any("network", lambda value: self._on_network(value, container))
            and self._any("volume", lambda value: any(value in (m.name, m.destination) for m in container.mounts))
            and self._any("health", lambda value: value == (container.status.health or {}).get("Status", "none"))
            and self._any("publish", lambda value: running and _port(value) in (host.port_bindings or {}))
            and self._any("expose", lambda value: running and _port(value) in (container.config.exposed_ports or {}))
            and self._any("is-task", lambda value: value in ("0", "false"))
        )

    def _ended_with(self, container: Container) -> bool:
        status = container.status
        return bool(status.started_at) and not status.running and status.exit_code in self._exited

    def _any(self, name: str, test: Callable[[str], bool]) -> bool:
        values = self._wanted.get(name)
        return not values or any(test(value) for value in values)

    @staticmethod
    def _named(value: str, container: Container) -> bool:
        slashed = f"/{container.name}"
        return value in (container.name, slashed) or _found(value, slashed) or _found(value, container.name)

    def _descends(self, value: str, container: Container) -> bool:
        bare = value.removeprefix("sha256:")
        return (
            value in (container.image_ref, f"{container.image_ref}:latest")
            or (len(bare) >= 4 and container.image_id.removeprefix("sha256:").startswith(bare))
            or f"{value}:latest" == container.image_ref
        )

    def _on_network(self, value: str, container: Container) -> bool:
        made = self._containers.lifecycle.endpoints.get(container.id, {})
        return value in container.networks or any(endpoint.network_id == value for endpoint in made.values())


def labels_match(container: Container, wanted: dict[str, list[str]]) -> bool:
    """Every `label`, and no `label!`."""
    labels = container.config.labels or {}

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(has(text) for text in wanted.get("label", ())) and not any(has(t) for t in wanted.get("label!", ()))


def prune_filter(wanted: dict[str, list[str]]) -> Callable[[Container], bool]:
    """Which stopped containers are kept."""
    for name in wanted:
        if name not in _PRUNE:
            raise InvalidArgument(f"invalid filter '{name}'")
    until = moment(wanted["until"][-1]) if wanted.get("until") else 0
    return lambda c: not labels_match(c, wanted) or bool(until and c.created_at > until)


def _found(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(
            f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax"
        ) from None


def _port(text: str) -> str:
    number, _, protocol = text.partition("/")
    if not number.partition("-")[0].isdecimal():
        raise InvalidArgument(f"invalid port: {text}")
    return f"{number}/{protocol or 'tcp'}"
