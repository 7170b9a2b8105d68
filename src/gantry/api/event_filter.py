"""Which events a client of `GET /events` wants to see."""

from collections.abc import Mapping

from gantry.model.event import Event

# Actions with a detail behind a colon, which a filter may leave out.
_DETAILED = ("health_status", "exec_create", "exec_start")
_OBJECTS = ("container", "network", "volume", "plugin", "daemon", "service", "node", "secret", "config")


class EventFilter:
    """Docker's rules: values of one key are alternatives, keys must all match, unknown keys are ignored."""

    def __init__(self, filters: Mapping[str, list[str]]) -> None:
        self._filters = filters

    def __call__(self, event: Event) -> bool:
        return (
            self._is("type", event.type)
            and self._is("scope", event.scope)
            and self._action(event.action)
            and self._labels(event)
            and self._image(event)
            and all(self._object(event, kind) for kind in _OBJECTS)
        )

    def _is(self, key: str, value: str) -> bool:
        wanted = self._filters.get(key)
        return not wanted or value in wanted

    def _action(self, action: str) -> bool:
        wanted = self._filters.get("event")
        if not wanted or action in wanted:
            return True
        head = action.partition(":")[0]
        return head in _DETAILED and head in wanted

    def _labels(self, event: Event) -> bool:
        for label in self._filters.get("label", ()):
            key, equals, value = label.partition("=")
            if key not in event.attributes or (equals and event.attributes[key] != value):
                return False
        return True

    def _object(self, event: Event, kind: str) -> bool:
        wanted = self._filters.get(kind)
        if not wanted:
            return True
        if event.type != kind:
            return kind == "container" and event.type == "network" and self._connected(event, wanted)
        name = event.attributes.get("name", "")
        return any(event.actor_id.startswith(value) or name.startswith(value) for value in wanted if value)

    @staticmethod
    def _connected(event: Event, wanted: list[str]) -> bool:
        """A network's connect and disconnect belong to the container as well."""
        container = event.attributes.get("container", "")
        return any(container.startswith(value) for value in wanted if value)

    def _image(self, event: Event) -> bool:
        wanted = self._filters.get("image")
        if not wanted:
            return True
        name = event.attributes.get("name" if event.type == "image" else "image", "")
        names = {event.actor_id, name, _untagged(event.actor_id), _untagged(name)}
        return any(value in names for value in wanted)


def _untagged(name: str) -> str:
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
