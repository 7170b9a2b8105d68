"""Every operation, query parameter and request field of the Engine API, held against our routes and structs."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from aiohttp import web

import gantry.api
from gantry.api import execs
from gantry.api.query import boolean
from gantry.api.routing import Handler, Route
from gantry.model.container import ContainerConfig, HostConfig
from gantry.model.network import EndpointSettings
from gantry.wire import networks as networks_wire
from gantry.wire import volumes as volumes_wire
from lib import reference

ROOMS = [
    module
    for found in pkgutil.iter_modules(gantry.api.__path__)
    if hasattr(module := importlib.import_module(f"gantry.api.{found.name}"), "routes")
]

# The bodies that are structs of ours, by operation.
BODIES: dict[str, Any] = {
    "POST /commit": ContainerConfig,
    "POST /containers/create": ContainerConfig,
    "POST /containers/create HostConfig": HostConfig,
    "POST /containers/create NetworkingConfig.EndpointsConfig": EndpointSettings,
    "POST /containers/{id}/exec": execs.ExecOptions,
    "POST /containers/{id}/update": HostConfig,
    "POST /networks/create": networks_wire.NetworkCreate,
    "POST /networks/{id}/connect": networks_wire.NetworkConnect,
    "POST /networks/{id}/disconnect": networks_wire.NetworkDisconnect,
    "POST /volumes/create": volumes_wire.VolumeCreate,
}
_ROOMS = ("gantry.api", "gantry.wire")
_PATTERN = re.compile(r"\{(\w+)(?::[^{}]+)?\}")


def served() -> list[Route]:
    """The routes of every room, on stand-ins."""
    return [route for room in ROOMS for route in room.routes(*(MagicMock() for _ in _required(room.routes)))]


def _required(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.default is inspect.Parameter.empty]


def _shape(path: str) -> str:
    """A path with its fields made alike."""
    return _PATTERN.sub("{}", path)


def test_operations_and_query_parameters() -> None:
    reference.compare("api", missing_operations())


def test_request_fields() -> None:
    reference.compare("api-fields", missing_fields())


def test_filters() -> None:
    reference.compare("filters", missing_filters())


def missing_filters() -> Iterator[str]:
    handlers = {(route.method, _shape(route.path)): route.handler for route in served()}
    for operation, told in reference.load("filters")["endpoints"].items():
        method, path = operation.split(" ")
        handler = handlers.get((method, path))
        words = set(spoken(handler)) if handler else set()
        yield from (f"{operation} {key}" for key in told["keys"] if key not in words)


def missing_operations() -> Iterator[str]:
    handlers = {(route.method, _shape(route.path)): route.handler for route in served()}
    told = reference.load("engine-api")
    for operation in [*told["endpoints"], *told["undocumented_endpoints"]]:
        method, path = operation["method"], operation["path"]
        if method == "OPTIONS":
            continue  # the dispatcher's, for every path
        handler = handlers.get((method, _shape(path)))
        if handler is None:
            yield f"{method} {path}"
            continue
        words = set(spoken(handler))
        for parameter in [*operation.get("query", ()), *operation.get("undocumented_query", ())]:
            if parameter["name"] not in words:
                yield f"{method} {path}?{parameter['name']}"


def spoken(handler: Handler, seen: set[Any] | None = None) -> Iterator[str]:
    """Every text that a handler, or what it calls in its room, writes down: names of parameters among them."""
    seen = set() if seen is None else seen
    function = inspect.unwrap(getattr(handler, "__func__", handler))
    if function in seen or not isinstance(function, types.FunctionType):
        return
    seen.add(function)
    owner = getattr(handler, "__self__", None)
    yield from (default for default in function.__defaults__ or () if isinstance(default, str))
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        called: Any = None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            called = function.__globals__.get(node.id)
            yield from _texts(called)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            called = getattr(owner, node.attr, None)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            room = function.__globals__.get(node.value.id)
            called = getattr(room, node.attr, None) if isinstance(room, types.ModuleType) else None
        if isinstance(called, type) and called.__module__.startswith(_ROOMS):
            for member in vars(called).values():
                if isinstance(member, types.FunctionType):
                    yield from spoken(member, seen)
        if isinstance(called, types.FunctionType | types.MethodType) and called.__module__.startswith(_ROOMS):
            yield from spoken(called, seen)


def _texts(value: Any) -> Iterator[str]:
    """The texts of a module's constant: a set of names, a table by name."""
    if isinstance(value, frozenset | tuple | list | dict):
        for item in value:
            if isinstance(item, str):
                yield item
            elif isinstance(item, tuple):
                yield from _texts(item)


