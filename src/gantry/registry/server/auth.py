"""Authentication: what a request's Authorization header proves. htpasswd (bcrypt) here, tokens in `auth_token`."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import bcrypt

from gantry.aio import run_blocking
from gantry.errors import InvalidArgument
from gantry.registry.server.access import Action, Identity
from gantry.registry.server.errors import RegistryError

log = logging.getLogger(__name__)

_LIMIT = 4 << 20
_REMEMBERED = 256
_PASSWORD_LIMIT = 72  # bytes that bcrypt looks at
_AT_ONCE = 2
"""Checks at a time: guessing passwords keeps no more than these threads from their work."""
_NOBODY = "$2b$10$C6UzMDM.H6dfI/f/IKcEeO7zGmTjG7gMrW0OqX1kZ7WJ9VxkT0wGy"
"""A hash that no password has: an unknown account takes as long as a wrong password."""


class Authenticator(Protocol):
    """One way to log in."""

    async def identify(self, header: str) -> Identity:
        """Whom an Authorization header ("" for none: the anonymous) proves; UNAUTHORIZED for a wrong one."""
        ...

    def challenge(self, repository: str, actions: Iterable[Action], error: str = "") -> str:
        """The WWW-Authenticate header that tells a client how to log in."""
        ...


class NoAuth:
    """Everybody is anonymous, whatever they send."""

    async def identify(self, header: str) -> Identity:  # noqa: ARG002
        return Identity()

    def challenge(self, repository: str, actions: Iterable[Action], error: str = "") -> str:  # noqa: ARG002
        return 'Basic realm="Registry"'


class Htpasswd:
    """Accounts in an Apache htpasswd file with bcrypt hashes; the file is read again when it has changed."""

    def __init__(self, path: Path, realm: str) -> None:
        self._path = path
        self._realm = realm.replace("\\", "").replace('"', "")
        self._entries: dict[str, bytes] = {}
        self._seen: tuple[int, int, int] | None = None
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, bytes] = OrderedDict()
        self._checking = asyncio.Semaphore(_AT_ONCE)
        self._reload()

    async def identify(self, header: str) -> Identity:
        if not header:
            return Identity()
        account, password = _basic(header)
        # bcrypt takes a tenth of a second by design; a password that was right is remembered as a keyed hash
        proof = hmac.digest(self._key, account.encode() + b"\0" + password, hashlib.sha256)
        self._reload()
        stored = self._entries.get(account, _NOBODY.encode())
        if self._remembered.get(proof) == stored and account in self._entries:
            return Identity(account)
        async with self._checking:
            good = await run_blocking(bcrypt.checkpw, password[:_PASSWORD_LIMIT], stored)
        if not good or account not in self._entries:
            raise RegistryError("UNAUTHORIZED", "", message="authentication required: wrong account or password")
        self._remembered[proof] = stored
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return Identity(account)

    def challenge(self, repository: str, actions: Iterable[Action], error: str = "") -> str:  # noqa: ARG002
        return f'Basic realm="{self._realm}"'

    def _reload(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return
            entries = parse_htpasswd(self._path.read_bytes())
        except OSError as error:
            if self._seen is None:
                raise InvalidArgument(f"auth.htpasswd.path: {self._path}: {(error.strerror or '').lower()}") from error
            log.error("%s cannot be read, the accounts stay as they were: %s", self._path, error.strerror)  # noqa: TRY400
            return
        except InvalidArgument as error:
            if self._seen is None:
                raise InvalidArgument(f"auth.htpasswd.path: {self._path}: {error.message}") from error
            log.error("%s is wrong, the accounts stay as they were: %s", self._path, error.message)  # noqa: TRY400
            self._seen = seen
            return
        self._entries, self._seen = entries, seen


def parse_htpasswd(data: bytes) -> dict[str, bytes]:
    """account -> bcrypt hash; raises InvalidArgument with the line that is none."""
    if len(data) > _LIMIT:
        raise InvalidArgument(f"larger than {_LIMIT} bytes")
    entries: dict[str, bytes] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        account, colon, stored = text.partition(":")
        if not colon or not account:
            raise InvalidArgument(f"line {number}: account:hash is expected")
        if not stored.startswith(("$2a$", "$2b$", "$2y$")) or len(stored) != 60:
            raise InvalidArgument(f"line {number}: the hash of {account} is not of bcrypt (gantry registry htpasswd)")
        entries[account] = stored.encode()
    return entries


def _basic(header: str) -> tuple[str, bytes]:
    """Account and password of `Basic …` (RFC 7617)."""
    scheme, _, encoded = header.partition(" ")
    refused = RegistryError("UNAUTHORIZED", "the Authorization header is not understood")
    try:
        account, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        name = account.decode("utf-8")
    except (ValueError, binascii.Error) as error:
        raise refused from error
    if scheme.lower() != "basic" or not colon or b"\0" in password:
        raise refused
    return name, password
