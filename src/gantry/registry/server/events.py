"""What happened, for whoever wants to know: the audit log, notifications, metrics."""

import time
import uuid
from collections.abc import Callable

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a request did, or was refused (`action` "denied")."""

    action: str
    """pull, push, mount, delete, denied, or collect."""
    repository: str = ""
    digest: str = ""
    tag: str = ""
    media_type: str = ""
    size: int = 0
    account: str = ""
    address: str = ""
    method: str = ""
    url: str = ""
    host: str = ""
    base: str = ""
    """What stands before /v2/ in the registry's URLs, as this client sees them."""
    user_agent: str = ""
    detail: str = ""
    source: str = ""
    """Of a mount: the repository that had the blob."""
    references: tuple[str, ...] = ()
    id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))
    at: int = msgspec.field(default_factory=time.time_ns)


Observer = Callable[[Event], None]
"""Called on the event loop; must not block."""
