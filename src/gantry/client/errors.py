"""What can go wrong between the client and a daemon; the text of each is what the user sees."""

from __future__ import annotations


class ClientError(Exception):
    """Base of the client's errors; its text is meant for a user."""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


class ResponseError(ClientError):
    """The daemon answered with an error: `status` is HTTP's, `detail` the daemon's own words."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"Error response from daemon: {detail}")
        self.status = status
        self.detail = detail


class ConnectionFailed(ClientError):
    """No daemon answers at the endpoint."""


class ProtocolError(ClientError):
    """What answered does not speak HTTP as expected, or the connection broke in the middle."""


class EndpointError(ClientError):
    """The endpoint itself cannot be resolved: bad host, unknown context, missing certificates."""


class StreamError(ClientError):
    """A progress stream ended with an error message: `code` is the daemon's, 0 where it gave none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
