import base64
import json
from pathlib import Path

import pytest

from gantry.client.auth import CredentialError, all_header, credentials, header


def entry(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_auths() -> None:
    config = {"auths": {"https://index.docker.io/v1/": entry("me:pa:ss"), "reg:5000": {"identitytoken": "T"}}}
    assert credentials(config, "docker.io") == {
        "serveraddress": "https://index.docker.io/v1/",
        "username": "me",
        "password": "pa:ss",
    }
    assert credentials(config, "reg:5000") == {"serveraddress": "reg:5000", "identitytoken": "T"}
    assert credentials(config, "other") == {}
    assert json.loads(base64.urlsafe_b64decode(header(config, "other"))) == {}
    assert set(json.loads(base64.urlsafe_b64decode(all_header(config)))) == {"https://index.docker.io/v1/", "reg:5000"}


def test_broken_entry() -> None:
    with pytest.raises(CredentialError, match="invalid auth entry"):
        credentials({"auths": {"r": {"auth": "!"}}}, "r")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            'cat >/dev/null; echo \'{"Username":"u","Secret":"s"}\'',
            {"serveraddress": "r", "username": "u", "password": "s"},
        ),
        ('echo \'{"Username":"<token>","Secret":"s"}\'', {"serveraddress": "r", "identitytoken": "s"}),
        ("echo credentials not found in native keychain; exit 1", {}),
    ],
)
def test_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: dict[str, str]) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert credentials({"credsStore": "test"}, "r") == expected
    assert credentials({"credHelpers": {"r": "test"}}, "r") == expected


def test_failing_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CredentialError, match="docker-credential-none"):
        credentials({"credsStore": "none"}, "r")
