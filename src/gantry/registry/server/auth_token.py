"""Bearer tokens of an authorization service (Distribution's token authentication specification)."""

import base64
import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.exceptions import PyJWTError

from gantry.errors import InvalidArgument
from gantry.registry.server.access import Action, Identity
from gantry.registry.server.config import Token
from gantry.registry.server.errors import RegistryError

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEEWAY = 60
_CHAIN = 8
_LIMIT = 1 << 20
_ENTRIES = 1000

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class TokenAuth:
    """Checks the signature, issuer, audience and times of a token, and takes over what it grants."""

    def __init__(self, config: Token) -> None:
        self._config = config
        self._algorithms = [name for name in config.signingalgorithms if name in _ALGORITHMS] or list(_ALGORITHMS)
        if unknown := sorted(set(config.signingalgorithms) - set(_ALGORITHMS)):
            raise InvalidArgument(f"auth.token.signingalgorithms: {unknown[0]} is none of {', '.join(_ALGORITHMS)}")
        self._roots: list[x509.Certificate] = []
        self._keys: dict[str, PublicKey] = {}
        if config.rootcertbundle:
            self._load_bundle(Path(config.rootcertbundle))
        if config.jwks:
            self._load_jwks(Path(config.jwks))

    async def identify(self, header: str) -> Identity:
        if not header:
            return Identity()
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise self._refused("invalid_token")
        try:
            head = jwt.get_unverified_header(token)
            key = self._key(head)
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._config.service,
                issuer=self._config.issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (PyJWTError, ValueError, TypeError) as error:
            raise self._refused("invalid_token") from error
        return Identity(str(claims.get("sub") or "")[:255], granted(claims.get("access")))

    def challenge(self, repository: str, actions: Iterable[Action], error: str = "") -> str:
        config = self._config
        parts = [f'realm="{config.realm}"', f'service="{config.service}"']
        wanted = {"push" if action is Action.CREATE else action.value for action in actions}
        if "push" in wanted:
            wanted.add("pull")
        if repository.startswith("registry:"):
            parts.append(f'scope="{repository}:*"')
        elif repository:
            parts.append(f'scope="repository:{repository}:{",".join(sorted(wanted))}"')
        if error:
            parts.append(f'error="{error}"')
        return f"Bearer {','.join(parts)}"

    def _refused(self, error: str) -> RegistryError:
        headers = {"WWW-Authenticate": self.challenge("", (), error)}
        return RegistryError("UNAUTHORIZED", "the token is not accepted", headers=headers)

    # --------------------------------------------------------------------------------------- keys

    def _key(self, head: Mapping[str, Any]) -> PublicKey:
        """The key that a token's header names; raises ValueError for one that we do not trust."""
        if chain := head.get("x5c"):
            return self._chain(chain)
        if kid := head.get("kid"):
            if (key := self._keys.get(str(kid))) is not None:
                return key
            raise ValueError("unknown key")
        if len(set(map(id, self._keys.values()))) == 1:
            return next(iter(self._keys.values()))
        raise ValueError("the token names no key")

    def _chain(self, chain: Any) -> PublicKey:
        """The leaf's key, where the chain ends at a certificate of the bundle."""
        if not isinstance(chain, list) or not 0 < len(chain) <= _CHAIN:
            raise ValueError("x5c")
        certificates = [x509.load_der_x509_certificate(base64.b64decode(each, validate=True)) for each in chain]
        now = dt.datetime.now(dt.UTC)
        for position, certificate in enumerate(certificates):
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                raise ValueError("a certificate is not valid now")
            if certificate in self._roots:
                break
            issuers = certificates[position + 1 : position + 2] or self._issuers(certificate)
            if not issuers or not _may_issue(issuers[0]):
                raise ValueError("no trusted issuer")
            try:
                certificate.verify_directly_issued_by(issuers[0])
            except Exception as error:
                raise ValueError("not signed by its issuer") from error
        return _public(certificates[0])

    def _issuers(self, certificate: x509.Certificate) -> list[x509.Certificate]:
        return [root for root in self._roots if root.subject == certificate.issuer]

    def _load_bundle(self, path: Path) -> None:
        try:
            self._roots = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"auth.token.rootcertbundle: {path}: {error}") from error
        for root in self._roots:
            key = _public(root)
            spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            self._keys[_fingerprint(spki)] = key

    def _load_jwks(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            if len(data) > _LIMIT:
                raise InvalidArgument(f"auth.token.jwks: {path}: larger than {_LIMIT} bytes")
            for each in jwt.PyJWKSet.from_dict(msgspec.json.decode(data)).keys:
                if isinstance(each.key, PublicKey):
                    self._keys[each.key_id or f"#{len(self._keys)}"] = each.key
        except (OSError, PyJWTError, msgspec.DecodeError, AttributeError) as error:
            raise InvalidArgument(f"auth.token.jwks: {path}: {error}") from error
        if not self._keys:
            raise InvalidArgument(f"auth.token.jwks: {path}: no public key in it")


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _public(certificate: x509.Certificate) -> PublicKey:
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise ValueError("a key of a kind that signs no tokens")  # noqa: TRY004
    return key


def _fingerprint(spki: bytes) -> str:
    """The key id that Docker's libtrust gives: base32 of 240 bits of SHA-256, in groups of four."""
    text = base64.b32encode(hashlib.sha256(spki).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))


def granted(access: Any) -> dict[str, frozenset[str]]:
    """`access` of a token: repository (or `registry:catalog`) -> actions. What is malformed grants nothing."""
    found: dict[str, frozenset[str]] = {}
    for entry in access[:_ENTRIES] if isinstance(access, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("actions"), list):
            continue
        kind, name = str(entry.get("type", "")).partition("(")[0], str(entry.get("name", ""))
        key = name if kind == "repository" else f"{kind}:{name}"
        found[key] = found.get(key, frozenset()) | frozenset(str(action) for action in entry["actions"])
    return found
