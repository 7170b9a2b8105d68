"""Runs a parsed template on a value, with the rules and the words of Go's text/template."""

from __future__ import annotations

from gantry.cli.flags import quote
from gantry.cli.format import Method
from gantry.cli.gotemplate_functions import FunctionError, accepts
from gantry.cli.gotemplate_print import show
from gantry.cli.gotemplate_time import format_time
from gantry.cli.gotemplate_values import (
    INVALID,
    Record,
    Typed,
    element_type,
    elements,
    field_of,
    is_nil,
    kind,
    number,
    structs,
    truth,
    type_name,
    typed,
)
from gantry.cli.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from gantry.cli.gotemplate_functions import Function
    from gantry.cli.gotemplate_parse import Node

_MAX_DEPTH = 60
_MAX_OUTPUT = 64 << 20


class ExecError(Exception):
    """A template failed on a value; the message has Go's form."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Missing:
    """No value comes from an earlier stage of the pipeline."""


_MISSING = _Missing()


class Executor:
    """One execution. With `strict`, a key that a map has not is an error (missingkey=error)."""

    def __init__(
        self, text: str, templates: Mapping[str, Node], functions: Mapping[str, Function], name: str, *, strict: bool
    ) -> None:
        self._text = text
        self._templates = templates
        self._functions = functions
        self._strict = strict
        self._out: list[str] = []
        self._size = 0
        self._file = self._name = name
        self._at: Node | None = None
        self._variables: list[tuple[str, Any]] = []
        self._depth = 0

    def run(self, data: Any) -> str:
        self._variables = [("$", data)]
        self._walk(data, self._templates[self._file])
        return "".join(self._out)

    # ------------------------------------------------------------------------------ errors

    def _error(self, message: str) -> ExecError:
        node = self._at
        if node is None:
            return ExecError(f"template: {self._file}: executing {quote(self._name)}: {message}")
        before = self._text[: node.at]
        line = 1 + before.count("\n")
        column = len(before[before.rfind("\n") + 1 if line > 1 else 0 :].encode("utf-8", "surrogateescape"))
        return ExecError(
            f"template: {self._file}:{line}:{column}: executing {quote(self._name)} at <{node}>: {message}"
        )

    # -------------------------------------------------------------------------- statements

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > _MAX_OUTPUT:
            raise self._error("output is too long")
        self._out.append(text)

    def _walk(self, dot: Any, node: Node) -> None:
        self._at = node
        what = node.kind
        if what == "list":
            for part in node.args:
                self._walk(dot, part)
        elif what == "text":
            self._write(node.text)
        elif what == "action":
            value = self._pipeline(dot, node.args[0])
            if not node.args[0].names:
                self._at = node
                self._write(show(value, top=True))
        elif what in ("if", "with"):
            self._branch(dot, node)
        elif what == "range":
            self._range(dot, node)
        elif what == "template":
            self._template(dot, node)
        elif what == "break":
            raise _Break
        elif what == "continue":
            raise _Continue

    def _branch(self, dot: Any, node: Node) -> None:
        pipe, body, other = node.args
        scope = len(self._variables)
        value = self._pipeline(dot, pipe)
        if truth(value):
            self._walk(value if node.kind == "with" else dot, body)
        elif other is not None:
            self._walk(dot, other)
        del self._variables[scope:]

    def _range(self, dot: Any, node: Node) -> None:
        pipe, body, other = node.args
        scope = len(self._variables)
        value = self._pipeline(dot, pipe)
        mark = len(self._variables)
        what = kind(value)
        if what in ("slice", "map"):
            items: Any = elements(value)
        elif what == "int" and not isinstance(value, Typed):
            if len(pipe.names) > 1:
                raise self._error(f"can't use {number(value)} to iterate over more than one variable")
            items = ((count, count) for count in range(int(number(value))))
        elif what == "invalid" or value is None:
            items = ()
        else:
            self._at = pipe
            raise self._error(f"range can't iterate over {show(value, top=True)}")
        empty = True
        try:
            for key, item in items:
                empty = False
                self._set_loop(pipe, key, item)
                try:
                    self._walk(item, body)
                except _Continue:
                    pass
                finally:
                    del self._variables[mark:]
        except _Break:
            pass
        if empty and other is not None:
            self._walk(dot, other)
        del self._variables[scope:]

    def _set_loop(self, pipe: Node, key: Any, item: Any) -> None:
        values = (item,) if len(pipe.names) == 1 else (key, item)
        for position, (name, value) in enumerate(zip(pipe.names, values, strict=False)):
            if pipe.assigns:
                self._assign(name, value)
            else:
                place = len(self._variables) - len(pipe.names) + position
                self._variables[place] = (name, value)

    def _template(self, dot: Any, node: Node) -> None:
        root = self._templates.get(node.text)
        if root is None:
            raise self._error(f"template {quote(node.text)} not defined")
        if self._depth == _MAX_DEPTH:
            raise self._error(f"exceeded maximum template depth ({_MAX_DEPTH})")
        value = self._pipeline(dot, node.args[0]) if node.args[0] is not None else INVALID
        outer, name = self._variables, self._name
        self._depth += 1
        self._variables = [("$", value)]
        self._name = node.text
        self._walk(value, root)
        self._variables, self._name = outer, name
        self._depth -= 1

    def _assign(self, name: str, value: Any) -> None:
        for place in range(len(self._variables) - 1, -1, -1):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return
        raise self._error(f"undefined variable: {name}")

    # --------------------------------------------------------------------------- pipelines

    def _pipeline(self, dot: Any, pipe: Node) -> Any:
        self._at = pipe
        value: Any = _MISSING
        for command in pipe.args:
            value = self._command(dot, command, value)
        for name in pipe.names:
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _command(self, dot: Any, command: Node, final: Any) -> Any:
        first = command.args[0]
        what = first.kind
        if what == "field":
            return self._fields(dot, dot, first, first.names, command.args, final)
        if what == "chain":
            return self._chain(dot, first, command.args, final)
        if what == "identifier":
            return self._function(dot, first, command, command.args, final)
        if what == "pipe":
            self._no_function(command.args, final)
            return self._pipeline(dot, first)
        if what == "variable":
            return self._variable(dot, first, command.args, final)
        self._at = first
        self._no_function(command.args, final)
        if what == "nil":
            raise self._error("nil is not a command")
        return dot if what == "dot" else first.args

    def _no_function(self, args: Sequence[Node], final: Any) -> None:
        if len(args) > 1 or final is not _MISSING:
            raise self._error(f"can't give argument to non-function {args[0]}")

    def _chain(self, dot: Any, node: Node, args: Sequence[Node], final: Any) -> Any:
        self._at = node
        if node.args[0].kind == "nil":
            raise self._error(f"indirection through explicit nil in {node}")
        value = self._argument(dot, "any", node.args[0])
        return self._fields(dot, value, node, node.names, args, final)

    def _variable(self, dot: Any, node: Node, args: Sequence[Node], final: Any) -> Any:
        self._at = node
        name = node.names[0]
        value = next(value for known, value in reversed(self._variables) if known == name)
        if len(node.names) == 1:
            self._no_function(args, final)
            return value
        return self._fields(dot, value, node, node.names[1:], args, final)

    def _fields(self, dot: Any, value: Any, node: Node, names: Sequence[str], args: Sequence[Node], final: Any) -> Any:
        self._at = node
        static = type_name(value)
        if value is dot and value is not self._variables[0][1] and not isinstance(value, (Typed, Record)):
            static = "interface {}"
        for position, name in enumerate(names):
            last = position == len(names) - 1
            plain = isinstance(value, dict)
            value = self._field(dot, name, args if last else (), final if last else _MISSING, value, static)
            static = "interface {}" if plain else type_name(value)
        return value

    def _field(self, dot: Any, name: str, args: Sequence[Node], final: Any, value: Any, static: str) -> Any:
        if value is INVALID:
            if self._strict:
                raise self._error(f"nil data; no entry for key {quote(name)}")
            return INVALID
        has_arguments = len(args) > 1 or final is not _MISSING
        if value is None:
            raise self._error(f"nil pointer evaluating interface {{}}.{name}")
        if isinstance(value, Record) and name in value.fields:
            held = value.fields[name]
            if isinstance(held, Method):
                return self._method(dot, held.call, name, args, final)
            if has_arguments:
                return self._method(dot, None, name, args, final)
            return field_of(value, name)
        if isinstance(value, Record) and value.open:
            return INVALID
        what = kind(value)
        if isinstance(value, Typed) and what in ("struct", "int", "pointer"):
            if what != "pointer" and value.base in ("time.Time", "time.Duration"):
                found = _time_method(value, name)
                if found is not None:
                    return self._method(dot, found, name, args, final) if callable(found) else found
            fields = structs().get(value.base, {})
            if name in fields:
                if what == "pointer":
                    raise self._error(f"nil pointer evaluating {value.type}.{name}")
                if has_arguments:
                    raise self._error(f"{name} has arguments but cannot be invoked as function")
                key, of = fields[name]
                return typed(value.value.get(key), of) if key else Typed(of, value.value)
        if what == "map":
            if has_arguments:
                raise self._error(f"{name} is not a method but has arguments")
            inner = value.value if isinstance(value, Typed) else value
            if name in (inner or ()):
                return typed(inner[name], element_type(value.base)) if isinstance(value, Typed) else inner[name]
            if self._strict:
                raise self._error(f"map has no entry for key {quote(name)}")
            return INVALID
        raise self._error(f"can't evaluate field {name} in type {static}")

    def _method(self, dot: Any, call: Callable[..., Any] | None, name: str, args: Sequence[Node], final: Any) -> Any:
        given = len(args[1:]) + (final is not _MISSING)
        wanted = 0 if call is None else 1
        if given != wanted or call is None:
            raise self._error(f"wrong number of args for {name}: want {wanted} got {given}")
        value = self._argument(dot, "string", args[1]) if args[1:] else self._checked(final, "string")
        return call(value)

    # --------------------------------------------------------------------------- functions

    def _function(self, dot: Any, node: Node, command: Node, args: Sequence[Node], final: Any) -> Any:
        self._at = node
        name = node.text
        function = self._functions[name]
        given = args[1:]
        count = len(given) + (final is not _MISSING)
        wanted = len(function.parameters)
        if function.rest and count < wanted:
            raise self._error(f"wrong number of args for {name}: want at least {wanted} got {len(given)}")
        if not function.rest and count != wanted:
            raise self._error(f"wrong number of args for {name}: want {wanted} got {count}")
        if name in ("and", "or"):
            value: Any = INVALID
            for argument in given:
                value = self._argument(dot, "any", argument)
                if truth(value) == (name == "or"):
                    return value
            return value if final is _MISSING else final
        values = []
        for position, argument in enumerate(given):
            values.append(self._argument(dot, _parameter(function, position), argument))
        if final is not _MISSING:
            values.append(self._checked(final, _parameter(function, len(given))))
        if name == "call":
            self._at = command
            what = type_name(values[0])
            detail = "call of nil" if is_nil(values[0]) else f"non-function {(*given, '')[0]} of type {what}"
            raise self._error(f"error calling call: {detail}")
        try:
            return function.call(*values)
        except FunctionError as error:
            self._at = command
            raise self._error(f"error calling {name}: {error}") from None

    def _argument(self, dot: Any, wanted: str, node: Node) -> Any:
        self._at = node
        what = node.kind
        if what == "dot":
            return self._checked(dot, wanted)
        if what == "nil":
            if wanted in ("any", "[]string"):
                return None if wanted == "any" else Typed(wanted, None)
            raise self._error(f"cannot assign nil to {wanted}")
        if what == "field":
            return self._checked(self._fields(dot, dot, node, node.names, (node,), _MISSING), wanted)
        if what == "variable":
            return self._checked(self._variable(dot, node, (), _MISSING), wanted)
        if what == "pipe":
            return self._checked(self._pipeline(dot, node), wanted)
        if what == "identifier":
            return self._checked(self._function(dot, node, node, (), _MISSING), wanted)
        if what == "chain":
            return self._checked(self._chain(dot, node, (), _MISSING), wanted)
        if wanted == "any":
            return node.args
        if wanted == "string":
            if what != "string":
                raise self._error(f"expected string; found {node}")
        elif wanted == "int":
            if what != "number" or node.args != int(node.args):
                raise self._error(f"expected integer; found {node}")
            return int(node.args)
        else:
            raise self._error(f"can't handle {node} for arg of type {wanted}")
        return node.args

    def _checked(self, value: Any, wanted: str) -> Any:
        if wanted == "any":
            return None if value is INVALID else value
        if value is INVALID or value is None:
            if wanted == "[]string":
                return Typed(wanted, None)
            raise self._error(f"invalid value; expected {wanted}")
        if not accepts(value, wanted):
            raise self._error(f"wrong type for value; expected {wanted}; got {type_name(value)}")
        return value


def _parameter(function: Function, position: int) -> str:
    return function.parameters[position] if position < len(function.parameters) else function.rest


def _time_method(value: Typed, name: str) -> Any:
    """A value or a callable for the methods of times and durations that templates use, None for others."""
    if value.base == "time.Duration":
        seconds = value.value / 1e9
        methods = {
            "String": format_duration(value.value),
            "Seconds": seconds,
            "Minutes": seconds / 60,
            "Hours": seconds / 3600,
            "Nanoseconds": value.value,
            "Milliseconds": value.value // 1_000_000,
        }
        return methods.get(name)
    if name not in ("Unix", "UnixNano", "String", "IsZero", "Year", "Day", "Hour", "Minute", "Second", "Format"):
        return None
    from gantry.model.timestamp import ZERO, parse_rfc3339

    if name == "String":
        return show(value)
    if name == "IsZero":
        return value.value == ZERO
    if name == "Format":
        return lambda layout: format_time(value.value, layout)
    if name in ("Unix", "UnixNano"):
        if value.value == ZERO:
            return -62135596800 if name == "Unix" else -6795364578871345152
        nanoseconds = parse_rfc3339(value.value)
        return nanoseconds if name == "UnixNano" else nanoseconds // 1_000_000_000
    start, end = {"Year": (0, 4), "Day": (8, 10), "Hour": (11, 13), "Minute": (14, 16), "Second": (17, 19)}[name]
    return int(value.value[start:end])
