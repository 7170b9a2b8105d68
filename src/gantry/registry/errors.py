"""What goes wrong between us and a registry, and what of it is worth another attempt."""

import msgspec

from gantry.errors import Forbidden, GantryError, InvalidArgument, NotFound, Unauthorized, Unavailable

_SHOWN = 300  # characters of an answer that is no error document
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class Broken(Unavailable):
    """The connection failed or ended early; another attempt may succeed."""


class Unreachable(Broken):
    """No connection could be made at all."""


class Busy(Unavailable):
    """The registry is overloaded or out of order for now; `wait` are the seconds it asks for, 0 for none."""

    def __init__(self, message: str, wait: float = 0) -> None:
        super().__init__(message)
        self.wait = wait


class _Item(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""
    detail: object = None


class _Document(msgspec.Struct, frozen=True):
    """The error document of the distribution specification ("Error Codes"), and that of token services."""

    errors: list[_Item] | None = None
    details: str | None = None
    message: str | None = None


def words(status: int, reason: str, body: bytes) -> str:
    """What an answer says: its error codes and messages, else its status."""
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.DecodeError, RecursionError):
        document = _Document()
    if document.errors:
        texts = [f"{item.code.lower().replace('_', ' ')}: {item.message or item.code}" for item in document.errors]
        return "; ".join(texts)[: 4 * _SHOWN]
    if text := document.details or document.message:
        return text[:_SHOWN]
    shown = " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
    return f"unexpected status {status} {reason}".rstrip() + (f": {shown}" if shown else "")


def refusal(what: str, status: int, reason: str, body: bytes, retry_after: str = "") -> GantryError:
    """The error that an answer stands for. `what` was tried ("Get "https://…"")."""
    said = words(status, reason, body)
    if status in RETRIED:
        return Busy(f"{what}: {said}", float(retry_after) if retry_after.isdecimal() else 0)
    if status == 401:
        return Unauthorized(said)
    if status == 403:
        return Forbidden(said)
    if status == 404:
        return NotFound(said)
    return InvalidArgument(f"{what}: {said}")
