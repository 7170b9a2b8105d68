"""One class per meaning. `api/errors.py` alone maps them to HTTP status codes.

The message is what the user sees: Docker's wording where Docker has one; else what failed, on what,
and what to do.
"""


class GantryError(Exception):
    """Base of every error that is meant for a user; its text is one line, without a traceback."""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


class InvalidArgument(GantryError):
    """The request is malformed or asks for something that makes no sense (400)."""


class Unauthorized(GantryError):
    """Credentials are missing or wrong (401)."""


class Forbidden(GantryError):
    """The request is understood and refused (403)."""


class NotFound(GantryError):
    """The named object does not exist (404)."""


class Conflict(GantryError):
    """The object's state, or another object, stands in the way (409)."""


class NotModified(GantryError):
    """The object is already in the wanted state (304)."""


class Unsupported(GantryError):
    """Understood, but not implemented or not possible on this host (501)."""


class Unavailable(GantryError):
    """A part that is needed does not answer, or is missing on this host (503)."""


class Internal(GantryError):
    """A system call, the runtime or the disk failed (500)."""
