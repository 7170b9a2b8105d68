"""Every command and flag of Docker's command line, held against ours."""

from collections.abc import Iterator
from typing import Any

from gantry.cli import tree
from gantry.cli.command import Command
from gantry.cli.flags import Flag
from gantry.cli.main import GLOBAL_FLAGS, load
from lib import reference

# What help calls a type (pflag's names, as `docker run --help` prints them).
_METAVARS = {"bool": "", "int64": "int", "uint64": "int", "stringSlice": "strings"}
_ZERO = (None, False, 0, "", "0s", [], {})
# Defaults that depend on where the user's home is.
_AT_HOME = {"config", "tlscacert", "tlscert", "tlskey"}
_HELP = "help"  # `main` answers it before any command is looked up


def test_commands_and_flags() -> None:
    reference.compare("cli", missing())


def test_a_difference_is_found() -> None:
    told: dict[str, Any] = {"name": "size", "short": "s", "type": "bool", "default": False}
    assert list(flag_differences("x", told, None)) == ["x --size"]
    ours = Flag("size", "", "", str, metavar="string", default="1", hidden=True)
    assert list(flag_differences("x", told, ours)) == [
        "x --size: shorthand", "x --size: type", "x --size: default", "x --size: hidden",
    ]  # fmt: skip
    command = Command(lambda *_: None, "", least=1, interspersed=False)
    told = {"path": "docker x", "usage": "docker x [OPTIONS]", "args": {"min": 0, "max": None}}
    assert list(command_differences("x", told, command, hidden=True)) == [
        "x: usage", "x: number of arguments", "x: order of flags", "x: hidden",
    ]  # fmt: skip


def missing() -> Iterator[str]:
    """By name: commands that are not there, and each respect in which one of ours differs."""
    absent: list[str] = []
    for told in reference.load("docker-cli")["commands"]:
        path = told["path"].removeprefix("docker").strip()
        if told["component"] != "core" or path == _HELP or any(path.startswith(f"{group} ") for group in absent):
            continue
        if told["kind"] == "group":
            if not path:
                yield from flags_differences(path, told, GLOBAL_FLAGS)
            elif path not in tree.GROUPS:
                absent.append(path)
                yield path
            continue
        for name in (path, *(alias.removeprefix("docker ") for alias in told["aliases"])):
            if tree.find(name) is None:
                yield name
        if (row := tree.find(path)) is not None:
            command = load(row)
            yield from command_differences(path, told, command, hidden=row[1][0] == "~")
            yield from flags_differences(path, told, command.flags)


def command_differences(path: str, told: dict[str, Any], command: Command, *, hidden: bool) -> Iterator[str]:
    name = told["path"]
    forms = [told["usage"], *told.get("usage_alternatives", ())]
    ours = [line.strip().replace("gantry ", "docker ") for line in command.usage.splitlines()]
    if [f"{name} {ours[0]}" if ours else name, *ours[1:]] != forms:
        yield f"{path}: usage"
    if (command.least, command.most) != (told["args"]["min"], told["args"]["max"]):
        yield f"{path}: number of arguments"
    if command.interspersed == told.get("options_must_precede_positionals", False):
        yield f"{path}: order of flags"
    if hidden != told.get("hidden", False):
        yield f"{path}: hidden"


def flags_differences(path: str, told: dict[str, Any], flags: tuple[Flag, ...] | Any) -> Iterator[str]:
    ours = {flag.name: flag for flag in flags}
    for flag in told["flags"]:
        yield from flag_differences(path, flag, ours.get(flag["name"]))


def flag_differences(path: str, told: dict[str, Any], ours: Flag | None) -> Iterator[str]:
    name = f"{path} --{told['name']}".strip()
    if ours is None:
        yield name
        return
    newest = told | told.get("changed_in", {}).get("29.7.2", {})
    if (told["short"] or "") != ours.short:
        yield f"{name}: shorthand"
    wanted = told.get("metavar") or _METAVARS.get(told["type"], told["type"])
    if wanted != ours.metavar and _METAVARS.get(newest["type"], newest["type"]) != ours.metavar:
        yield f"{name}: type"
    if not (path == "" and told["name"] in _AT_HOME) and not same_default(told["default"], ours.default):
        yield f"{name}: default"
    # A daemon of another system, a swarm or an experimental daemon would show these: ours is none of them.
    conditional = any(told.get(key) for key in ("swarm", "experimental_daemon")) or told.get("ostype") == "windows"
    if ours.hidden not in (told.get("hidden", False), newest.get("hidden", False), conditional):
        yield f"{name}: hidden"


def same_default(told: Any, ours: Any) -> bool:
    return told == ours or (told in _ZERO and ours in _ZERO)
