"""From a keyword and its text to a typed instruction: what each instruction demands (Dockerfile reference)."""

import re
from collections.abc import Callable

import msgspec

from gantry.build import instructions as ins
from gantry.build.duration import parse_duration
from gantry.build.errors import DockerfileError
from gantry.build.flags import Flags
from gantry.build.instructions import Command, Heredoc, Instruction
from gantry.build.words import json_array, split_flags, split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_RESERVED = frozenset({"context", "scratch"})
_MIN_INTERVAL = 1_000_000


class Where(msgspec.Struct, frozen=True):
    text: str
    start: int
    end: int
    escape: str

    def error(self, message: str) -> DockerfileError:
        return DockerfileError(message, line=self.start)

    def plain(self, message: str) -> DockerfileError:
        return DockerfileError(f"failed to parse Dockerfile: {message}", line=self.start, numbered=False)


Rule = Callable[[str, Flags, tuple[Heredoc, ...], Where], Instruction]


def instruction(keyword: str, rest: str, documents: tuple[Heredoc, ...], where: Where) -> Instruction:
    """Raises DockerfileError for an unknown keyword and for what its rule does not accept."""
    rule = _RULES.get(keyword)
    if rule is None:
        raise where.error(f"unknown instruction: {keyword[:64]}{_suggestion(keyword)}")
    words, rest = split_flags(rest, where.escape) if keyword in _FLAGS else ([], rest)
    flags = Flags(words, _FLAGS.get(keyword, ""), where.start)
    return msgspec.structs.replace(
        rule(rest, flags, documents, where), text=where.text, start=where.start, end=where.end
    )


def _suggestion(keyword: str) -> str:
    distance, nearest = min((_distance(keyword, known), known) for known in _RULES)
    return f" (did you mean {nearest}?)" if distance < 3 else ""


def _distance(left: str, right: str) -> int:
    """Edits between two words (Levenshtein), of their first characters where one is absurdly long."""
    left = left[:32]
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def _from(rest: str, flags: Flags, _: tuple[Heredoc, ...], where: Where) -> Instruction:
    words = rest.split()
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise where.error(
                f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols'
            )
        if name in _RESERVED:
            raise where.error(f'invalid name for build stage: "{words[2]}", name is reserved')
    elif len(words) != 1:
        raise where.error("FROM requires either one or three arguments")
    return ins.From(image=words[0], name=name, platform=flags.text("platform"))


def _run(rest: str, flags: Flags, documents: tuple[Heredoc, ...], where: Where) -> Instruction:
    network = flags.text("network")
    if network not in ("", "default", "none", "host"):
        raise where.error(f'invalid network mode "{network}"')
    security = flags.text("security")
    if security not in ("", "sandbox", "insecure"):
        raise where.error(f'security "{security}" is not valid')
    return ins.Run(
        command=_command(rest, where), documents=documents, mounts=flags.many("mount"),
        network=network, security=security, devices=flags.many("device"),
    )  # fmt: skip


def _command(rest: str, where: Where) -> Command:
    words = json_array(rest, where.start)
    if words is not None:
        return Command(words, interpreted=False)
    return Command((rest,) if rest else (), interpreted=True)


def _paths(name: str, rest: str, documents: tuple[Heredoc, ...], where: Where) -> tuple[tuple[str, ...], str]:
    found = json_array(rest, where.start)
    words = list(found) if found is not None else split_words(rest, where.escape)
    if len(words) < 2:
        if len(words) == 1:
            raise where.error(
                f"{name} requires at least two arguments, but only one was provided. "
                "Destination could not be determined"
            )
        raise where.error(f"{name} requires at least two arguments")
    names = {
        f"<<{dash}{quote}{each.name}{quote}" for each in documents for dash in ("", "-") for quote in ("", "'", '"')
    }
    sources = tuple(word for word in words[:-1] if word not in names)
    return sources, words[-1]


def _copy(rest: str, flags: Flags, documents: tuple[Heredoc, ...], where: Where) -> Instruction:
    sources, destination = _paths("COPY", rest, documents, where)
    return ins.Copy(
        sources=sources, destination=destination, documents=documents, source=flags.text("from"),
        chown=flags.text("chown"), chmod=flags.text("chmod"), link=flags.boolean("link"),
        parents=flags.boolean("parents"), exclude=flags.many("exclude"),
    )  # fmt: skip


def _add(rest: str, flags: Flags, documents: tuple[Heredoc, ...], where: Where) -> Instruction:
    sources, destination = _paths("ADD", rest, documents, where)
    return ins.Add(
        sources=sources, destination=destination, documents=documents, chown=flags.text("chown"),
        chmod=flags.text("chmod"), link=flags.boolean("link"), exclude=flags.many("exclude"),
        checksum=flags.text("checksum"), keep_git_dir=flags.boolean("keep-git-dir"),
        unpack=flags.boolean("unpack") if flags.given("unpack") else None,
    )  # fmt: skip


