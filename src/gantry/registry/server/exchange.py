"""One request on its way through the registry, and what is to be told of it."""

import time
from collections.abc import Callable, Mapping

from aiohttp import web

from gantry.registry.server.access import Identity
from gantry.registry.server.events import Event


class Exchange:
    """A request with what has been found out about it.

    `base` comes before the paths of Location headers, `headers` go with every answer.
    """

    def __init__(
        self, request: web.BaseRequest, tell: Callable[[Event], None], base: str, headers: Mapping[str, str]
    ) -> None:
        self.request = request
        self.repository = ""
        self.argument = ""
        self.identity = Identity()
        self.base = base
        self.headers = headers
        self.kind = ""
        self.started = time.perf_counter()
        self._tell = tell

    def header(self, name: str) -> str:
        return self.request.headers.get(name, "")

    def location(self, path: str) -> str:
        return f"{self.base}/v2/{self.repository}/{path}"

    def tell(
        self,
        action: str,
        *,
        digest: str = "",
        tag: str = "",
        media_type: str = "",
        size: int = 0,
        detail: str = "",
        source: str = "",
        references: tuple[str, ...] = (),
    ) -> None:
        """Let the observers know what was done."""
        request = self.request
        self._tell(
            Event(
                action=action,
                repository=self.repository,
                digest=digest,
                tag=tag,
                media_type=media_type,
                size=size,
                account=self.identity.account,
                address=request.remote or "",
                method=request.method,
                url=str(request.rel_url)[:2048],
                host=request.host[:255],
                base=self.base if "://" in self.base else f"http://{request.host[:255]}{self.base}",
                user_agent=self.header("User-Agent")[:255],
                detail=detail,
                source=source,
                references=references,
            )
        )
