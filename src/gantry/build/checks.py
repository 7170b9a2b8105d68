"""`build --check`: what is wrong with a Dockerfile that builds all the same.

The first group are BuildKit's rules, with its names, words and pages; the second is advice of our own, which does not
make a check fail.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from gantry.build import instructions as ins
from gantry.build.checks_advice import advise
from gantry.build.checks_model import Finding, finding
from gantry.build.errors import DockerfileError
from gantry.build.expand import expand
from gantry.build.stages import Stage, Stages
from gantry.build.variables import Arguments

_LEGACY = re.compile(r"[A-Z]+\s+[^\s=]+\s+\S", re.IGNORECASE)
_SENSITIVE = re.compile(
    r"(?:^|_)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:$|_)", re.IGNORECASE
)
_NOT_SENSITIVE = re.compile(r"(?:^|_)public(?:_|$)", re.IGNORECASE)
_SINGLE = (ins.Cmd, ins.Entrypoint, ins.Healthcheck)
_ALWAYS_SET = frozenset({"PATH"})
_PLATFORM_ARGUMENT = re.compile(r"\$\{?(TARGETPLATFORM|BUILDPLATFORM)\}?")


class Report(msgspec.Struct, frozen=True):
    """`failing` says that the Dockerfile asks for its build to fail on findings (`# check=error=true`)."""

    findings: list[Finding]
    failing: bool = False


def check(dockerfile: ins.Dockerfile, arguments: Arguments, excluded: Callable[[str], bool] | None = None) -> Report:
    """Every finding, in the order of the file; `excluded` says what `.dockerignore` leaves out of the context."""
    stages = Stages(dockerfile, arguments)
    skipped, failing = _directive(dockerfile.directives.get("check", ""))
    found = [*_rules(dockerfile, stages, arguments, excluded), *advise(stages)]
    kept = [each for each in found if each.rule not in skipped and "all" not in skipped]
    return Report(sorted(kept, key=lambda each: (each.advice, each.start)), failing)


def _directive(text: str) -> tuple[frozenset[str], bool]:
    """`skip=RuleA,RuleB;error=true`."""
    options = dict(part.strip().partition("=")[::2] for part in text.split(";") if part.strip())
    skipped = frozenset(name.strip() for name in options.get("skip", "").split(",") if name.strip())
    return skipped, options.get("error", "").strip().lower() == "true"


def _rules(
    dockerfile: ins.Dockerfile, stages: Stages, arguments: Arguments, excluded: Callable[[str], bool] | None
) -> Iterator[Finding]:
    yield from _names(stages)
    yield from _casing(dockerfile)
    yield from _bases(stages, arguments, dockerfile.escape)
    for warning in dockerfile.warnings:
        line = _line_of(dockerfile, warning.partition(" found in: ")[2])
        yield finding("NoEmptyContinuation", "Empty continuation line", line, line)
    for stage in stages.all:
        yield from _stage(stage, stages, dockerfile.escape, excluded)


def _line_of(dockerfile: ins.Dockerfile, text: str) -> int:
    return next((each.start for each in dockerfile.instructions if each.text == text), 1)


def _casing(dockerfile: ins.Dockerfile) -> Iterator[Finding]:
    words = [(each, each.text.split(None, 1)[0]) for each in dockerfile.instructions]
    lower = sum(word.islower() for _, word in words)
    upper = sum(word.isupper() for _, word in words)
    majority = "lowercase" if lower > upper else "uppercase"
    for each, word in words:
        if word != (word.lower() if majority == "lowercase" else word.upper()):
            yield finding(
                "ConsistentInstructionCasing",
                f"Command '{word}' should match the case of the command majority ({majority})", each.start, each.end,
            )  # fmt: skip
        if isinstance(each, ins.From):
            parts = [part for part in each.text.split() if not part.startswith("--")]
            if len(parts) == 4 and (parts[2].isupper() != parts[0].isupper()):
                yield finding(
                    "FromAsCasing", f"'{parts[2]}' and '{parts[0]}' keywords' casing do not match", each.start, each.end
                )


def _names(stages: Stages) -> Iterator[Finding]:
    seen: set[str] = set()
    for stage in stages.all:
        if not stage.name:
            continue
        written = stage.head.text.split()[-1]
        if written != written.lower():
            yield finding(
                "StageNameCasing", f"Stage name '{written}' should be lowercase", stage.head.start, stage.head.end
            )
        if stage.name in seen:
            yield finding(
                "DuplicateStageName", f'Duplicate stage name "{written}", stage names should be unique',
                stage.head.start, stage.head.end,
            )  # fmt: skip
        seen.add(stage.name)


def _bases(stages: Stages, arguments: Arguments, escape: str) -> Iterator[Finding]:
    for stage in stages.all:
        head = stage.head
        for name in _unset(head.image, arguments.for_from(), escape) + _unset(
            head.platform, arguments.for_from(), escape
        ):
            near = get_close_matches(name, arguments.for_from(), 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield finding("UndefinedArgInFrom", f"FROM argument '{name}' is not declared{hint}", head.start, head.end)
        if not head.platform:
            continue
        if (used := _PLATFORM_ARGUMENT.fullmatch(head.platform)) and used[1] == "TARGETPLATFORM":
            yield finding(
                "RedundantTargetPlatform",
                f"Setting platform to predefined {head.platform} in FROM is redundant as this is the default behavior",
                head.start, head.end,
            )  # fmt: skip
        elif "$" not in head.platform:
            yield finding(
                "FromPlatformFlagConstDisallowed",
                f'FROM --platform flag should not use constant value "{head.platform}"', head.start, head.end,
            )  # fmt: skip


class _Watched(dict[str, str]):
    """Variables, and which names were asked for, without a default, that are none of them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.missing: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        if default == "" and key not in self:
            self.missing.append(key)
        return super().get(key, default)


