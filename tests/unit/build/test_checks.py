"""`build --check`: each rule on a Dockerfile that breaks it, and on one that does not."""

import pytest

from gantry.build.checks import check
from gantry.build.parser import parse
from gantry.build.variables import Arguments
from gantry.model.platform import Platform


def found(text: str, **options: object) -> list[tuple[str, int, str]]:
    report = check(parse(text), Arguments({}, Platform.host()), **options)  # type: ignore[arg-type]
    return [(each.rule, each.start, each.detail) for each in report.findings]


def rules(text: str) -> list[str]:
    return [rule for rule, _, _ in found(text)]


CLEAN = 'FROM busybox:1.36\nWORKDIR /app\nCOPY app /app/\nUSER 1000\nCMD ["/app/run"]\n'


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("FROM a:1 AS One\n", ("StageNameCasing", 1, "Stage name 'One' should be lowercase")),
        ("FROM a:1 as one\n", ("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match")),
        ("FROM a:1 AS x\nFROM a:1 AS x\n",
         ("DuplicateStageName", 2, 'Duplicate stage name "x", stage names should be unique')),
        ("FROM a:1\nrun x\nRUN y\n", ("ConsistentInstructionCasing", 2,
         "Command 'run' should match the case of the command majority (uppercase)")),
        ("FROM a:1\nCMD x\n", ("JSONArgsRecommended", 2,
         "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals")),
        ("FROM a:1\nMAINTAINER me\n",
         ("MaintainerDeprecated", 2, "Maintainer instruction is deprecated in favor of using label")),
        ("FROM a:1$X\n", ("UndefinedArgInFrom", 1, "FROM argument 'X' is not declared")),
        ("FROM a:1\nWORKDIR x\n", ("WorkdirRelativePath", 2,
         'Relative workdir "x" can have unexpected results if the base image changes')),
        ("FROM scratch\nCOPY $nope /x\n", ("UndefinedVar", 2, "Usage of undefined variable '$nope'")),
        ("FROM a:1\nENV NAME=1\nUSER $NMAE\n",
         ("UndefinedVar", 3, "Usage of undefined variable '$NMAE' (did you mean $NAME?)")),
        ('FROM a:1\nCMD ["a"]\nCMD ["b"]\n', ("MultipleInstructionsDisallowed", 2,
         "Multiple CMD instructions should not be used in the same stage because only the last one will be used")),
        ("FROM a:1\nENV A b\n", ("LegacyKeyValueFormat", 2,
         '"ENV key=value" should be used instead of legacy "ENV key value" format')),
        ("FROM --platform=$TARGETPLATFORM a:1\n", ("RedundantTargetPlatform", 1,
         "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior")),
        ("FROM --platform=linux/amd64 a:1\n", ("FromPlatformFlagConstDisallowed", 1,
         'FROM --platform flag should not use constant value "linux/amd64"')),
        ("FROM a:1\nENV DB_PASSWORD=x\n", ("SecretsUsedInArgOrEnv", 2,
         'Do not use ARG or ENV instructions for sensitive data (ENV "DB_PASSWORD")')),
        ("FROM a:1\nEXPOSE 80/TCP\n",
         ("ExposeProtoCasing", 2, "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase")),
        ("FROM a:1\nEXPOSE 80:80\n", ("ExposeInvalidFormat", 2,
         "EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'")),
        ("FROM a:1\nRUN a \\\n\n  b\n", ("NoEmptyContinuation", 2, "Empty continuation line")),
    ],
)  # fmt: skip
def test_rules_of_buildkit(text: str, finding: tuple[str, int, str]) -> None:
    assert finding in found(text)
    assert finding[0] not in rules(CLEAN)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("FROM debian\n", "UnpinnedBase"),
        ("FROM a:1\nRUN apt-get update\nRUN apt-get install -y x\n", "PackageIndexAlone"),
        ("FROM a:1\nRUN apt-get update && apt-get install -y x\n", "PackageListsLeft"),
        ("FROM a:1\nCOPY . /app\nRUN npm ci\n", "CacheBrokenEarly"),
        ("FROM a:1\nCOPY id_rsa /root/.ssh/\n", "SecretsCopied"),
        ('FROM a:1\nCMD ["x"]\n', "RunsAsRoot"),
        ('FROM a:1\nCMD ["supervisord", "-n"]\n', "SeveralServices"),
        ("FROM a:1\nCMD a & b\n", "SeveralServices"),
    ],
)
def test_advice(text: str, rule: str) -> None:
    assert rule in rules(text)
    assert rule not in rules(CLEAN)


def test_a_clean_file_has_no_findings() -> None:
    assert found(CLEAN) == []
    assert "PackageListsLeft" not in rules("FROM a:1\nRUN apt-get install -y x && rm -rf /var/lib/apt/lists/*\n")
    assert "SeveralServices" not in rules("FROM a:1\nCMD a && b\n")


def test_what_the_file_itself_asks_for() -> None:
    assert "WorkdirRelativePath" not in rules("# check=skip=WorkdirRelativePath\nFROM a:1\nWORKDIR x\n")
    assert rules("# check=skip=all\nFROM a\nWORKDIR x\n") == []
    report = check(parse("# check=error=true\nFROM a:1\n"), Arguments({}, Platform.host()))
    assert report.failing


def test_files_that_are_ignored() -> None:
    text = "FROM a:1\nCOPY secret.txt kept.txt /x/\nADD https://h/secret.txt /y\n"
    ignored = [each for each in found(text, excluded=lambda path: path == "secret.txt") if each[0] == "CopyIgnoredFile"]
    assert ignored == [("CopyIgnoredFile", 2, 'Attempting to Copy file "secret.txt" that is excluded by .dockerignore')]
