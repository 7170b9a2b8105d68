"""The daemon's command line, read as Go's pflag reads it for dockerd."""

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple

from gantry.daemon.options import BY_FLAG, BY_SHORT, OPTIONS, Kind, Option
from gantry.errors import InvalidArgument

USAGE = "Usage:  gantryd [OPTIONS]"

_TRUE, _FALSE = (
    frozenset({"1", "t", "T", "true", "TRUE", "True"}),
    frozenset({"0", "f", "F", "false", "FALSE", "False"}),
)
_OWN = {
    "config-file": Option("", "config-file", Kind.STRING, "Configuration file of the daemon"),
    "validate": Option("", "validate", Kind.BOOL, "Check the configuration and exit"),
    "version": Option("", "version", Kind.BOOL, "Print version information and quit", "v"),
    "help": Option("", "help", Kind.BOOL, "Print usage", "h"),
}
_OWN_SHORT = {option.short: option for option in _OWN.values() if option.short}
_RESERVED_RUNTIMES = frozenset({"runc", "io.containerd.runc.v2"})


class CommandLine(NamedTuple):
    """`values` are the options that were given, by daemon.json key."""

    values: dict[str, Any]
    config_file: str = ""
    validate: bool = False
    version: bool = False
    help: bool = False


def parse(arguments: Sequence[str]) -> CommandLine:
    """Raises InvalidArgument with pflag's words."""
    values: dict[str, Any] = {}
    own: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            option = BY_FLAG.get(name) or _OWN.get(name)
            if option is None:
                raise InvalidArgument(f"unknown flag: --{name}")
            _set(values, own, option, _value(option, value if equals else None, rest, f"--{name}"))
        elif argument.startswith("-") and argument not in ("-", "--"):
            _short(argument, rest, values, own)
        elif argument == "--" and not rest:
            break
        else:
            raise InvalidArgument('"gantryd" accepts no arguments.')
    return CommandLine(
        values,
        own.get("config-file", ""),
        own.get("validate", False),
        own.get("version", False),
        own.get("help", False),
    )


def _short(argument: str, rest: list[str], values: dict[str, Any], own: dict[str, Any]) -> None:
    letters = argument[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = BY_SHORT.get(letter) or _OWN_SHORT.get(letter)
        if option is None:
            raise InvalidArgument(f"unknown shorthand flag: '{letter}' in {argument}")
        given: str | None = None
        if letters.startswith("=") or (letters and option.kind is not Kind.BOOL):
            given, letters = letters.removeprefix("="), ""
        _set(values, own, option, _value(option, given, rest, f"'{letter}' in -{letter}"))


def _value(option: Option, given: str | None, rest: list[str], shown: str) -> str:
    if given is not None:
        return given
    if option.kind is Kind.BOOL:
        return "true"
    if not rest:
        raise InvalidArgument(f"flag needs an argument: {shown}")
    return rest.pop(0)


def _set(values: dict[str, Any], own: dict[str, Any], option: Option, text: str) -> None:
    try:
        if not option.key:
            own[option.flag] = _scalar(option.kind, text)
        elif option.kind in (Kind.BOOL, Kind.STRING, Kind.INT, Kind.BYTES):
            values[option.key] = _scalar(option.kind, text)
        elif option.kind in (Kind.LIST, Kind.POOL):
            values.setdefault(option.key, []).append(_item(option, text))
        else:
            _into(values.setdefault(option.key, {}), option.kind, text)
    except InvalidArgument as error:
        flag = f"-{option.short}, --{option.flag}" if option.short else f"--{option.flag}"
        raise InvalidArgument(f'invalid argument "{text}" for "{flag}" flag: {error.message}') from error


def _scalar(kind: Kind, text: str) -> bool | int | str:
    if kind is Kind.BOOL:
        if text not in _TRUE | _FALSE:
            raise InvalidArgument(f'strconv.ParseBool: parsing "{text}": invalid syntax')
        return text in _TRUE
    return _integer(text) if kind is Kind.INT else text


def _integer(text: str) -> int:
    digits = text[1:] if text[:1] in "+-" else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise InvalidArgument(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _item(option: Option, text: str) -> Any:
    if option.kind is Kind.POOL:
        return _pool(text)
    if option.key == "labels" and not text.partition("=")[2]:
        raise InvalidArgument(f"bad attribute format: {text}")
    if option.key in ("dns", "host-gateway-ips"):
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise InvalidArgument(f"{text} is not an ip address") from None
    return text


def _pool(text: str) -> dict[str, Any]:
    pool: dict[str, Any] = {}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        if key not in ("base", "size"):
            raise InvalidArgument(f"unexpected key '{key}' in '{field}'")
        pool[key] = _integer(value) if key == "size" else value
    return pool


def _into(target: dict[str, Any], kind: Kind, text: str) -> None:
    name, equals, value = text.partition("=")
    if kind is Kind.RUNTIME:
        if not (name and value):
            raise InvalidArgument(f"invalid runtime argument: {text}")
        if name in _RESERVED_RUNTIMES:
            raise InvalidArgument(f"runtime name '{name}' is reserved")
        if name in target:
            raise InvalidArgument(f"runtime '{name}' was already defined")
        target[name.lower()] = {"path": value}
    elif kind is Kind.ULIMIT:
        if not equals:
            raise InvalidArgument(f"invalid ulimit argument: {text}")
        soft, _, hard = value.partition(":")
        target[name] = {"Name": name, "Soft": _integer(soft), "Hard": _integer(hard or soft)}
        if target[name]["Soft"] > target[name]["Hard"] >= 0:
            raise InvalidArgument(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    elif kind is Kind.NESTED:
        option, _, setting = value.partition("=")
        if not (option and setting):
            raise InvalidArgument(f"invalid network option argument: {text}")
        target.setdefault(name, {})[option] = setting
    else:
        target[name] = value


def help_text() -> str:
    """`gantryd --help`."""
    rows = []
    for option in sorted([*OPTIONS, *_OWN.values()], key=lambda option: option.flag):
        if option.flag:
            short = f"-{option.short}, " if option.short else "    "
            rows.append((f"  {short}--{option.flag} {option.kind.value}", option.help))
    width = max(len(left) for left, _ in rows) + 2
    return "\n".join(
        [
            "",
            USAGE,
            "",
            "The Gantry container daemon.",
            "",
            "Options:",
            *(f"{left:{width}}{text}" for left, text in rows),
        ]
    )
