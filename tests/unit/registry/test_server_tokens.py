"""Bearer tokens: signatures, claims and what they grant."""

import base64
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate

from gantry.registry.server.access import Access, Action
from gantry.registry.server.auth_token import TokenAuth, granted
from gantry.registry.server.config import Token
from gantry.registry.server.errors import RegistryError
from lib.certificates import Authority


class Issuer:
    def __init__(self, directory: Path, name: str) -> None:
        self.authority = Authority(directory, name)
        self.pair = self.authority.sign("issuer")
        self.key = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)

    def chain(self) -> list[str]:
        leaf = load_pem_x509_certificate(self.pair.certificate.read_bytes())
        return [base64.b64encode(leaf.public_bytes(serialization.Encoding.DER)).decode()]

    def token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        access = [{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}]
        payload = {
            "iss": "auth", "aud": "registry", "sub": "alice", "exp": now + 300, "nbf": now - 5, "access": access, **claims
        }  # fmt: skip
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, self.key, "ES256", {"x5c": self.chain()} if headers is None else headers)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path / "issuer", "issuer")


@pytest.fixture
def auth(issuer: Issuer) -> TokenAuth:
    return TokenAuth(
        Token(realm="https://auth/token", service="registry", issuer="auth", rootcertbundle=str(issuer.authority.path))
    )


async def test_a_good_token(auth: TokenAuth, issuer: Issuer) -> None:
    identity = await auth.identify(f"Bearer {issuer.token()}")
    assert identity.account == "alice"
    access = Access((), login=True)
    assert access.allows(identity, Action.PULL, "a/b")
    assert access.allows(identity, Action.PUSH, "a/b")
    assert access.allows(identity, Action.CREATE, "a/b")
    for action, name in ((Action.DELETE, "a/b"), (Action.PULL, "a"), (Action.PULL, "a/b/c"), (Action.ADMIN, "")):
        assert not access.allows(identity, action, name)
    assert (await auth.identify("")).granted is None


@pytest.mark.parametrize(
    "claims",
    [{"iss": "other"}, {"aud": "other"}, {"exp": 1}, {"exp": None}, {"nbf": int(time.time()) + 3600}, {"aud": None}],
)
async def test_wrong_claims(auth: TokenAuth, issuer: Issuer, claims: dict[str, Any]) -> None:
    with pytest.raises(RegistryError) as caught:
        await auth.identify(f"Bearer {issuer.token(**claims)}")
    assert caught.value.status == 401
    assert 'error="invalid_token"' in caught.value.headers["WWW-Authenticate"]


async def test_forged_tokens(auth: TokenAuth, issuer: Issuer, tmp_path: Path) -> None:
    stranger = Issuer(tmp_path / "stranger", "issuer")
    good = issuer.token()
    head, body, signature = good.split(".")
    payload = jwt.decode(good, options={"verify_signature": False})
    forged = [
        stranger.token(),
        stranger.token({"x5c": issuer.chain()}),
        stranger.token({"x5c": stranger.chain() + issuer.chain()}),
        stranger.token({"x5c": []}),
        stranger.token({"x5c": ["!"]}),
        stranger.token({"kid": "../../dev/null"}),
        jwt.encode(payload, None, algorithm="none"),
        jwt.encode(payload, "x" * 64, algorithm="HS256", headers={"x5c": issuer.chain()}),
        f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        "a.b.c",
        "",
    ]
    for token in forged:
        with pytest.raises(RegistryError):
            await auth.identify(f"Bearer {token}")
    with pytest.raises(RegistryError):
        await auth.identify(f"Basic {good}")


async def test_keys_of_a_jwks_file(issuer: Issuer, tmp_path: Path) -> None:
    key = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(issuer.key.public_key(), as_dict=True)
    file = tmp_path / "jwks.json"
    file.write_text(str({"keys": [{**key, "kid": "one"}]}).replace("'", '"'))
    auth = TokenAuth(Token(realm="r", service="registry", issuer="auth", jwks=str(file)))
    assert (await auth.identify(f"Bearer {issuer.token({'kid': 'one'})}")).account == "alice"
    with pytest.raises(RegistryError):
        await auth.identify(f"Bearer {issuer.token({'kid': 'two'})}")


def test_challenges(auth: TokenAuth) -> None:
    assert auth.challenge("", ()) == 'Bearer realm="https://auth/token",service="registry"'
    assert 'scope="repository:a/b:pull,push"' in auth.challenge("a/b", (Action.PUSH, Action.CREATE))
    assert 'scope="repository:a/b:pull"' in auth.challenge("a/b", (Action.PULL,))
    assert 'scope="registry:catalog:*"' in auth.challenge("registry:catalog", ())


@pytest.mark.parametrize("access", [None, {}, "x", [1], [{"type": "repository"}], [{"actions": "pull"}]])
def test_malformed_grants_give_nothing(access: Any) -> None:
    assert granted(access) == {}
