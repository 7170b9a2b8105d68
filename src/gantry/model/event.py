"""Events, as `GET /events` streams them."""

import msgspec


class Event(msgspec.Struct, frozen=True):
    """`type` is a noun of Docker's list, `action` a verb; `time` is nanoseconds since the epoch."""

    type: str
    action: str
    actor_id: str
    attributes: dict[str, str]
    time: int
    scope: str = "local"