def _pairs(name: str, rest: str, where: Where) -> tuple[tuple[str, str], ...]:
    """`a=b c="d e"`, or the older `name all the rest`; values keep their quotes."""
    words = split_words(rest, where.escape)
    if not words:
        raise where.error(f"{name} requires at least one argument")
    if "=" not in words[0]:
        parts = rest.split(None, 1)
        if len(parts) < 2:
            raise where.plain(f"{name} must have two arguments")
        return ((parts[0], parts[1].strip()),)
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise where.plain(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        if not key:
            raise where.error(f"{name} names can not be blank")
        found.append((key, value))
    return tuple(found)


def _env(rest: str, _: Flags, __: tuple[Heredoc, ...], where: Where) -> Instruction:
    return ins.Env(pairs=_pairs("ENV", rest, where))


def _label(rest: str, _: Flags, __: tuple[Heredoc, ...], where: Where) -> Instruction:
    return ins.Label(pairs=_pairs("LABEL", rest, where))


def _arg(rest: str, _: Flags, __: tuple[Heredoc, ...], where: Where) -> Instruction:
    words = split_words(rest, where.escape)
    if not words:
        raise where.error("ARG requires at least one argument")
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not key:
            raise where.error("ARG names can not be blank")
        pairs.append((key, value if equals else None))
    return ins.Arg(pairs=tuple(pairs))


def _one(name: str, rest: str, where: Where) -> str:
    if not rest:
        raise where.error(f"{name} requires exactly one argument")
    return rest


def _some(name: str, rest: str, where: Where, *, may_be_json: bool) -> tuple[str, ...]:
    found = json_array(rest, where.start) if may_be_json else None
    words = found if found is not None else tuple(rest.split())
    if not words:
        raise where.error(f"{name} requires at least one argument")
    return words


def _volume(rest: str, _: Flags, __: tuple[Heredoc, ...], where: Where) -> Instruction:
    paths = _some("VOLUME", rest, where, may_be_json=True)
    if not all(path.strip() for path in paths):
        raise where.error("VOLUME specified can not be an empty string")
    return ins.Volume(paths=paths)


def _shell(rest: str, _: Flags, __: tuple[Heredoc, ...], where: Where) -> Instruction:
    words = json_array(rest, where.start)
    if words is None:
        raise where.error("SHELL requires the arguments to be in JSON form")
    if not words:
        raise where.error("SHELL requires at least one argument")
    return ins.Shell(words=words)


def _healthcheck(rest: str, flags: Flags, __: tuple[Heredoc, ...], where: Where) -> Instruction:
    words = rest.split(None, 1)
    if not words:
        raise where.error("HEALTHCHECK requires at least one argument")
    kind, rest = words[0].upper(), words[1].strip() if len(words) > 1 else ""
    if kind == "NONE":
        if rest:
            raise where.error("HEALTHCHECK NONE takes no arguments")
        return ins.Healthcheck(test=("NONE",))
    if kind != "CMD":
        raise where.error(f'Unknown type "{kind[:64]}" in HEALTHCHECK (try CMD)')
    command = _command(rest, where)
    if not command.words:
        raise where.error("Missing command after HEALTHCHECK CMD")

    def duration(flag: str) -> int:
        value = parse_duration(flags.text(flag), where.start) if flags.text(flag) else 0
        if value < 0 or 0 < value < _MIN_INTERVAL:
            raise where.error(f'Interval "{flag}" cannot be less than 1ms')
        return value

    retries = flags.text("retries")
    if retries and (not retries.isascii() or not retries.isdigit() or not 0 < int(retries[:10]) < 1 << 31):
        raise where.error(f"--retries must be at least 1 (not {retries[:20]})")
    test = ("CMD-SHELL", command.words[0]) if command.interpreted else ("CMD", *command.words)
    return ins.Healthcheck(
        test=test, retries=int(retries[:10] or 0), interval=duration("interval"), timeout=duration("timeout"),
        start_period=duration("start-period"), start_interval=duration("start-interval"),
    )  # fmt: skip


def _onbuild(rest: str, _: Flags, documents: tuple[Heredoc, ...], where: Where) -> Instruction:
    words = rest.split(None, 1)
    if not words:
        raise where.error("ONBUILD requires at least one argument")
    keyword = words[0].upper()
    if keyword == "ONBUILD":
        raise where.error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("FROM", "MAINTAINER"):
        raise where.error(f"{keyword} isn't allowed as an ONBUILD trigger")
    instruction(keyword, words[1] if len(words) > 1 else "", documents, where)
    bodies = "".join(f"\n{each.content}{each.name}" for each in documents)
    return ins.Onbuild(trigger=rest + bodies)


_RULES: dict[str, Rule] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": lambda rest, _, __, where: ins.Cmd(command=_command(rest, where)),
    "COPY": _copy,
    "ENTRYPOINT": lambda rest, _, __, where: ins.Entrypoint(command=_command(rest, where)),
    "ENV": _env,
    "EXPOSE": lambda rest, _, __, where: ins.Expose(ports=_some("EXPOSE", rest, where, may_be_json=False)),
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": lambda rest, _, __, where: ins.Maintainer(name=_one("MAINTAINER", rest, where)),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda rest, _, __, where: ins.StopSignal(signal=_one("STOPSIGNAL", rest, where)),
    "USER": lambda rest, _, __, where: ins.User(user=_one("USER", rest, where)),
    "VOLUME": _volume,
    "WORKDIR": lambda rest, _, __, where: ins.Workdir(path=_one("WORKDIR", rest, where)),
}

# Each instruction's flags; `*` marks those that may come several times, `?` those that need no value.
_FLAGS: dict[str, str] = {
    "ADD": "chown chmod link? exclude* checksum keep-git-dir? unpack?",
    "COPY": "from chown chmod link? parents? exclude*",
    "FROM": "platform",
    "HEALTHCHECK": "interval timeout start-period start-interval retries",
    "RUN": "mount* network security device*",
}
