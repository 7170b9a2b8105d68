"""Query parameters and bodies, read as Docker reads them."""

import msgspec
from aiohttp import web

from gantry.errors import InvalidArgument

JSON_LIMIT = 16 << 20  # bytes; far above any real request, far below what hurts

_FALSE = frozenset({"", "0", "no", "false", "none"})


def boolean(request: web.Request, name: str, default: bool = False) -> bool:
    """A flag: anything but "", 0, no, false and none is true; `default` where it is absent."""
    value = request.query.get(name)
    return default if value is None else value.strip().lower() not in _FALSE


def integer(request: web.Request, name: str, default: int = 0) -> int:
    """A 64-bit number; `default` where it is absent or empty. Raises InvalidArgument."""
    value = request.query.get(name, "")
    if not value:
        return default
    digits = value[1:] if value[0] in "+-" else value
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidArgument(f'strconv.ParseInt: parsing "{value}": invalid syntax')
    number = int(value) if len(digits) < 20 else 1 << 64
    if not -(1 << 63) <= number < 1 << 63:
        raise InvalidArgument(f'strconv.ParseInt: parsing "{value}": value out of range')
    return number


def filters(request: web.Request, name: str = "filters") -> dict[str, list[str]]:
    """`filters={"label":["a"]}`, or the older `{"label":{"a":true}}`. Raises InvalidArgument."""
    text = request.query.get(name, "")
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, list[str]])
    except msgspec.MsgspecError:
        pass  # perhaps the older form
    try:
        older = msgspec.json.decode(text, type=dict[str, dict[str, bool]])
    except msgspec.MsgspecError as error:
        raise InvalidArgument("invalid filter") from error
    return {key: [value for value, wanted in values.items() if wanted] for key, values in older.items()}


async def json_body(request: web.Request, limit: int = JSON_LIMIT) -> bytes:
    """The body of a request that carries JSON, b"" where there is none.

    Raises InvalidArgument for another content type, and for more than `limit` bytes.
    """
    declared = request.headers.get("Content-Type", "")
    if declared or request.content_length:
        kind = declared.partition(";")[0].strip().lower()
        if kind != "application/json" and (request.body_exists or declared):
            raise InvalidArgument(f"unsupported Content-Type header ({declared}): must be 'application/json'")
    return await body(request, limit)


async def body(request: web.Request, limit: int) -> bytes:
    """The whole body of any type; raises InvalidArgument beyond `limit` bytes."""
    if (request.content_length or 0) > limit:
        raise InvalidArgument(f"request body is larger than {limit} bytes")
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise InvalidArgument(f"request body is larger than {limit} bytes")
    return bytes(data)
