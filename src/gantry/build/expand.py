"""Variables and quotes in a Dockerfile's words, as its reference describes them ("Environment replacement")."""

import re
from collections.abc import Mapping

from gantry.build.errors import DockerfileError

_SPECIAL = frozenset("@*#?-$!0")
_NAME = re.compile(r"[0-9]+|[A-Za-z_][A-Za-z0-9_]*")
_DEPTH = 64  # of nested ${a:-${b:-…}}


class _Problem(Exception):
    """What is wrong inside a word."""


def expand(word: str, variables: Mapping[str, str], escape: str = "\\", line: int = 0) -> str:
    """Expand variables and remove quotes; raises DockerfileError."""
    try:
        return "".join(_Lexer(word, variables, escape).words(split=False))
    except _Problem as problem:
        raise DockerfileError(f'failed to process "{word}": {problem}', line=line, numbered=False) from None


def expand_words(word: str, variables: Mapping[str, str], escape: str = "\\", line: int = 0) -> list[str]:
    """Like `expand`, with the result split at white space outside of quotes."""
    try:
        return _Lexer(word, variables, escape).words(split=True)
    except _Problem as problem:
        raise DockerfileError(f'failed to process "{word}": {problem}', line=line, numbered=False) from None


def expand_text(text: str, variables: Mapping[str, str], escape: str = "\\", line: int = 0) -> str:
    """Expand variables in a here-document: quotes stay, an escaped `$` is literal."""
    try:
        return "".join(_Lexer(text, variables, escape, raw_quotes=True).words(split=False))
    except _Problem as problem:
        raise DockerfileError(f'failed to process "{text}": {problem}', line=line, numbered=False) from None


