"""JSON without the `json` module: that imports `re` and `enum`, which cost a short command a third of its time.

`_json` is the C accelerator that `json` itself uses; where it is missing (other Pythons), `json` does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring as _quote
    from _json import make_scanner as _make_scanner
except ImportError:  # another implementation of Python
    _make_scanner = None  # type: ignore[assignment,misc]

_BLANK = " \t\n\r"


class _Settings:
    """What the scanner asks for: plain JSON into dict, list, str, int, float."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo = None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def decode(data: bytes | str) -> Any:
    """One JSON document; raises ValueError."""
    value, _ = decode_from(data if isinstance(data, str) else data.decode("utf-8", "replace"), 0)
    return value


def decode_from(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at `at` and where the next one begins; raises ValueError, also where text is incomplete."""
    at = _skip(text, at)
    if _make_scanner is None:
        import json

        value, end = json.JSONDecoder(strict=False).raw_decode(text, at)
    else:
        try:
            value, end = _make_scanner(_Settings)(text, at)  # type: ignore[arg-type]
        except StopIteration as error:
            raise ValueError(f"no JSON value at character {at}") from error
        except SystemError:  # the scanner wants JSONDecodeError and finds its module not imported
            import json

            value, end = json.JSONDecoder(strict=False).raw_decode(text, at)
    return value, _skip(text, end)


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8, keys in the order given."""
    return encode_text(value).encode()


def encode_text(value: Any) -> str:
    """Compact JSON text; characters are not escaped beyond what JSON requires."""
    if _make_scanner is None:
        import json

        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    parts: list[str] = []
    _encode(value, parts.append)
    return "".join(parts)


def _encode(value: Any, put: Any) -> None:
    if isinstance(value, str):
        put(_quote(value))
    elif value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, int):
        put(int.__repr__(value))
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("JSON has no infinity and no NaN")
        put(float.__repr__(value))
    elif isinstance(value, dict):
        separator = "{"
        for key, item in value.items():
            put(separator)
            put(_quote(key))
            put(":")
            _encode(item, put)
            separator = ","
        put("{}" if separator == "{" else "}")
    elif isinstance(value, (list, tuple)):
        separator = "["
        for item in value:
            put(separator)
            _encode(item, put)
            separator = ","
        put("[]" if separator == "[" else "]")
    else:
        raise TypeError(f"{type(value).__name__} is not JSON")
