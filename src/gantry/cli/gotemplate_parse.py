"""Parser of Go's text/template language: text -> tree of nodes, with Go's words for what is wrong."""

from __future__ import annotations

from gantry.cli.flags import quote
from gantry.cli.gotemplate_lex import Token, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any


class ParseError(Exception):
    """The text is no template; the message has Go's form `template: NAME:LINE: what`."""


class Node:
    """A node at place `at` of the text; `str()` gives it back as Go writes it in messages.

    `kind` names the node; `args` holds its parts:
    text (str), action (pipe), pipe (commands), command (operands), identifier / variable / field / dot / nil,
    chain (node, *fields), bool, number, string (value), list (nodes), if / with / range (pipe, list, else list or
    None), template (name, pipe or None), break, continue, end, else.
    """

    __slots__ = ("args", "assigns", "at", "kind", "names", "text")

    def __init__(self, kind: str, at: int, text: str = "", args: Any = (), names: Any = ()) -> None:
        self.kind = kind
        self.at = at
        self.text = text
        self.args = args
        self.names: list[str] = list(names)
        """A field's or variable's path; a pipe's declared variables."""
        self.assigns = False

    def __str__(self) -> str:
        kind, args = self.kind, self.args
        if kind == "pipe":
            variables = ", ".join(self.names) + (" = " if self.assigns else " := ") if self.names else ""
            return variables + " | ".join(map(str, args))
        if kind == "command":
            return " ".join(f"({arg})" if arg.kind == "pipe" else str(arg) for arg in args)
        if kind == "field":
            return "".join("." + name for name in self.names)
        if kind == "variable":
            return ".".join(self.names)
        if kind == "chain":
            inner = f"({args[0]})" if args[0].kind == "pipe" else str(args[0])
            return inner + "".join("." + name for name in self.names)
        if kind == "action":
            return "{{" + str(args[0]) + "}}"
        if kind == "list":
            return "".join(map(str, args))
        if kind in ("if", "with", "range"):
            other = "{{else}}" + str(args[2]) if args[2] else ""
            return f"{{{{{kind} {args[0]}}}}}{args[1]}{other}{{{{end}}}}"
        if kind == "template":
            return f"{{{{template {quote(self.text)}{f' {args[0]}' if args[0] else ''}}}}}"
        if kind in ("end", "else", "break", "continue"):
            return "{{" + kind + "}}"
        return self.text