class _Lexer:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, *, raw_quotes: bool = False) -> None:
        self._text = text
        self._at = 0
        self._variables = variables
        self._escape = escape
        self._raw_quotes = raw_quotes
        self._depth = 0

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._text[self._at : self._at + 1]
        self._at += 1
        return char

    def words(self, *, split: bool) -> list[str]:
        found: list[str] = []
        current = ""
        started = False
        while char := self._peek():
            if char in "'\"" and not self._raw_quotes:
                current += self._single() if char == "'" else self._double()
                started = True
            elif char == "$":
                value = self._dollar()
                if split:
                    pieces = re.split(r"[ \t\r\n\v\f]+", value)
                    for piece in pieces[:-1]:
                        current += piece
                        if current or started:
                            found.append(current)
                        current, started = "", False
                    current += pieces[-1]
                else:
                    current += value
            elif char == self._escape:
                current += self._escaped()
                started = True
            elif split and char.isspace():
                self._next()
                if current or started:
                    found.append(current)
                current, started = "", False
            else:
                current += self._next()
        if current or started or not split:
            found.append(current)
        return found

    def _escaped(self) -> str:
        self._next()
        char = self._next()
        if self._raw_quotes and char not in ("$", self._escape):
            return self._escape + char
        return char

    def _single(self) -> str:
        self._next()
        end = self._text.find("'", self._at)
        if end < 0:
            raise _Problem("unexpected end of statement while looking for matching single-quote")
        inside = self._text[self._at : end]
        self._at = end + 1
        return inside

    def _double(self) -> str:
        self._next()
        found = ""
        while True:
            char = self._peek()
            if not char:
                raise _Problem("unexpected end of statement while looking for matching double-quote")
            if char == '"':
                self._next()
                return found
            if char == "$":
                found += self._dollar()
                continue
            self._next()
            if char == self._escape:
                following = self._peek()
                if not following:
                    raise _Problem("unexpected end of statement while looking for matching double-quote")
                self._next()
                found += following if following in ('"', "$", self._escape) else char + following
            else:
                found += char

    def _dollar(self) -> str:
        self._next()
        if self._peek() != "{":
            name = self._name()
            return self._variables.get(name, "") if name else "$"
        self._next()
        if self._peek() in ("", "}", ":"):
            rest = self._text[self._at : self._at + 1]
            raise _Problem("syntax error: missing '}'" if not rest else f"${{{rest}: bad substitution")
        name = self._name()
        char = self._next()
        if char == "}":
            return self._variables.get(name, "")
        if not char:
            raise _Problem("syntax error: missing '}'")
        return self._modified(name, char)

    def _modified(self, name: str, char: str) -> str:
        value = self._variables.get(name)
        colon = char == ":"
        if colon:
            char = self._next()
        if char in ("+", "-", "?") and char:
            word = self._until("}")
            absent = value is None or (colon and not value)
            if char == "+":
                return "" if absent else word
            if not absent:
                return value or ""
            if char == "-":
                return word
            reason = word or ("is not allowed to be empty" if colon else "is not allowed to be unset")
            raise _Problem(f"{name}: {reason}")
        if colon or char not in ("#", "%", "/"):
            where = f" in substitution: ${{{name}:{char}" if colon else f" in substitution: ${{{name}{char}"
            raise _Problem(f"unsupported modifier ({char}){where}")
        longest = self._peek() == char
        if longest:
            self._next()
        if char == "/":
            pattern = _tokens(self._until("/"), self._escape)
            return _replaced(value or "", pattern, self._until("}"), everywhere=longest)
        pattern = _tokens(self._until("}"), self._escape)
        if char == "#":
            ends = _ends(pattern, value or "")
            return (value or "")[(max if longest else min)(ends) :] if ends else value or ""
        ends = _ends(pattern[::-1], (value or "")[::-1])
        cut = (max if longest else min)(ends) if ends else 0
        return (value or "")[: len(value or "") - cut]

    def _until(self, stop: str) -> str:
        """What follows, expanded, up to `stop`, which is consumed."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise _Problem("substitutions are nested too deeply")
        found = ""
        while char := self._peek():
            if char == stop:
                self._next()
                self._depth -= 1
                return found
            if char == "'":
                found += self._single()
            elif char == '"':
                found += self._double()
            elif char == "$":
                found += self._dollar()
            elif char == self._escape:
                self._next()
                following = self._next()
                # A pattern keeps its escapes; elsewhere they only protect one character.
                found += following if stop == "}" or following == stop else char + following
            else:
                found += self._next()
        raise _Problem(f"syntax error: missing '{stop}'")

    def _name(self) -> str:
        if match := _NAME.match(self._text, self._at):
            self._at = match.end()
            return match.group()
        if self._peek() and self._peek() in _SPECIAL:
            return self._next()
        return ""


_ANY, _ONE = "*", "?"
_WORK = 10_000_000  # steps that one replacement may take
Token = tuple[str, str]


def _tokens(text: str, escape: str) -> list[Token]:
    """A shell pattern as (kind, character): `*`, `?` and literal characters ("")."""
    found: list[Token] = []
    characters = iter(text)
    for char in characters:
        if char == escape:
            found.append(("", next(characters, char)))
        elif char in (_ANY, _ONE):
            if (char, "") != (_ANY, "") or found[-1:] != [(_ANY, "")]:
                found.append((char, ""))
        else:
            found.append(("", char))
    return found


def _ends(pattern: list[Token], value: str, start: int = 0) -> set[int]:
    """Where matches of `pattern` that begin at `start` can end."""
    places = {start}
    for kind, char in pattern:
        if kind == _ANY:
            places = set(range(min(places), len(value) + 1))
        else:
            places = {at + 1 for at in places if at < len(value) and (kind == _ONE or value[at] == char)}
        if not places:
            break
    return places


def _replaced(value: str, pattern: list[Token], replacement: str, *, everywhere: bool) -> str:
    if not pattern:
        return value
    if all(not kind for kind, _ in pattern):
        return value.replace("".join(char for _, char in pattern), replacement, -1 if everywhere else 1)
    if len(value) * len(value) * len(pattern) > _WORK:
        raise _Problem("the pattern of a replacement is too long for its value")
    found, at = "", 0
    while at < len(value):
        end = max(_ends(pattern, value, at), default=at)
        if end > at:
            found, at = found + replacement, end
            if not everywhere:
                break
        else:
            found, at = found + value[at], at + 1
    return found + value[at:]
