"""The Engine API client of our command line: synchronous, one connection reused, others dialled when needed."""

from __future__ import annotations

import os

from gantry import API_VERSION, MIN_API_VERSION, __version__
from gantry.client import jsontext
from gantry.client.endpoints import DOCKER_SOCKET, GANTRY_SOCKET, Endpoint
from gantry.client.errors import ClientError, ConnectionFailed, ResponseError, StreamError
from gantry.client.http import Connection, Response
from gantry.client.transport import dial, unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from gantry.client.stream import Stream

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def segment(text: str) -> str:
    """Text escaped for one segment of a path."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data)


def query_string(query: Mapping[str, Any]) -> str:
    """`?a=b&…`: booleans are 1 and 0, lists repeat their key, dicts are JSON; None leaves a key out."""
    pairs = []
    for key, value in query.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is None:
                continue
            if isinstance(item, dict):
                item = jsontext.encode_text(item)
            elif isinstance(item, bool):
                item = "1" if item else "0"
            pairs.append(f"{segment(key)}={segment(str(item))}")
    return "?" + "&".join(pairs) if pairs else ""


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


class Client:
    """Paths are given without version ("/containers/json"); the version is negotiated with the first request.

    Every method raises ClientError: ConnectionFailed, ResponseError for status 400 and above, ProtocolError.
    `headers` go with every request (config.json's HttpHeaders).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        headers: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.endpoint = endpoint
        self._environ = environ
        self._headers = dict(headers or {})
        self._idle: Connection | None = None
        self._open: list[Connection] = []
        self._version = environ.get("DOCKER_API_VERSION", "").lstrip("v")
        self.ping_headers: dict[str, str] = {}

    @property
    def api_version(self) -> str:
        """The version that is spoken, as "1.50"."""
        if not self._version:
            self.ping()
        return self._version

    def at_least(self, version: str) -> bool:
        """Whether the spoken version is `version` or newer."""
        return _version_key(self.api_version) >= _version_key(version)

    def ping(self) -> dict[str, str]:
        """HEAD /_ping: its headers (api-version, ostype, builder-version, swarm); settles the version."""
        response = self._send("HEAD", "/_ping", {}, b"")
        self._finish(response)
        self.ping_headers = response.headers
        if not self._version:
            theirs = response.headers.get("api-version") or MIN_API_VERSION
            self._version = min(theirs, API_VERSION, key=_version_key)
        return response.headers

    def close(self) -> None:
        """Close every connection, also of responses and streams that are not read to their end."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle = None

    # ------------------------------------------------------------------------------ requests

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: Any = None,
        data: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> Response:
        """One request: `body` goes as JSON, `data` as it is (an iterable in chunks). The caller reads the response."""
        fields = dict(headers or {})
        payload: bytes | Iterable[bytes] = b""
        if body is not None:
            payload = jsontext.encode(body)
            fields["Content-Type"] = "application/json"
        elif data is not None:
            payload = data
            fields["Content-Type"] = content_type or "application/octet-stream"
        target = f"/v{self.api_version}{path}{query_string(query or {})}"
        response = self._send(method, target, fields, payload)
        if response.status >= 400:
            raise self._problem(response)
        if response.complete:
            self._finish(response)
        return response

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """GET, decoded from JSON."""
        return self._json(self.request("GET", path, query))

    def post(self, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """POST; the decoded answer, None where it is empty."""
        return self._json(self.request("POST", path, query, body=body))

    def delete(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """DELETE; the decoded answer, None where it is empty."""
        return self._json(self.request("DELETE", path, query))

    def head(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, str]:
        """HEAD: the headers, names in lower case."""
        return self.request("HEAD", path, query).headers

    def download(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[bytes]:
        """GET a body as it arrives."""
        response = self.request("GET", path, query)
        yield from response.blocks()
        self._finish(response)

    def together(
        self, method: str, paths: Iterable[str], query: Mapping[str, Any] | None = None
    ) -> list[ClientError | None]:
        """One request per path, each on a connection of its own and all at once; None or the error of each."""
        text = query_string(query or {})
        prefix = f"/v{self.api_version}"
        sent: list[Connection | ClientError] = []
        for path in paths:
            try:
                sent.append(self._begin(method, f"{prefix}{path}{text}", {}, b""))
            except ClientError as error:
                sent.append(error)
        return [one if isinstance(one, ClientError) else self._outcome(one) for one in sent]

    def _outcome(self, connection: Connection) -> ClientError | None:
        try:
            response = connection.response()
            if response.status >= 400:
                return self._problem(response)
            response.read()
            self._finish(response)
        except ClientError as error:
            return error
        return None

    def messages(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        data: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> Iterator[dict[str, Any]]:
        """A stream of JSON messages (progress, events, stats); raises StreamError where one is an error."""
        response = self.request(method, path, query, data=data, headers=headers, content_type=content_type)
        for message in response.messages():
            if isinstance(message, dict) and ("errorDetail" in message or message.get("error")):
                response.close()
                detail = message.get("errorDetail") or {}
                raise StreamError(str(detail.get("message") or message.get("error")), int(detail.get("code") or 0))
            yield message
        self._finish(response)

    def upgrade(
        self, path: str, query: Mapping[str, Any] | None = None, body: Any = None, *, framed: bool = True
    ) -> Stream:
        """POST that takes the connection over (attach, exec); output is `framed` where there is no terminal."""
        from gantry.client.stream import Stream

        fields = {"Connection": "Upgrade", "Upgrade": "tcp"}
        payload = b""
        if body is not None:
            payload = jsontext.encode(body)
            fields["Content-Type"] = "application/json"
        target = f"/v{self.api_version}{path}{query_string(query or {})}"
        response = self._send("POST", target, fields, payload)
        if response.status >= 400:
            raise self._problem(response)
        if response.status not in (101, 200):
            raise ResponseError(response.status, f"unable to upgrade to tcp, received {response.status}")
        return Stream(response.connection, framed=framed)

    # ----------------------------------------------------------------------------- internals

    def _json(self, response: Response) -> Any:
        data = response.read()
        self._finish(response)
        return jsontext.decode(data) if data.strip() else None

    def _finish(self, response: Response) -> None:
        """Keep the connection of a response that was read to its end for the next request."""
        if response.complete and response.keep_alive and self._idle is None:
            self._idle = response.connection
        elif response.connection is not self._idle:
            response.connection.close()

    def _problem(self, response: Response) -> ResponseError:
        data = response.read(1 << 20)
        self._finish(response)
        try:
            answer = jsontext.decode(data) if data.strip() else None
        except ValueError:
            answer = None
        if isinstance(answer, dict) and answer.get("message"):
            return ResponseError(response.status, str(answer["message"]).strip())
        text = data.decode("utf-8", "replace").strip()
        if text and answer is None and "html" not in response.headers.get("content-type", ""):
            return ResponseError(response.status, text)
        return ResponseError(
            response.status,
            f"request returned {response.status} {response.reason} for API route, "
            f"check if the server supports the requested API version {self._version}",
        )

    def _send(self, method: str, target: str, fields: Mapping[str, str], payload: bytes | Iterable[bytes]) -> Response:
        return self._begin(method, target, fields, payload).response(bodiless=method == "HEAD")

    def _begin(
        self, method: str, target: str, fields: Mapping[str, str], payload: bytes | Iterable[bytes]
    ) -> Connection:
        """Send a request on the idle connection, or on a new one."""
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {self.endpoint.http_host}",
            f"User-Agent: Gantry-Client/{__version__} (linux)",
        ]
        lines += [f"{name}: {text}" for name, text in {**self._headers, **fields}.items()]
        if not isinstance(payload, bytes):
            lines.append("Transfer-Encoding: chunked")
        elif payload or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(payload)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        connection, self._idle = self._idle, None
        if connection is None or connection.stale():
            connection = Connection(self._dial())
            self._open = [one for one in self._open if not one.closed]
            self._open.append(connection)
        connection.send(head, payload)
        return connection

    def _dial(self) -> Any:
        if not self.endpoint.default:
            return dial(self.endpoint)
        first: ConnectionFailed | None = None
        for path in (DOCKER_SOCKET, GANTRY_SOCKET):
            try:
                transport = dial(Endpoint("unix://" + path))
            except ConnectionFailed as error:
                first = first or error
            else:
                self.endpoint = Endpoint("unix://" + path)
                return transport
        if os.getuid() == 0 and self._environ.get("GANTRY_AUTOSTART", "1") != "0":
            from gantry.client.autostart import start_daemon

            self.endpoint = start_daemon()
            return dial(self.endpoint)
        raise first or ConnectionFailed(unreachable(self.endpoint.url))
