"""Where credentials are kept: never in plain text where a helper is installed."""

import base64
import json
import os
from pathlib import Path

import pytest

from gantry.cli.login_store import erase, store
from gantry.client.auth import credentials
from gantry.client.config import load

AUTH = {"username": "me", "password": "secret", "serveraddress": "r.test"}
HELPER = """#!/bin/sh
file=$(dirname "$0")/kept
case $1 in
store) cat >"$file" ;;
get) read -r key; [ -e "$file" ] && cat "$file" || { echo credentials not found in native keychain; exit 1; } ;;
erase) rm -f "$file" ;;
esac
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The desktop's helper on PATH, with nothing but the shell's own tools beside it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "docker-credential-secretservice"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setattr("shutil.which", lambda name: str(program) if name == program.name else None)
    return directory


def test_an_installed_helper_keeps_them(tmp_path: Path, helper: Path) -> None:
    place = str(tmp_path / "config")
    assert not store(place, {}, "r.test", AUTH)
    kept = load(place)
    assert kept == {"credsStore": "secretservice", "auths": {"r.test": {}}}
    assert json.loads((helper / "kept").read_text()) == {"ServerURL": "r.test", "Username": "me", "Secret": "secret"}
    assert credentials(kept, "r.test") == {"serveraddress": "r.test", "username": "me", "password": "secret"}
    erase(place, kept, ("r.test",))
    assert credentials(load(place), "r.test") == {}


def test_without_one_there_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    place = str(tmp_path / "config")
    assert "stored unencrypted" in store(place, {}, "r.test", AUTH)
    assert base64.b64decode(load(place)["auths"]["r.test"]["auth"]) == b"me:secret"
    assert (tmp_path / "config/config.json").stat().st_mode & 0o777 == 0o600


def test_plain_text_that_is_there_already_goes_on(tmp_path: Path, helper: Path) -> None:
    place = str(tmp_path / "config")
    config = {"auths": {"other.test": {"auth": "eDp5"}}}
    assert "stored unencrypted" in store(place, config, "r.test", AUTH)
    assert not (helper / "kept").exists()


def test_an_identity_token_takes_the_passwords_place(tmp_path: Path, helper: Path) -> None:
    place = str(tmp_path / "config")
    store(place, {"credsStore": "secretservice"}, "r.test", {**AUTH, "identitytoken": "t"})
    assert json.loads((helper / "kept").read_text())["Username"] == "<token>"
    assert credentials(load(place), "r.test") == {"serveraddress": "r.test", "identitytoken": "t"}