def _unset(text: str, variables: Mapping[str, str], escape: str) -> list[str]:
    watched = _Watched(variables)
    try:
        expand(text, watched, escape)
    except DockerfileError:
        return []
    return watched.missing


def _stage(stage: Stage, stages: Stages, escape: str, excluded: Callable[[str], bool] | None) -> Iterator[Finding]:
    scope = dict.fromkeys(_ALWAYS_SET, "")
    has_shell = has_workdir = False
    singles: dict[type[ins.Instruction], ins.Instruction] = {}
    for each in stage.instructions:
        lines = each.start, each.end
        has_shell = has_shell or isinstance(each, ins.Shell)
        for kind in _SINGLE:
            if isinstance(each, kind):
                if (before := singles.get(kind)) is not None:
                    word = kind.__name__.upper()
                    yield finding(
                        "MultipleInstructionsDisallowed",
                        f"Multiple {word} instructions should not be used in the same stage "
                        "because only the last one will be used", before.start, before.end,
                    )  # fmt: skip
                singles[kind] = each
        match each:
            case ins.Maintainer():
                yield finding(
                    "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", *lines
                )
            case ins.Cmd() | ins.Entrypoint():
                if each.command.interpreted and each.command.words and not has_shell:
                    word = type(each).__name__.upper()
                    yield finding(
                        "JSONArgsRecommended",
                        f"JSON arguments recommended for {word} to prevent unintended behavior related to OS signals",
                        *lines,
                    )
            case ins.Workdir():
                # Below an absolute one, a relative path is as good.
                if not each.path.startswith(("/", "$")) and not has_workdir:
                    yield finding(
                        "WorkdirRelativePath",
                        f'Relative workdir "{each.path}" can have unexpected results if the base image changes',
                        *lines,
                    )
                has_workdir = True
            case ins.Env() | ins.Label():
                word = type(each).__name__.upper()
                if len(each.pairs) == 1 and _LEGACY.match(each.text) and "=" not in each.text.split()[1]:
                    yield finding(
                        "LegacyKeyValueFormat",
                        f'"{word} key=value" should be used instead of legacy "{word} key value" format', *lines,
                    )  # fmt: skip
            case ins.Expose():
                yield from _ports(each)
            case ins.Copy():
                yield from _ignored(each, excluded)
        yield from _secrets(each)
        yield from _variables(each, scope, stage, stages, escape)
        _declare(each, scope)


def _ports(each: ins.Expose) -> Iterator[Finding]:
    for port in each.ports:
        number, _, protocol = port.partition("/")
        if protocol != protocol.lower():
            yield finding(
                "ExposeProtoCasing", f"Defined protocol '{port}' in EXPOSE instruction should be lowercase",
                each.start, each.end,
            )  # fmt: skip
        if ":" in number:
            yield finding(
                "ExposeInvalidFormat",
                f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'",
                each.start, each.end,
            )  # fmt: skip


def _ignored(each: ins.Copy, excluded: Callable[[str], bool] | None) -> Iterator[Finding]:
    if excluded is None or each.source:
        return
    word = "Add" if isinstance(each, ins.Add) else "Copy"
    for source in each.sources:
        path = source.strip("/")
        if path and not re.search(r"[*?\[$]|://", path) and excluded(path.removeprefix("./")):
            yield finding(
                "CopyIgnoredFile", f'Attempting to {word} file "{source}" that is excluded by .dockerignore',
                each.start, each.end,
            )  # fmt: skip


def _secrets(each: ins.Instruction) -> Iterator[Finding]:
    names = [name for name, _ in each.pairs] if isinstance(each, ins.Env | ins.Arg) else []
    word = type(each).__name__.upper()
    for name in names:
        if _SENSITIVE.search(name) and not _NOT_SENSITIVE.search(name):
            yield finding(
                "SecretsUsedInArgOrEnv",
                f'Do not use ARG or ENV instructions for sensitive data ({word} "{name}")', each.start, each.end,
            )  # fmt: skip


def _variables(
    each: ins.Instruction, scope: Mapping[str, str], stage: Stage, stages: Stages, escape: str
) -> Iterator[Finding]:
    """Variables that nothing in the file sets; what a base image sets is not known here, so only likely typos count."""
    from_image = _on_image(stage, stages)
    for text in _words(each):
        for name in dict.fromkeys(_unset(text, scope, escape)):
            near = get_close_matches(name, [known for known in scope if known.isidentifier()], 1)
            if from_image and not near:
                continue
            hint = f" (did you mean ${near[0]}?)" if near else ""
            yield finding("UndefinedVar", f"Usage of undefined variable '${name}'{hint}", each.start, each.end)


def _on_image(stage: Stage, stages: Stages) -> bool:
    while stage.base_stage >= 0:
        stage = stages.all[stage.base_stage]
    return stage.base != "scratch"


def _words(each: ins.Instruction) -> list[str]:
    """The words in which variables are replaced when the step is made."""
    match each:
        case ins.Env() | ins.Label():
            return [word for pair in each.pairs for word in pair]
        case ins.Copy():
            return [*each.sources, each.destination, each.chown, each.chmod]
        case ins.User():
            return [each.user]
        case ins.Workdir():
            return [each.path]
        case ins.Expose():
            return list(each.ports)
        case ins.Volume():
            return list(each.paths)
        case ins.StopSignal():
            return [each.signal]
        case _:
            return []


def _declare(each: ins.Instruction, scope: dict[str, str]) -> None:
    if isinstance(each, ins.Env | ins.Arg):
        scope.update(dict.fromkeys((name for name, _ in each.pairs), ""))
