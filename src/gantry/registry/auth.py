"""Credentials and what they are exchanged for: basic authentication (RFC 7617) and bearer tokens (RFC 6750;
Distribution, "Token Authentication Specification" and "OAuth2 Token Authentication").
"""

import base64
import re
import time
from collections.abc import Mapping

import msgspec

from gantry.errors import InvalidArgument, Unauthorized
from gantry.oci.documents import without_nulls

CLIENT_ID = "gantry"
_LEAST_LIFE = 60  # seconds, the specification's default
_EARLY = 10  # seconds that a token is given up before its end

_PARAMETER = re.compile(r'\s*([a-zA-Z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(r"\s*([a-zA-Z0-9_-]+)(?:\s+|$)")


class Credentials(msgspec.Struct, frozen=True, rename="lower"):
    """`AuthConfig` of the Engine API (the content of X-Registry-Auth)."""

    username: str = ""
    password: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    @classmethod
    def decode(cls, text: str) -> "Credentials":
        """Of JSON, "" for none; raises InvalidArgument."""
        if not text.strip():
            return cls()
        try:
            document = msgspec.json.decode(text)
            plain = msgspec.convert({} if document is None else without_nulls(document), cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidArgument(f"invalid X-Registry-Auth header: {error}") from error
        if plain.auth and not plain.username:
            try:
                name, _, secret = base64.b64decode(plain.auth, validate=True).decode().partition(":")
            except ValueError as error:
                raise InvalidArgument(f"invalid X-Registry-Auth header: {error}") from error
            plain = msgspec.structs.replace(plain, username=name, password=secret)
        return plain

    @property
    def basic(self) -> str:
        """The value of an Authorization header, "" without a user's name."""
        if not self.username:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Challenge(msgspec.Struct, frozen=True):
    """One demand of a WWW-Authenticate header; `scheme` in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(values: list[str]) -> list[Challenge]:
    """What an answer 401 asks for; what cannot be read is left out."""
    found = []
    for value in values:
        rest = value
        while scheme := _SCHEME.match(rest):
            rest = rest[scheme.end() :]
            parameters = {}
            while parameter := _PARAMETER.match(rest):
                name, quoted, plain = parameter.groups()
                parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                rest = rest[parameter.end() :]
            found.append(Challenge(scheme[1].lower(), parameters))
    return found


class Token(msgspec.Struct, frozen=True):
    """`value` goes into an Authorization header until `ends` (seconds of the monotonic clock)."""

    value: str
    ends: float
    refresh: str = ""

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self.ends


class _Answer(msgspec.Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: float | None = None


def decode_token(data: bytes, realm: str) -> Token:
    """The answer of a token service; raises Unauthorized for one without a token."""
    try:
        answer = msgspec.json.decode(data, type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unauthorized(f"unable to decode token response of {realm}: {error}") from error
    value = answer.token or answer.access_token
    if not value or not value.isascii() or any(character.isspace() for character in value):
        raise Unauthorized(f"authorization server {realm} did not include a token in the response")
    life = max(answer.expires_in or 0, _LEAST_LIFE)
    return Token(value, time.monotonic() + life - _EARLY, answer.refresh_token or "")


def merge_scopes(scopes: set[str]) -> list[str]:
    """Scopes of one repository put together: `repository:a:pull` and `repository:a:push` ask once."""
    merged: dict[str, set[str]] = {}
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        merged.setdefault(resource, set()).update(action for action in actions.split(",") if action)
    return sorted(f"{resource}:{','.join(sorted(actions))}" for resource, actions in merged.items())
