import subprocess
import sys
from pathlib import Path

import pytest

from gantry.cli import tree
from gantry.cli.main import load, run


def outcome(capsys: pytest.CaptureFixture[str], *words: str, program: str = "gantry") -> tuple[int, str, str]:
    status = run(program, words)
    out, err = capsys.readouterr()
    return status, out, err


class TestUsage:
    def test_unknown_flag(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert outcome(capsys, "ps", "--foo") == (
            125,
            "",
            "unknown flag: --foo\n\nUsage:  gantry ps [OPTIONS]\n\nRun 'gantry ps --help' for more information\n",
        )

    def test_the_name_it_was_called_by(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert outcome(capsys, "container", "rm", program="docker") == (
            1,
            "",
            (
                "docker: 'docker container rm' requires at least 1 argument\n\n"
                "Usage:  docker container rm [OPTIONS] CONTAINER [CONTAINER...]\n\n"
                "See 'docker container rm --help' for more information\n"
            ),
        )

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (["ps", "x"], "'gantry ps' accepts no arguments"),
            (["logs"], "'gantry logs' requires 1 argument"),
            (["rename", "x"], "'gantry rename' requires 2 arguments"),
            (["commit"], "'gantry commit' requires at least 1 and at most 2 arguments"),
            (["exec", "x"], "'gantry exec' requires at least 2 arguments"),
            (["run"], "'gantry run' requires at least 1 argument"),
        ],
    )
    def test_counts(self, capsys: pytest.CaptureFixture[str], words: list[str], problem: str) -> None:
        status, out, err = outcome(capsys, *words)
        assert (status, out) == (1, "")
        assert err.startswith(f"gantry: {problem}\n\nUsage:  gantry {words[0]} ")

    def test_unknown_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert outcome(capsys, "frobnicate") == (
            1,
            "",
            "gantry: unknown command: gantry frobnicate\n\nRun 'gantry --help' for more information\n",
        )
        status, _, err = outcome(capsys, "container", "strat")
        assert (status, err.splitlines()[0]) == (1, "gantry: unknown command: gantry container strat")
        assert "Did you mean 'gantry container start'?" in err

    def test_global_flags(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert outcome(capsys, "--foo")[0] == 125
        assert outcome(capsys, "-l", "loud", "ps") == (1, "", "Unable to parse logging level: loud\n")
        status, out, _ = outcome(capsys, "-v")
        assert (status, out.startswith("Gantry version ")) == (0, True)

    def test_an_alias_shows_its_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "Usage:  gantry container ls [OPTIONS]\n" in outcome(capsys, "container", "list", "--foo")[2]
        assert "Usage:  gantry rm [OPTIONS]" in outcome(capsys, "remove", "--foo")[2]


class TestHelp:
    def test_of_a_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = outcome(capsys, "stop", "--help")
        assert (status, err) == (0, "")
        assert out == (
            "Usage:  gantry stop [OPTIONS] CONTAINER [CONTAINER...]\n\nStop one or more running containers\n\n"
            "Aliases:\n  gantry container stop, gantry stop\n\nOptions:\n"
            "  -s, --signal string   Signal to send to the container\n"
            "  -t, --timeout int     Seconds to wait before killing the container\n"
        )

    def test_wraps_at_eighty_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = outcome(capsys, "run", "--help")[1].splitlines()
        options = lines[lines.index("Options:") + 1 :]
        assert max(map(len, options)) <= 80
        assert any(line.startswith("      --help ") for line in options)  # -h is the host name
        assert [line.split("--")[1].split()[0] for line in options if line[6:8] == "--"] == sorted(
            line.split("--")[1].split()[0] for line in options if line[6:8] == "--"
        )

    def test_of_groups_and_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = outcome(capsys, "container", "--help")
        assert (status, "\n  ls          List containers\n" in out, "list " in out) == (0, True, False)
        assert outcome(capsys, "container")[2] == out
        status, out, _ = outcome(capsys)
        assert status == 0
        for title in ("Common Commands:", "Management Commands:", "Commands:", "Global Options:"):
            assert f"\n{title}\n" in out
        assert outcome(capsys, "help", "ps")[1] == outcome(capsys, "ps", "--help")[1]
        assert outcome(capsys, "help", "nope") == (1, "", "unknown help topic: nope\n")

    def test_short_help_is_deprecated(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert outcome(capsys, "ps", "-h")[1].startswith("Flag shorthand -h has been deprecated, use --help\nUsage:")


CONTAINER_ROWS = [row for row in tree.LEAVES if row[2].startswith("container ")]


class TestTree:
    def test_no_path_twice(self) -> None:
        paths = [path.lstrip("~") for row in tree.LEAVES for path in row[2:]]
        assert len(paths) == len(set(paths))

    @pytest.mark.parametrize("row", CONTAINER_ROWS, ids=lambda row: row[2])
    def test_every_command_loads_and_names_its_flags_once(self, row: tuple[str, ...]) -> None:
        command = load(row)
        names = [flag.name for flag in command.flags]
        letters = [flag.short for flag in command.flags if flag.short]
        assert len(names) == len(set(names))
        assert len(letters) == len(set(letters))
        assert all(flag.help or flag.hidden for flag in command.flags)


class TestHotPath:
    """What a short command imports is most of what it costs."""

    @pytest.mark.parametrize("words", [["ps", "--foo"], ["run", "--foo"], ["exec", "--foo"], ["rm"]])
    def test_nothing_slow_is_imported(self, words: list[str]) -> None:
        code = (
            "import sys\nfrom gantry.cli.main import run\n"
            f"run('gantry', {words!r})\n"
            "import gantry.client.client, gantry.client.endpoints\n"
            "slow = {'re', 'enum', 'json', 'typing', 'socket', 'asyncio', 'argparse', 'dataclasses', 'subprocess',"
            " 'contextlib', 'functools', 'logging', 'msgspec', 'aiohttp', 'pathlib', 'ssl', 'threading', 'tarfile'}\n"
            "print(*sorted(slow & set(sys.modules)))\n"
        )
        source = Path(tree.__file__).resolve().parents[2]
        done = subprocess.run(
            [sys.executable, "-ISc", f"import sys\nsys.path.append({str(source)!r})\n{code}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == "", done.stderr
