"""What experience teaches about Dockerfiles: not wrong, and still worth changing."""

import posixpath
import re
from collections.abc import Iterator

from gantry.build import instructions as ins
from gantry.build.checks_model import Finding, advice
from gantry.build.stages import Stage, Stages

_APT_UPDATE = re.compile(r"\bapt(?:-get)?\b[^;&|]*\bupdate\b")
_APT_INSTALL = re.compile(r"\bapt(?:-get)?\b[^;&|]*\binstall\b")
_LISTS_REMOVED = re.compile(r"\brm\b[^;&|]*/var/lib/apt/lists")
_INSTALLS = re.compile(
    r"\b(?:npm (?:ci|i|install)|yarn(?: install)?|pnpm (?:i|install)|pip3? install|bundle install|composer install"
    r"|go mod download|cargo fetch|mvn [^;&|]*dependency:)"
)
_SECRET_FILES = re.compile(
    r"(?:^|/)(?:\.env(?:\.[\w-]+)?|id_(?:rsa|dsa|ecdsa|ed25519)|\.netrc|\.npmrc|\.pypirc|[^/]*\.(?:key|p12|pfx))$"
)
_SUPERVISORS = frozenset({"supervisord", "runsvdir", "s6-svscan"})


def advise(stages: Stages) -> Iterator[Finding]:
    """The findings for a whole file."""
    for stage in stages.all:
        yield from _base(stage)
        yield from _steps(stage)
    yield from _last(stages)


def _base(stage: Stage) -> Iterator[Finding]:
    if stage.base_stage >= 0 or stage.base == "scratch" or "@" in stage.base:
        return
    tag = posixpath.basename(stage.base).partition(":")[2]
    if tag in ("", "latest"):
        yield advice(
            "UnpinnedBase", f"The base image {stage.base} changes under your feet: name a version, or a digest",
            stage.head.start, stage.head.end,
        )  # fmt: skip


def _steps(stage: Stage) -> Iterator[Finding]:
    whole_context: ins.Copy | None = None
    for each in stage.instructions:
        lines = each.start, each.end
        if isinstance(each, ins.Copy):
            if not each.source and any(source.rstrip("/.") == "" for source in each.sources):
                whole_context = whole_context or each
            for source in each.sources:
                if not each.source and _SECRET_FILES.search(source):
                    yield advice(
                        "SecretsCopied", f"{source} looks like a secret: lend it with RUN --mount=type=secret", *lines
                    )
        if not isinstance(each, ins.Run):
            continue
        text = " ".join((*each.command.words, *(document.content for document in each.documents)))
        if _APT_UPDATE.search(text) and not _APT_INSTALL.search(text):
            yield advice(
                "PackageIndexAlone",
                "A package index that has a step of its own gets old in the cache: update and install together",
                *lines,
            )
        cached = any("/var/lib/apt" in mount for mount in each.mounts)
        if _APT_INSTALL.search(text) and not _LISTS_REMOVED.search(text) and not cached:
            yield advice(
                "PackageListsLeft",
                "Package lists stay in the layer: rm -rf /var/lib/apt/lists/* in the same step",
                *lines,
            )
        if whole_context is not None and _INSTALLS.search(text):
            yield advice(
                "CacheBrokenEarly",
                f"Any change of the source installs all packages again: COPY the lists of packages first, "
                f"and the rest (line {whole_context.start}) after this step", *lines,
            )  # fmt: skip
            whole_context = None


def _last(stages: Stages) -> Iterator[Finding]:
    """What concerns the image that comes out."""
    stage: Stage | None = stages.all[-1]
    user = ""
    command: ins.Cmd | ins.Entrypoint | None = None
    while stage is not None:
        for each in reversed(stage.instructions):
            if isinstance(each, ins.User) and not user:
                user = each.user
            if isinstance(each, ins.Cmd | ins.Entrypoint) and command is None:
                command = each
        stage = stages.all[stage.base_stage] if stage.base_stage >= 0 else None
    last = stages.all[-1]
    end = last.instructions[-1] if last.instructions else last.head
    if user.partition(":")[0] in ("", "0", "root"):
        yield advice("RunsAsRoot", "The container runs as root: a USER line would take that away", end.start, end.end)
    if command is not None and command.command.words:
        words = command.command.words
        text = " ".join(words)
        program = posixpath.basename(words[0].split()[0]) if words[0].split() else ""
        if program in _SUPERVISORS or (command.command.interpreted and re.search(r"[^&]&(?:\s|$)(?!&)", text)):
            yield advice(
                "SeveralServices", "Several services in one container end, log and scale together: give each its own",
                command.start, command.end,
            )  # fmt: skip