class Parser:
    """Parses one text; `templates` has every template that it defines, its own by `name`."""

    def __init__(self, text: str, functions: Container[str], name: str = "") -> None:
        self.text = text
        self.templates: dict[str, Node] = {}
        self._functions = functions
        self._name = name
        self._source = tokens(text)
        self._ahead: list[Token] = []
        self._last = Token("eof", "", 0)
        self._variables = ["$"]
        self._ranges = 0
        self._action_line = 0

    def parse(self) -> dict[str, Node]:
        """Raises ParseError."""
        nodes: list[Node] = []
        while self._peek().kind != "eof":
            if self._peek().kind == "left":
                delimiter = self._next()
                if self._peek_solid().text == "define" and self._peek_solid().kind == "keyword":
                    self._next_solid()
                    self._define()
                    continue
                self._ahead.insert(0, delimiter)
            node = self._text_or_action()
            if node.kind in ("end", "else"):
                raise self._error(f"unexpected {node}")
            nodes.append(node)
        self._add(self._name, Node("list", 0, args=nodes))
        return self.templates

    # ------------------------------------------------------------------------------ tokens

    def _next(self) -> Token:
        if self._ahead:
            self._last = self._ahead.pop(0)
        elif self._last.kind != "error":
            self._last = next(self._source, self._last)
        return self._last

    def _peek(self) -> Token:
        if not self._ahead:
            kept = self._last
            self._ahead.append(self._next())
            self._last = kept
        return self._ahead[0]

    def _peek_solid(self) -> Token:
        while self._peek().kind == "space":
            self._next()
        return self._peek()

    def _next_solid(self) -> Token:
        self._peek_solid()
        return self._next()

    def _error(self, message: str) -> ParseError:
        line = 1 + self.text.count("\n", 0, self._last.at)
        return ParseError(f"template: {self._name}:{line}: {message}")

    def _unexpected(self, token: Token, context: str) -> ParseError:
        if token.kind != "error":
            return self._error(f"unexpected {token} in {context}")
        line = 1 + self.text.count("\n", 0, token.at)
        extra = ""
        if self._action_line and self._action_line != line:
            extra = f" in action started at {self._name}:{self._action_line}"
            if token.text.endswith(" action"):
                extra = extra.removeprefix(" in action")
        return self._error(f"{token}{extra}")

    def _expect(self, kind: str, context: str) -> Token:
        token = self._next_solid()
        if token.kind != kind:
            raise self._unexpected(token, context)
        return token

    # -------------------------------------------------------------------------- statements

    def _add(self, name: str, root: Node) -> None:
        known = self.templates.get(name)
        if known is None or not _is_empty(known):
            if known is not None and not _is_empty(root):
                raise self._error(f"template: multiple definition of template {quote(name)}")
            if known is not None:
                return
        self.templates[name] = root

    def _define(self) -> None:
        name = self._template_name(self._next_solid(), "define clause")
        self._expect("right", "define clause")
        outer, self._variables = self._variables, ["$"]
        ranges, self._ranges = self._ranges, 0
        nodes, end = self._list()
        if end.kind != "end":
            raise self._error(f"unexpected {end} in define clause")
        self._variables, self._ranges = outer, ranges
        self._add(name, nodes)

    def _text_or_action(self) -> Node:
        token = self._next_solid()
        if token.kind == "text":
            return Node("text", token.at, token.text)
        if token.kind != "left":
            raise self._unexpected(token, "input")
        self._action_line = 1 + self.text.count("\n", 0, token.at)
        node = self._action()
        self._action_line = 0
        return node

    def _list(self) -> tuple[Node, Node]:
        """Nodes up to `{{end}}` or `{{else}}`, and that one."""
        start = self._peek_solid().at
        nodes: list[Node] = []
        while self._peek_solid().kind != "eof":
            node = self._text_or_action()
            if node.kind in ("end", "else"):
                return Node("list", start, args=nodes), node
            nodes.append(node)
        self._next()
        raise self._error("unexpected EOF")

    def _action(self) -> Node:
        token = self._peek_solid()
        if token.kind == "keyword":
            self._next()
            word = token.text
            if word in ("if", "with", "range"):
                return self._control(word, token)
            if word in ("break", "continue"):
                after = self._next_solid()
                if after.kind != "right":
                    raise self._unexpected(after, "{{" + word + "}}")
                if not self._ranges:
                    raise self._error("{{" + word + "}} outside {{range}}")
                return Node(word, token.at)
            if word == "else":
                if self._peek_solid().text not in ("if", "with"):
                    self._expect("right", "else")
                return Node("else", token.at)
            if word == "end":
                self._expect("right", "end")
                return Node("end", token.at)
            if word == "template":
                return self._template()
            if word == "block":
                return self._block(token)
            raise self._unexpected(token, "command")
        return Node("action", token.at, args=(self._pipeline("command", "right"),))

    def _control(self, word: str, token: Token) -> Node:
        scope = len(self._variables)
        pipe = self._pipeline(word, "right")
        self._ranges += word == "range"
        body, after = self._list()
        self._ranges -= word == "range"
        other = None
        if after.kind == "else":
            chained = self._peek()
            if word in ("if", "with") and chained.kind == "keyword" and chained.text == word:
                self._next()
                other = Node("list", after.at, args=[self._control(word, chained)])
            else:
                if chained.kind == "keyword":
                    raise self._unexpected(self._next(), "else")
                other, after = self._list()
                if after.kind != "end":
                    raise self._error(f"expected end; found {after}")
        del self._variables[scope:]
        return Node(word, token.at, args=(pipe, body, other))

    def _template(self) -> Node:
        token = self._next_solid()
        name = self._template_name(token, "template clause")
        pipe = None
        if self._peek_solid().kind == "right":
            self._next()
        else:
            pipe = self._pipeline("template clause", "right")
        return Node("template", token.at, name, (pipe,))

    def _block(self, token: Token) -> Node:
        name = self._template_name(self._next_solid(), "block clause")
        pipe = self._pipeline("block clause", "right")
        outer, self._variables = self._variables, ["$"]
        nodes, end = self._list()
        if end.kind != "end":
            raise self._error(f"unexpected {end} in block clause")
        self._variables = outer
        self._add(name, nodes)
        return Node("template", token.at, name, (pipe,))

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind != "string":
            raise self._unexpected(token, context)
        return self._unquote(token.text)

    # --------------------------------------------------------------------------- pipelines

    def _pipeline(self, context: str, end: str) -> Node:
        pipe = Node("pipe", self._peek_solid().at, args=[])
        self._declarations(pipe, context)
        while True:
            token = self._next_solid()
            if token.kind == end:
                if not pipe.args:
                    raise self._error(f"missing value for {context}")
                for stage, command in enumerate(pipe.args[1:], 2):
                    if command.args[0].kind in ("bool", "dot", "nil", "number", "string"):
                        raise self._error(f"non executable command in pipeline stage {stage}")
                return pipe
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            self._ahead.insert(0, token)
            pipe.args.append(self._command())

    def _declarations(self, pipe: Node, context: str) -> None:
        while self._peek_solid().kind == "variable":
            variable = self._next()
            directly = self._peek()
            after = self._peek_solid()
            if after.kind in ("assign", "declare"):
                self._next()
                pipe.assigns = after.kind == "assign"
                pipe.names.append(variable.text)
                self._variables.append(variable.text)
                return
            if after.kind == "other" and after.text == ",":
                self._next()
                pipe.names.append(variable.text)
                self._variables.append(variable.text)
                if context == "range" and len(pipe.names) < 2:
                    if self._peek_solid().kind in ("variable", "right", "rparen"):
                        continue
                    raise self._error("range can only initialize variables")
                raise self._error(f"too many declarations in {context}")
            if directly.kind == "space":
                self._ahead.insert(0, directly)
            self._ahead.insert(0, variable)
            return

    def _command(self) -> Node:
        command = Node("command", self._peek_solid().at, args=[])
        while True:
            self._peek_solid()
            operand = self._operand()
            if operand is not None:
                command.args.append(operand)
            token = self._next()
            if token.kind == "space":
                continue
            if token.kind in ("right", "rparen"):
                self._ahead.insert(0, token)
            elif token.kind != "pipe":
                raise self._unexpected(token, "operand")
            break
        if not command.args:
            raise self._error("empty command")
        return command

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind != "field":
            return node
        at = self._peek().at
        fields = []
        while self._peek().kind == "field":
            fields.append(self._next().text[1:])
        if node.kind in ("field", "variable"):
            return Node(node.kind, at, names=node.names + fields)
        if node.kind in ("bool", "string", "number", "nil", "dot"):
            raise self._error(f"unexpected . after term {quote(str(node))}")
        return Node("chain", at, args=(node,), names=fields)

    def _term(self) -> Node | None:
        token = self._next_solid()
        kind, text, at = token.kind, token.text, token.at
        if kind == "identifier":
            if text not in self._functions:
                raise self._error(f"function {quote(text)} not defined")
            return Node("identifier", at, text)
        if kind in ("dot", "nil"):
            return Node(kind, at, text)
        if kind == "bool":
            return Node("bool", at, text, text == "true")
        if kind == "variable":
            if text not in self._variables:
                raise self._error(f"undefined variable {quote(text)}")
            return Node("variable", at, names=[text])
        if kind == "field":
            return Node("field", at, names=[text[1:]])
        if kind == "number":
            return Node("number", at, text, self._number(text))
        if kind == "char":
            value = self._unquote(text)
            if len(value) != 1:
                raise self._error(f"malformed character constant: {text}")
            return Node("number", at, text, ord(value))
        if kind == "string":
            return Node("string", at, text, self._unquote(text))
        if kind == "lparen":
            return self._pipeline("parenthesized pipeline", "rparen")
        self._ahead.insert(0, token)
        return None

    def _number(self, text: str) -> int | float:
        digits = text.lstrip("+-").lower()
        hexadecimal = digits.startswith("0x")
        fractional = "." in digits or ("p" if hexadecimal else "e") in digits
        try:
            if fractional:
                value: int | float = float.fromhex(digits.replace("_", "")) if hexadecimal else float(digits)
            elif len(digits) > 1 and digits[0] == "0" and digits[1:].replace("_", "").isdigit():
                value = int(digits.lstrip("0_") or "0", 8)
            else:
                value = int(digits, 0)
        except (ValueError, OverflowError):
            if digits.isdigit():
                raise self._error(f"integer overflow: {quote(text)}") from None
            raise self._error(f"illegal number syntax: {quote(text)}") from None
        if isinstance(value, float) and value == float("inf"):
            raise self._error(f"illegal number syntax: {quote(text)}")
        if isinstance(value, int) and value >= 1 << 64:
            raise self._error(f"integer overflow: {quote(text)}")
        return -value if text[0] == "-" else value

    def _unquote(self, text: str) -> str:
        value = unquote(text)
        if value is None:
            raise self._error("invalid syntax")
        return value


