"""Runs the command line in this process against a scripted daemon."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gantry.cli import main
from gantry.cli.command import Context
from lib.fake_api import FakeAPI

Gantry = Callable[..., tuple[int, str, str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeAPI]:
    made = FakeAPI(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gantry(
    daemon: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Gantry:
    """`gantry("image", "ls")` -> exit status, standard output, standard error."""
    for name in ("DOCKER_CONTEXT", "DOCKER_DEFAULT_PLATFORM", "DOCKER_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", daemon.url)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("GANTRY_AUTOSTART", "0")
    monkeypatch.setenv("TZ", "UTC")

    made: list[Context] = []

    class Kept(Context):
        """A command ends with its process, and its connections with it; here they are closed."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(main, "Context", Kept)

    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = main.run("gantry", words)
        finally:
            while made:
                if (client := made.pop()._client) is not None:
                    client.close()
        out, err = capfd.readouterr()
        return status, out, err

    return call
