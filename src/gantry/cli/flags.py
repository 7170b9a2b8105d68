"""Flags with the exact semantics of Go's pflag, as Docker's command line uses it.

A command lists its flags with the constructors below (`boolean("all", "a", "...")`, `string(...)`, ...);
`parse` turns words into `Arguments`. Long flags take `--name value` or `--name=value`; boolean ones take a value
only by `=`; short ones cluster (`-itd`, `-p8080:80`, `-p=80`); `--` ends the flags, and where a command is not
interspersed so does the first positional word.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class FlagError(Exception):
    """The words do not fit the flags; the text is pflag's."""


class HelpWanted(Exception):
    """`--help` or `-h` was given; `deprecated` for the latter."""

    def __init__(self, *, deprecated: bool) -> None:
        super().__init__()
        self.deprecated = deprecated


class Flag:
    """One flag: `convert` turns its text into a value (ValueError says what is wrong with it).

    `repeats` collects values in a list; `convert` of a splitting flag (stringSlice) gives a list to extend by.
    `metavar` is the type's name in help, "" for booleans; `shown` is the default as help prints it.
    """

    __slots__ = (
        "bare",
        "convert",
        "default",
        "help",
        "hidden",
        "metavar",
        "name",
        "repeats",
        "short",
        "shown",
        "splits",
    )

    def __init__(
        self,
        name: str,
        short: str,
        help: str,  # noqa: A002
        convert: Callable[[str], Any],
        *,
        metavar: str,
        default: Any = None,
        repeats: bool = False,
        splits: bool = False,
        bare: str = "",
        shown: str = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.help = help
        self.convert = convert
        self.metavar = metavar
        self.default = default
        self.repeats = repeats
        self.splits = splits
        self.bare = bare
        self.shown = shown
        self.hidden = hidden


# ---------------------------------------------------------------------------------- converters


def to_bool(text: str) -> bool:
    """strconv.ParseBool."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def _go_int(text: str, function: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") and function == "ParseInt" else text
    if digits[:1].isdigit() and digits.isascii():
        octal = len(digits) > 1 and digits[0] == "0" and (digits[1].isdigit() or digits[1] == "_")
        try:
            value = int("0o" + digits[1:] if octal else digits, 0)
        except ValueError:
            value = -1
        if value >= 0:
            return -value if text[0] == "-" else value
    raise ValueError(f"strconv.{function}: parsing {quote(text)}: invalid syntax")


def to_int(text: str) -> int:
    """strconv.ParseInt(text, 0, 64)."""
    value = _go_int(text, "ParseInt")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def to_uint(bits: int) -> Callable[[str], int]:
    """strconv.ParseUint(text, 0, bits)."""

    def convert(text: str) -> int:
        value = _go_int(text, "ParseUint")
        if value >= 1 << bits:
            raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
        return value

    return convert


def to_text(text: str) -> str:
    return text


def to_fields(text: str) -> list[str]:
    """One line of comma separated values, with Go's encoding/csv quoting."""
    if '"' not in text:
        return text.split(",") if text else []
    return csv_fields(text)


def csv_fields(text: str) -> list[str]:
    """Fields of one CSV record; a field in double quotes may hold commas, doubled quotes stand for one."""
    fields: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            value = ""
            at += 1
            while True:
                end = text.find('"', at)
                if end < 0:
                    column = len(text.encode()) + 1
                    raise ValueError(f'parse error on line 1, column {column}: extraneous or missing " in quoted-field')
                value += text[at:end]
                at = end + 1
                if not text.startswith('"', at):
                    break
                value += '"'
                at += 1
            if at < len(text) and text[at] != ",":
                raise ValueError(
                    f'parse error on line 1, column {len(text[:at].encode())}: extraneous or missing " in quoted-field'
                )
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            value = text[at:end]
            if '"' in value:
                column = len(text[: at + value.index('"')].encode()) + 1
                raise ValueError(f'parse error on line 1, column {column}: bare " in non-quoted-field')
            at = end
        fields.append(value)
        if at >= len(text):
            return fields
        at += 1


def quote(text: str) -> str:
    """Go's %q."""
    out = ['"']
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        elif char in "\n\t\r\a\b\f\v":
            out.append("\\" + "ntrabfv"["\n\t\r\a\b\f\v".index(char)])
        elif "\udc80" <= char <= "\udcff":
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        elif char < "\x80":
            out.append(f"\\x{ord(char):02x}")
        elif char <= "\uffff":
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    out.append('"')
    return "".join(out)


# -------------------------------------------------------------------------------- constructors


def boolean(name: str, short: str = "", help: str = "", *, default: bool = False, hidden: bool = False) -> Flag:  # noqa: A002
    return Flag(
        name,
        short,
        help,
        to_bool,
        metavar="",
        default=default,
        bare="true",
        shown="true" if default else "",
        hidden=hidden,
    )


def string(
    name: str,
    short: str = "",
    help: str = "",  # noqa: A002
    *,
    default: str = "",
    metavar: str = "string",
    hidden: bool = False,
) -> Flag:
    shown = quote(default) if default else ""
    return Flag(name, short, help, to_text, metavar=metavar, default=default, shown=shown, hidden=hidden)


def strings(
    name: str,
    short: str = "",
    help: str = "",  # noqa: A002
    *,
    check: Callable[[str], str] = to_text,
    metavar: str = "list",
    hidden: bool = False,
) -> Flag:
    """A repeatable flag that takes each text whole (opts.ListOpts, stringArray); `check` may refuse or rewrite it."""
    return Flag(name, short, help, check, metavar=metavar, default=[], repeats=True, hidden=hidden)


def string_slice(name: str, short: str = "", help: str = "", *, hidden: bool = False) -> Flag:  # noqa: A002
    """A repeatable flag whose text is split at commas (stringSlice)."""
    return Flag(name, short, help, to_fields, metavar="strings", default=[], repeats=True, splits=True, hidden=hidden)


def integer(name: str, short: str = "", help: str = "", *, default: int = 0, hidden: bool = False) -> Flag:  # noqa: A002
    shown = str(default) if default else ""
    return Flag(name, short, help, to_int, metavar="int", default=default, shown=shown, hidden=hidden)


def unsigned(name: str, short: str = "", help: str = "", *, bits: int = 64, metavar: str = "uint") -> Flag:  # noqa: A002
    return Flag(name, short, help, to_uint(bits), metavar=metavar, default=0)


def value(
    name: str,
    short: str,
    help: str,  # noqa: A002
    convert: Callable[[str], Any],
    *,
    metavar: str,
    default: Any = None,
    repeats: bool = False,
    shown: str = "",
    hidden: bool = False,
) -> Flag:
    """A flag of a type of its own."""
    return Flag(
        name, short, help, convert, metavar=metavar, default=default, repeats=repeats, shown=shown, hidden=hidden
    )


# ------------------------------------------------------------------------------------- parsing


class Arguments:
    """What was given: values by flag name, which of them were set, and the positional words."""

    __slots__ = ("changed", "dash", "positional", "values")

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.changed: set[str] = set()
        self.positional: list[str] = []
        self.dash = -1
        """How many positional words stood before `--`, -1 where there was none."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def boolean(self, name: str) -> bool:
        return self.values[name] is True

    def string(self, name: str) -> str:
        return str(self.values[name])

    def strings(self, name: str) -> list[str]:
        return list(self.values[name])

    def integer(self, name: str) -> int:
        return int(self.values[name])


def parse(flags: Sequence[Flag], words: Sequence[str], *, interspersed: bool = True) -> Arguments:
    """Raises FlagError, or HelpWanted."""
    long = {flag.name: flag for flag in flags}
    arguments = Arguments({flag.name: flag.default for flag in flags})
    short: dict[str, Flag] | None = None
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if len(word) < 2 or word[0] != "-":
            if not interspersed:
                arguments.positional.extend(words[at - 1 :])
                return arguments
            arguments.positional.append(word)
        elif word == "--":
            arguments.dash = len(arguments.positional)
            arguments.positional.extend(words[at:])
            return arguments
        elif word[1] == "-":
            at = _long(long, word, words, at, arguments)
        else:
            if short is None:
                short = {flag.short: flag for flag in flags if flag.short}
            at = _cluster(short, word[1:], words, at, arguments)
    return arguments


def _long(flags: dict[str, Flag], word: str, words: Sequence[str], at: int, arguments: Arguments) -> int:
    name, equals, text = word[2:].partition("=")
    if not name or name[0] == "-":
        raise FlagError(f"bad flag syntax: {word}")
    flag = flags.get(name)
    if flag is None:
        if name == "help":
            raise HelpWanted(deprecated=False)
        raise FlagError(f"unknown flag: --{name}")
    if not equals:
        if flag.bare:
            text = flag.bare
        elif at < len(words):
            text = words[at]
            at += 1
        else:
            raise FlagError(f"flag needs an argument: {word}")
    _set(flag, text, arguments)
    return at


def _cluster(flags: dict[str, Flag], letters: str, words: Sequence[str], at: int, arguments: Arguments) -> int:
    while letters:
        letter = letters[0]
        flag = flags.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpWanted(deprecated=True)
            raise FlagError(f"unknown shorthand flag: {quote_rune(letter)} in -{letters}")
        if len(letters) > 2 and letters[1] == "=":
            text, letters = letters[2:], ""
        elif flag.bare:
            text, letters = flag.bare, letters[1:]
        elif len(letters) > 1:
            text, letters = letters[1:], ""
        elif at < len(words):
            text, letters = words[at], ""
            at += 1
        else:
            raise FlagError(f"flag needs an argument: {quote_rune(letter)} in -{letters}")
        _set(flag, text, arguments)
    return at


def quote_rune(char: str) -> str:
    """Go's %q of a rune."""
    if char == "'":
        return "'\\''"
    return "'" + ('"' if char == '"' else quote(char)[1:-1]) + "'"


def _set(flag: Flag, text: str, arguments: Arguments) -> None:
    try:
        converted = flag.convert(text)
    except ValueError as error:
        shown = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
        raise FlagError(f'invalid argument {quote(text)} for "{shown}" flag: {error}') from error
    name = flag.name
    if not flag.repeats:
        arguments.values[name] = converted
    else:
        if name not in arguments.changed:
            arguments.values[name] = []
        if flag.splits:
            arguments.values[name].extend(converted)
        else:
            arguments.values[name].append(converted)
    arguments.changed.add(name)
