import pytest

from gantry.api.event_filter import EventFilter
from gantry.model.event import Event

START = Event("container", "start", "abcdef", {"name": "web", "image": "me/app:1", "color": "red", "empty": ""}, 1)
HEALTH = Event("container", "health_status: healthy", "abcdef", {"name": "web", "image": "me/app"}, 1)
EXEC = Event("container", "exec_create: sh -c true", "abcdef", {"name": "web"}, 1)
CONNECT = Event("network", "connect", "feed", {"container": "abcdef", "name": "bridge", "type": "bridge"}, 1)
TAG = Event("image", "tag", "sha256:77", {"name": "localhost:5000/app:2"}, 1)


@pytest.mark.parametrize(
    ("filters", "event", "matches"),
    [
        ({}, START, True),
        ({"unheard-of": ["x"]}, START, True),
        ({"type": ["container"]}, START, True),
        ({"type": ["image", "network"]}, START, False),
        ({"type": ["container"], "event": ["die"]}, START, False),
        ({"event": ["start", "die"]}, START, True),
        ({"event": ["health_status"]}, HEALTH, True),
        ({"event": ["health_status: healthy"]}, HEALTH, True),
        ({"event": ["health_status: unhealthy"]}, HEALTH, False),
        ({"event": ["exec_create"]}, EXEC, True),
        ({"event": ["star"]}, START, False),
        ({"container": ["web"]}, START, True),
        ({"container": ["abc"]}, START, True),
        ({"container": ["other", "we"]}, START, True),
        ({"container": ["eb"]}, START, False),
        ({"container": ["abcdef"]}, CONNECT, True),
        ({"container": ["abcdef"]}, TAG, False),
        ({"network": ["bridge"]}, CONNECT, True),
        ({"network": ["bridge"]}, START, False),
        ({"image": ["me/app"]}, START, True),
        ({"image": ["me/app:1"]}, START, True),
        ({"image": ["me"]}, START, False),
        ({"image": ["localhost:5000/app"]}, TAG, True),
        ({"image": ["localhost"]}, TAG, False),
        ({"image": ["sha256:77"]}, TAG, True),
        ({"label": ["color"]}, START, True),
        ({"label": ["color=red"]}, START, True),
        ({"label": ["color=red", "empty="]}, START, True),
        ({"label": ["color=blue"]}, START, False),
        ({"label": ["color=red", "size"]}, START, False),
        ({"scope": ["local"]}, START, True),
        ({"scope": ["swarm"]}, START, False),
    ],
)
def test_filters(filters: dict[str, list[str]], event: Event, matches: bool) -> None:
    assert EventFilter(filters)(event) is matches
