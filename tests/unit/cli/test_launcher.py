"""The program that stands at .venv/bin/gantry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gantry.cli import launcher


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("launcher") / "gantry"
    launcher.write(target)
    return target


def test_the_program_can_be_executed_and_takes_no_site(program: Path) -> None:
    assert os.access(program, os.X_OK)
    assert program.read_text().startswith(f"#!{sys.executable} -IS\n")


def test_output_is_whole_and_the_status_is_the_commands(program: Path) -> None:
    good = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("Gantry version")
    bad = subprocess.run([program, "no-such-command"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "unknown command: gantry no-such-command" in bad.stderr


def test_a_reader_that_goes_away_is_no_traceback(program: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([program, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
