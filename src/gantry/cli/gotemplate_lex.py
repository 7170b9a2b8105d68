"""Lexer of Go's text/template language, as its text/template/parse package cuts a template into tokens."""

from __future__ import annotations

from gantry.cli.flags import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = " \t\r\n"
_KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with"))


class Token:
    """`kind` is text, left, right, space, field, variable, identifier, keyword, bool, nil, dot, number, char,
    string, pipe, declare, assign, lparen, rparen, other, eof or error; `at` is its place in the text."""

    __slots__ = ("at", "kind", "text")

    def __init__(self, kind: str, text: str, at: int) -> None:
        self.kind = kind
        self.text = text
        self.at = at

    def __str__(self) -> str:
        if self.kind == "eof":
            return "EOF"
        if self.kind == "error":
            return self.text
        if self.kind in ("keyword", "dot", "nil"):
            return f"<{self.text}>"
        return quote(self.text[:10]) + "..." if len(self.text) > 10 else quote(self.text)


def code_point(char: str) -> str:
    """Go's %#U."""
    return f"U+{ord(char):04X} '{char}'" if char.isprintable() else f"U+{ord(char):04X}"


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdigit()


def tokens(text: str) -> Iterator[Token]:
    """All tokens of a template; ends after an eof or error token."""
    at = 0
    size = len(text)
    while at < size:
        start = text.find("{{", at)
        if start < 0:
            start = size
        literal = text[at:start]
        inside = start + 2
        trimmed = text.startswith("-", inside) and text[inside + 1 : inside + 2] in tuple(_SPACE)
        if trimmed:
            literal = literal.rstrip(_SPACE)
        if literal:
            yield Token("text", literal, at)
        if start == size:
            break
        after = inside + 2 if trimmed else inside
        if text.startswith("/*", after):
            end = text.find("*/", after + 2)
            if end < 0:
                yield Token("error", "unclosed comment", after)
                return
            at, closing = _closing(text, end + 2)
            if not at:
                yield Token("error", "comment ends before closing delimiter", after)
                return
            if closing:
                at = _skip_space(text, at)
            continue
        yield Token("left", "{{", start)
        lexer = _Action(text, inside + (1 if trimmed else 0))
        yield from lexer.tokens()
        if lexer.failed:
            return
        at = lexer.at
    yield Token("eof", "", size)


def _closing(text: str, at: int) -> tuple[int, bool]:
    """Where text goes on after `}}` or ` -}}` at `at` (0: neither), and whether it trims."""
    if text.startswith("}}", at):
        return at + 2, False
    if text[at : at + 1] in tuple(_SPACE) and text.startswith("-}}", at + 1):
        return at + 4, True
    return 0, False


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


class _Action:
    """The inside of one `{{ }}`."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self.failed = False
        self._depth = 0

    def tokens(self) -> Iterator[Token]:
        text = self.text
        while True:
            after, trims = _closing(text, self.at)
            if after:
                if self._depth:
                    yield self._error("unclosed left paren", self.at)
                    return
                yield Token("right", "}}", after - 2)
                self.at = _skip_space(text, after) if trims else after
                return
            token = self._next()
            yield token
            if self.failed:
                return

    def _error(self, message: str, at: int) -> Token:
        self.failed = True
        return Token("error", message, at)

    def _next(self) -> Token:
        text, start = self.text, self.at
        char = text[start : start + 1]
        if not char:
            return self._error("unclosed action", start)
        self.at += 1
        if char in _SPACE:
            return self._space(start)
        if char == "=":
            return Token("assign", "=", start)
        if char == ":":
            if text.startswith("=", self.at):
                self.at += 1
                return Token("declare", ":=", start)
            return self._error("expected :=", start)
        if char == "|":
            return Token("pipe", "|", start)
        if char in "\"'":
            return self._quoted(char, start)
        if char == "`":
            end = text.find("`", self.at)
            if end < 0:
                return self._error("unterminated raw quoted string", start)
            self.at = end + 1
            return Token("string", text[start : self.at], start)
        if char == "$" or (char == "." and not text[self.at : self.at + 1].isdigit()):
            return self._name("variable" if char == "$" else "field", start)
        if char in "+-." or "0" <= char <= "9":
            return self._number(start)
        if _is_word(char):
            return self._word(start)
        if char == "(":
            self._depth += 1
            return Token("lparen", char, start)
        if char == ")":
            self._depth -= 1
            if self._depth < 0:
                return self._error("unexpected right paren", start)
            return Token("rparen", char, start)
        if " " < char < "\x7f":
            return Token("other", char, start)
        return self._error(f"unrecognized character in action: {code_point(char)}", start)

    def _space(self, start: int) -> Token:
        text = self.text
        while text[self.at : self.at + 1] in tuple(_SPACE) and not _closing(text, self.at)[0]:
            self.at += 1
        return Token("space", text[start : self.at], start)

    def _quoted(self, mark: str, start: int) -> Token:
        text = self.text
        while True:
            char = text[self.at : self.at + 1]
            self.at += 1
            if char == "\\" and text[self.at : self.at + 1] not in ("", "\n"):
                self.at += 1
            elif char in ("", "\n") or char == "\\":
                what = "quoted string" if mark == '"' else "character constant"
                return self._error(f"unterminated {what}", start)
            elif char == mark:
                return Token("string" if mark == '"' else "char", text[start : self.at], start)

    def _name(self, kind: str, start: int) -> Token:
        """`.Field` or `$variable`; alone they are the dot and `$`."""
        while _is_word(self.text[self.at : self.at + 1] or " "):
            self.at += 1
        if problem := self._not_ended(start):
            return problem
        word = self.text[start : self.at]
        return Token("dot" if word == "." else kind, word, start)

    def _word(self, start: int) -> Token:
        while _is_word(self.text[self.at : self.at + 1] or " "):
            self.at += 1
        if problem := self._not_ended(start):
            return problem
        word = self.text[start : self.at]
        if word in _KEYWORDS:
            return Token("nil" if word == "nil" else "keyword", word, start)
        return Token("bool" if word in ("true", "false") else "identifier", word, start)

    def _not_ended(self, start: int) -> Token | None:
        char = self.text[self.at : self.at + 1]
        if not char or char in " \t\r\n.,|:)(" or self.text.startswith("}}", self.at):
            return None
        return self._error(f"bad character {code_point(char)}", start)

    def _number(self, start: int) -> Token:
        text = self.text
        at = start + (text[start] in "+-")
        digits = "0123456789_"
        if text[at : at + 1] == "0" and text[at + 1 : at + 2].lower() in ("x", "o", "b"):
            digits = {"x": "0123456789abcdefABCDEF_", "o": "01234567_", "b": "01_"}[text[at + 1].lower()]
            at += 2
        at = _run(text, at, digits)
        if text[at : at + 1] == ".":
            at = _run(text, at + 1, digits)
        exponent = "eE" if len(digits) == 11 else "pP" if len(digits) == 23 else ""
        if exponent and text[at : at + 1] in tuple(exponent):
            at += 1
            at += text[at : at + 1] in ("+", "-")
            at = _run(text, at, "0123456789_")
        if _is_word(text[at : at + 1] or " "):
            self.at = at + 1
            return self._error(f"bad number syntax: {quote(text[start : self.at])}", start)
        self.at = at
        return Token("number", text[start:at], start)


def _run(text: str, at: int, allowed: str) -> int:
    while at < len(text) and text[at] in allowed:
        at += 1
    return at
