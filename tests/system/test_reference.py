"""The daemon's answers, held against the Engine API's definitions: what is documented is there, and of its type."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lib import reference
from lib.daemon import Client, Daemon
from lib.engine_api import call

_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}
OLDEST, NEWEST = (1, 25), (1, 55)

# Every option that makes a field appear.
_CREATE: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["sleep", "600"],
    "Labels": {"a": "b"},
    "Env": ["A=b"],
    "Entrypoint": [],
    "Volumes": {"/anonymous": {}},
    "ExposedPorts": {"80/tcp": {}},
    "StopSignal": "SIGUSR1",
    "StopTimeout": 1,
    "Shell": ["/bin/sh"],
    "Healthcheck": {
        "Test": ["CMD", "true"], "Interval": 10**9, "Timeout": 10**9, "Retries": 2, "StartPeriod": 10**9,
        "StartInterval": 10**9,
    },
    "HostConfig": {
        "Annotations": {"a": "b"},
        "BlkioWeight": 0,
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["MKNOD"],
        "DeviceCgroupRules": ["c 42:* rmw"],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/mynull", "CgroupPermissions": "rwm"}],
        "Dns": ["192.0.2.53"],
        "ExtraHosts": ["a:192.0.2.1"],
        "Init": True,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "Memory": 64 << 20,
        "Mounts": [
            {"Type": "volume", "Source": "reference-volume", "Target": "/volume", "VolumeOptions": {"NoCopy": True}},
            {"Type": "tmpfs", "Target": "/tmpfs", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700}},
        ],
        "PidsLimit": 50,
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "SecurityOpt": ["no-new-privileges"],
        "Sysctls": {"net.ipv4.ip_forward": "1"},
        "Tmpfs": {"/other": "size=1m"},
        "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 128}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def container(daemon: Daemon, gantry: Client) -> Iterator[str]:
    name = "reference"
    gantry.run("volume", "create", "--label", "a=b", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "reference-volume")
    call(daemon.socket, "POST", f"/containers/create?name={name}", _CREATE)
    gantry.run("start", name)
    yield name
    gantry.run("rm", "-f", "-v", name)
    gantry.run("volume", "rm", "reference-volume")


@pytest.fixture(scope="module")
def exec_id(daemon: Daemon, container: str) -> str:
    made = call(daemon.socket, "POST", f"/containers/{container}/exec", {"Cmd": ["true"], "User": "root"})
    call(daemon.socket, "POST", f"/exec/{made['Id']}/start", {"Detach": True})
    return str(made["Id"])


def operations(container: str, exec_id: str) -> dict[str, str]:
    """What is asked, by the operation that it is."""
    return {
        "GET /containers/json": "/containers/json?all=1&size=1",
        "GET /containers/{id}/json": f"/containers/{container}/json?size=1",
        "GET /containers/{id}/top": f"/containers/{container}/top",
        "GET /containers/{id}/changes": f"/containers/{container}/changes",
        "GET /containers/{id}/stats": f"/containers/{container}/stats?stream=0&one-shot=1",
        "GET /exec/{id}/json": f"/exec/{exec_id}/json",
        "GET /info": "/info",
        "GET /version": "/version",
        "GET /system/df": "/system/df?verbose=1",
        "GET /volumes": "/volumes",
        "GET /volumes/{name}": "/volumes/reference-volume",
        "GET /networks": "/networks",
        "GET /networks/{id}": "/networks/bridge",
    }


def answers(daemon: Daemon, container: str, exec_id: str, version: tuple[int, int]) -> Iterator[tuple[str, str, Any]]:
    """(operation, name of what it answers with, the answer)."""
    for operation, target in operations(container, exec_id).items():
        yield operation, target, call(daemon.socket, "GET", f"/v{version[0]}.{version[1]}{target}")


def test_documented_fields_are_there(daemon: Daemon, container: str, exec_id: str) -> None:
    call(daemon.socket, "POST", "/build/prune")  # as on a daemon that has built nothing
    missing: set[str] = set()
    for operation, _, answer in answers(daemon, container, exec_id, NEWEST):
        missing.update(found for found in differences(operation, answer, NEWEST) if not found.endswith("!"))
    reference.compare("api-answers", missing)


@pytest.mark.parametrize("minor", [OLDEST[1], 30, 35, 40, 41, 42, 43, 44, 47, 48, 49, 51, 52, 53, NEWEST[1]])
def test_fields_are_of_their_types(daemon: Daemon, container: str, exec_id: str, minor: int) -> None:
    wrong = [
        f"{operation}: {found}"
        for operation, _, answer in answers(daemon, container, exec_id, (1, minor))
        for found in differences(operation, answer, (1, minor))
        if found.endswith("!")
    ]
    assert not wrong


def differences(operation: str, answer: Any, version: tuple[int, int]) -> set[str]:
    told = reference.load("engine-api")
    method, path = operation.split(" ")
    found = next(each for each in told["endpoints"] if (each["method"], each["path"]) == (method, path))
    checker = Checker(told["definitions"], version)
    checker.check(found["responses"]["200"]["schema"], answer, path)
    # A field that some element of a list, or some place of the same definition, has is there.
    return (checker.absent - checker.present) | checker.wrong


class Checker:
    """Walks an answer and its schema side by side."""

    def __init__(self, definitions: dict[str, Any], version: tuple[int, int]) -> None:
        self._definitions = definitions
        self._version = version
        self.absent: set[str] = set()
        self.present: set[str] = set()
        self.wrong: set[str] = set()

    def check(self, schema: dict[str, Any], value: Any, where: str) -> None:
        schema, where = self._whole(schema, where)
        kind = schema.get("type", "object" if schema.get("properties") else "")
        if value is None:
            return  # Go's nil of lists, maps and pointers
        if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (kind == "integer" and value is True)):
            self.wrong.add(f"{where} is {json.dumps(value)[:60]}, not {kind}!")
            return
        if kind == "array":
            for item in value:
                self.check(schema.get("items", {}), item, f"{where}[]")
        elif kind == "object":
            self._object(schema, value, where)

    def _object(self, schema: dict[str, Any], value: dict[str, Any], where: str) -> None:
        for name, told in schema.get("properties", {}).items():
            field = f"{where}.{name}"
            if name in value:
                self.present.add(field)
                self.check(told, value[name], field)
            elif self._applies(told):
                self.absent.add(field)
        if isinstance(inner := schema.get("additional_properties"), dict):
            for item in value.values():
                self.check(inner, item, f"{where}.*")

    def _applies(self, told: dict[str, Any]) -> bool:
        since = tuple(int(part) for part in told.get("since", "1.25").split("."))
        return since <= self._version

    def _whole(self, schema: dict[str, Any], where: str) -> tuple[dict[str, Any], str]:
        """A schema with what it refers to and is made of; definitions give their name to the place."""
        while "ref" in schema and "properties" not in schema:
            where, schema = schema["ref"], self._definitions[schema["ref"]]
        if "all_of" not in schema:
            return schema, where
        merged: dict[str, Any] = {}
        for part in [*(self._whole(part, where)[0] for part in schema["all_of"]), schema]:
            merged |= part | {"properties": merged.get("properties", {}) | part.get("properties", {})}
        del merged["all_of"]
        return merged, where


def test_the_checker_finds_differences() -> None:
    definitions = {
        "Base": {"type": "object", "properties": {"A": {"type": "string"}, "New": {"type": "string", "since": "1.50"}}},
        "All": {"all_of": [{"ref": "Base"}, {"properties": {"L": {"type": "array", "items": {"type": "integer"}}}}]},
    }
    checker = Checker(definitions, (1, 40))
    checker.check({"ref": "All"}, {"L": [1, "x"]}, "")
    assert checker.absent == {"All.A"}
    assert checker.wrong == {'All.L[] is "x", not integer!'}