def missing_fields() -> Iterator[str]:
    told = reference.load("engine-api")
    definitions = told["definitions"]
    operations = {f"{each['method']} {each['path']}": each for each in told["endpoints"]}
    for name, struct in BODIES.items():
        method, path, *inner = name.split(" ")
        schema = operations[f"{method} {path}"]["body"]["schema"]
        for step in inner[0].split(".") if inner else ():
            schema = properties(schema, definitions)[step]
        # What stands beside a container's own fields in the same body is compared by its own line.
        beside = {f"{name}.{part}" for part in ("HostConfig", "NetworkingConfig")} if not inner else set()
        yield from (
            found for found in absent(name, _item(schema, definitions), struct, definitions) if found not in beside
        )


def absent(where: str, schema: dict[str, Any], struct: Any, definitions: dict[str, Any]) -> Iterator[str]:
    """Properties of a schema, and of what it holds, that the struct has no field for."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for name, told in properties(schema, definitions).items():
        if name not in fields:
            yield f"{where}.{name}"
        elif inner := next(_structs(fields[name]), None):
            yield from absent(f"{where}.{name}", _item(told, definitions), inner, definitions)


def properties(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The properties of an object, with those of the schemas that it is made of."""
    found: dict[str, Any] = {}
    if "ref" in schema:
        found |= properties(definitions[schema["ref"]], definitions)
    for part in schema.get("all_of", ()):
        found |= properties(part, definitions)
    return found | schema.get("properties", {})


def _item(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """What a list or a map of a schema holds, else the schema itself."""
    while "ref" in schema or "items" in schema or isinstance(schema.get("additional_properties"), dict):
        schema = (
            definitions[schema["ref"]] if "ref" in schema else schema.get("items") or schema["additional_properties"]
        )
    return schema


def _structs(kind: Any) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for argument in typing.get_args(kind):
        yield from _structs(argument)


def test_what_a_handler_reads_is_found() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return _answer(request)

    def _answer(request: web.Request) -> web.Response:
        return web.Response(text=str(boolean(request, "deep")))

    handler.__globals__["_answer"], _answer.__module__ = _answer, "gantry.api.test"
    try:
        assert {"deep"} <= set(spoken(handler))
        assert "shallow" not in set(spoken(handler))
    finally:
        del handler.__globals__["_answer"]


def test_a_field_that_is_not_there_is_found() -> None:
    class Inner(msgspec.Struct):
        a: int = 0

    class Outer(msgspec.Struct):
        inner: list[Inner] | None = None

    schema = {"all_of": [{"ref": "Base"}, {"properties": {"inner": {"type": "array", "items": {"ref": "In"}}}}]}
    definitions = {"Base": {"properties": {"b": {}}}, "In": {"properties": {"a": {}, "c": {}}}}
    assert list(absent("X", schema, Outer, definitions)) == ["X.b", "X.inner.c"]


@pytest.mark.parametrize("route", served(), ids=lambda route: f"{route.method} {route.path}")
def test_our_own_operations_are_marked(route: Route) -> None:
    """What Docker does not have is below /_gantry, where no client of Docker's ever asks."""
    told = reference.load("engine-api")
    known = {(each["method"], _shape(each["path"])) for each in [*told["endpoints"], *told["undocumented_endpoints"]]}
    ours = route.path.removesuffix("/") or "/"
    assert (route.method, _shape(ours)) in known or route.path.startswith(("/_gantry/", "/gantry/"))
