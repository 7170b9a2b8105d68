"""JSON answers as Docker writes them: no charset in the content type, a newline at the end."""

from typing import Any

import msgspec
from aiohttp import web


def json_answer(document: Any, *, status: int = 200) -> web.Response:
    """One document, whole."""
    return web.Response(status=status, body=msgspec.json.encode(document) + b"\n", content_type="application/json")