def _is_empty(node: Node) -> bool:
    return all(part.kind == "text" and not part.text.strip() for part in node.args)


_OPERANDS = frozenset(("bool", "char", "dot", "field", "identifier", "number", "nil", "string", "variable", "lparen"))
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def unquote(text: str) -> str | None:
    """strconv.Unquote; None where it is malformed."""
    mark, body = text[0], text[1:-1]
    if mark == "`":
        return body.replace("\r", "")
    parts: list[str] = []
    raw = bytearray()
    at = 0
    while at < len(body):
        char = body[at]
        at += 1
        if char != "\\":
            _flush(raw, parts)
            parts.append(char)
            continue
        code = body[at : at + 1]
        at += 1
        if code in _SIMPLE or code == mark:
            _flush(raw, parts)
            parts.append(_SIMPLE.get(code, code))
            continue
        width, base = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}.get(code, (3, 8))
        if base == 8:
            at -= 1
        digits = body[at : at + width]
        at += width
        if len(digits) != width or not all(
            digit in "0123456789abcdefABCDEF"[: 8 if base == 8 else 22] for digit in digits
        ):
            return None
        value = int(digits, base)
        if code in ("u", "U"):
            if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
                return None
            _flush(raw, parts)
            parts.append(chr(value))
        elif value > 255:
            return None
        elif mark == "'":
            parts.append(chr(value))
        else:
            raw.append(value)
    _flush(raw, parts)
    return "".join(parts)


def _flush(raw: bytearray, parts: list[str]) -> None:
    """Bytes given one by one (`\\xc3\\xa4`) are UTF-8."""
    if raw:
        parts.append(raw.decode("utf-8", "surrogateescape"))
        raw.clear()
