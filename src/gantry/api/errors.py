"""Errors to HTTP answers: the only place that knows status numbers."""

import logging

from aiohttp import web

from gantry import errors
from gantry.wire.errors import error_body
from gantry.wire.versions import VersionTooOld

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[errors.GantryError], int], ...] = (
    (errors.InvalidArgument, 400),
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.NotModified, 304),
    (errors.Unsupported, 501),
    (errors.Unavailable, 503),
    (errors.Internal, 500),
)


def status_of(error: BaseException) -> int:
    """The status of an error; whatever no one foresaw is 500."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def message_of(error: BaseException) -> str:
    """One line for the user. What is not ours is named by its kind, and its traceback goes to the log."""
    if isinstance(error, errors.GantryError):
        return error.message
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def answer(error: BaseException, request: web.Request) -> web.Response:
    """Docker's error document for one request."""
    if not isinstance(error, errors.GantryError):
        log.error("%s %s failed", request.method, request.path, exc_info=error)
    status = status_of(error)
    if status == 304:
        return web.Response(status=304)
    if isinstance(error, VersionTooOld):
        return web.Response(status=400, text=error.message + "\n")
    return web.Response(status=status, body=error_body(message_of(error)), content_type="application/json")


def page_not_found() -> web.Response:
    return web.Response(status=404, body=error_body("page not found"), content_type="application/json")
