"""The daemon dies at every named point of every operation; the next one finds nothing lost and leaves nothing behind.

Each operation is run once to see which points it passes (`gantry.faults`), then once for each point, where the daemon
kills itself. A new one starts on the same directories, the machine is held against the database, and the operation
must have been finished or undone. By default each point is tried once, with the first operation that passes it, and each
operation at least once; with `GANTRY_FAULTS_ALL=1` every point of every operation, each time it is passed.
"""

import contextlib
import http.client
import os
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lib.daemon import Daemon
from lib.engine_api import call, make_busybox
from lib.inventory import differences

EVERYTHING = bool(os.environ.get("GANTRY_FAULTS_ALL"))
_SETTLED = 5.0  # seconds for what a new daemon does in the background: restarts, namespaces that end
_OP = "/containers/op"


class Api:
    """One daemon's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, method: str, target: str, body: Any = None) -> Any:
        return call(self.path, method, target, body)

    def status(self, target: str) -> int:
        """200 or 404."""
        answer = call(self.path, "GET", target, expect=(200, 404))
        return 404 if set(answer) == {"message"} else 200

    def create(self, name: str = "op", **host: Any) -> None:
        body = {
            "Image": "busybox", "Cmd": ["sleep", "1000"], "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}, **host},
        }  # fmt: skip
        self("POST", f"/containers/create?name={name}", body)

    def run(self, name: str = "op", **host: Any) -> None:
        self.create(name, **host)
        self("POST", f"/containers/{name}/start")

    def state(self, name: str = "op") -> dict[str, Any]:
        found: dict[str, Any] = self("GET", f"/containers/{name}/json")["State"]
        return found

    def runs(self, name: str = "op") -> None:
        """It really does: something can be executed in it."""
        made = self("POST", f"/containers/{name}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        self("POST", f"/exec/{made}/start", {})
        assert self("GET", f"/exec/{made}/json")["ExitCode"] == 0


class Operation(NamedTuple):
    """What is there before, what is asked for, and what must be true afterwards (finished or undone)."""

    name: str
    before: Callable[[Api], None]
    act: Callable[[Api], None]
    after: Callable[[Api], None]


def _nothing(api: Api) -> None:
    """Nothing is needed."""


def _image_tar() -> bytes:
    """What `image load` is given: an image that the store does not have."""
    import hashlib
    import json
    import tarfile

    layer = BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("loaded")
        entry.size = 4
        archive.addfile(entry, BytesIO(b"here"))
    data = layer.getvalue()
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/loaded"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": ["loaded:latest"], "Layers": ["layer.tar"]}]
    return _tar({
        "config.json": json.dumps(config).encode(), "layer.tar": data, "manifest.json": json.dumps(manifest).encode(),
    })  # fmt: skip


def _tar(files: dict[str, bytes]) -> bytes:
    import tarfile

    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, BytesIO(data))
    return out.getvalue()


def _alive_or_ended(api: Api) -> None:
    state = api.state()
    assert state["Status"] in ("running", "exited", "created"), state
    if state["Running"]:
        api.runs()


def _running(api: Api) -> None:
    deadline = time.monotonic() + _SETTLED  # a new daemon starts what should run in the background
    while (status := api.state()["Status"]) != "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == "running"
    api.runs()


def _created(api: Api) -> None:
    there = api.status(f"{_OP}/json") == 200
    assert len(api("GET", "/volumes")["Volumes"]) == int(there), "the anonymous volume goes with its container"
    if there:
        api("POST", f"{_OP}/start")
        api.runs()


def _removed(api: Api) -> None:
    there = api.status(f"{_OP}/json") == 200
    assert len(api("GET", "/volumes")["Volumes"]) == int(there)
    if there:
        assert api.state()["Status"] in ("running", "exited")


def _pruned(api: Api) -> None:
    for name in ("op", "op2"):
        if api.status(f"/containers/{name}/json") == 200:
            api("POST", f"/containers/{name}/start")
            api.runs(name)


def _renamed(api: Api) -> None:
    assert sorted((api.status(f"{_OP}/json"), api.status("/containers/op2/json"))) == [200, 404]


def _updated(api: Api) -> None:
    assert api("GET", f"{_OP}/json")["HostConfig"]["RestartPolicy"]["Name"] in ("no", "always")
    _running(api)


def _paused(api: Api) -> None:
    if api.state()["Paused"]:
        api("POST", f"{_OP}/unpause")
    _running(api)


def _usable(image: str) -> Callable[[Api], None]:
    """The image is not there at all, or can be used."""

    def check(api: Api) -> None:
        if api.status(f"/images/{image}/json") == 200:
            api("POST", "/containers/create?name=used", {"Image": image, "Cmd": ["sleep", "1"]})

    return check


def _committed(api: Api) -> None:
    _running(api)
    _usable("committed")(api)


def _networks(api: Api) -> None:
    _running(api)
    found = api("GET", f"{_OP}/json")["NetworkSettings"]["Networks"]
    assert set(found) in ({"bridge"}, {"bridge", "opnet"})
    assert all(each["IPAddress"] for each in found.values())
    users = api("GET", "/networks/opnet")["Containers"] or {}
    assert len(users) == int("opnet" in found)


def _exec(api: Api) -> None:
    made = api("POST", f"{_OP}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
    api("POST", f"/exec/{made}/start", {})


def _with_network(api: Api) -> None:
    api("POST", "/networks/create", {"Name": "opnet"})
    api.run()


def _connected(api: Api) -> None:
    _with_network(api)
    api("POST", "/networks/opnet/connect", {"Container": "op"})


_DOCKERFILE = _tar({"Dockerfile": b"FROM busybox\nRUN echo made > /made\nCOPY Dockerfile /copied\n"})

OPERATIONS = [
    Operation("create", _nothing, lambda api: api.create(), _created),
    Operation("start", lambda api: api.create(), lambda api: api("POST", f"{_OP}/start"), _alive_or_ended),
    Operation("stop", lambda api: api.run(), lambda api: api("POST", f"{_OP}/stop?t=0"), _alive_or_ended),
    Operation("kill", lambda api: api.run(), lambda api: api("POST", f"{_OP}/kill"), _alive_or_ended),
    Operation("restart", lambda api: api.run(), lambda api: api("POST", f"{_OP}/restart?t=0"), _running),
    Operation("pause", lambda api: api.run(), lambda api: api("POST", f"{_OP}/pause"), _paused),
    Operation("unpause", lambda api: (api.run(), api("POST", f"{_OP}/pause"))[0],
              lambda api: api("POST", f"{_OP}/unpause"), _paused),
    Operation("rename", lambda api: api.create(), lambda api: api("POST", f"{_OP}/rename?name=op2"), _renamed),
    Operation("update", lambda api: api.run(),
              lambda api: api("POST", f"{_OP}/update", {"RestartPolicy": {"Name": "always"}}), _updated),
    Operation("exec", lambda api: api.run(), _exec, _running),
    Operation("remove", lambda api: api.run(), lambda api: api("DELETE", f"{_OP}?force=1&v=1"), _removed),
    Operation("prune", lambda api: (api.create(), api.create("op2"))[0],
              lambda api: api("POST", "/containers/prune"), _pruned),
    Operation("commit", lambda api: api.run(), lambda api: api("POST", "/commit?container=op&repo=committed"),
              _committed),
    Operation("cp in", lambda api: api.create(),
              lambda api: api("PUT", f"{_OP}/archive?path=/tmp", _tar({"f": b"x"})), _alive_or_ended),
    Operation("cp out", lambda api: api.create(), lambda api: api("GET", f"{_OP}/archive?path=/bin/sh"),
              _alive_or_ended),
    Operation("image load", _nothing, lambda api: api("POST", "/images/load", _image_tar()), _usable("loaded")),
    Operation("image remove", lambda api: api("POST", "/images/load", _image_tar()),
              lambda api: api("DELETE", "/images/loaded"), _usable("loaded")),
    Operation("build", _nothing, lambda api: api("POST", "/build?t=built", _DOCKERFILE), _usable("built")),
    Operation("volume create", _nothing, lambda api: api("POST", "/volumes/create", {"Name": "opvolume"}), _nothing),
    Operation("volume remove", lambda api: api("POST", "/volumes/create", {"Name": "opvolume"}),
              lambda api: api("DELETE", "/volumes/opvolume"), _nothing),
    Operation("network create", _nothing, lambda api: api("POST", "/networks/create", {"Name": "opnet"}), _nothing),
    Operation("network remove", lambda api: api("POST", "/networks/create", {"Name": "opnet"}),
              lambda api: api("DELETE", "/networks/opnet"), _nothing),
    Operation("network connect", _with_network,
              lambda api: api("POST", "/networks/opnet/connect", {"Container": "op"}), _networks),
    Operation("network disconnect", _connected,
              lambda api: api("POST", "/networks/opnet/disconnect", {"Container": "op"}), _networks),
]  # fmt: skip


class Bench:
    """One data root, and daemons that die on it."""

    def __init__(self, directory: Path) -> None:
        self._faults = directory / "faults"
        self._faults.mkdir()
        self.daemon = Daemon(directory)
        self.daemon.environment = {"GANTRY_FAULTS": str(self._faults)}
        self.api = Api(self.daemon.socket)
        self.tried: set[str] = set()
        self.table: list[tuple[str, int, int]] = []

    def points(self, operation: Operation) -> list[str]:
        """What the operation passes when nothing happens, as NAME#N."""
        operation.before(self.api)
        self.arm("")
        operation.act(self.api)
        passed = (self._faults / "passed").read_text().split("\n")[:-1]
        self.settle()
        self.clear()
        counts: dict[str, int] = {}
        found = []
        for name in passed:
            counts[name] = counts.get(name, 0) + 1
            found.append(f"{name}#{counts[name]}")
        return found

    def choose(self, points: list[str]) -> list[str]:
        if EVERYTHING:
            return points
        fresh = [point for point in points if point.endswith("#1") and point not in self.tried]
        known = [point for point in points if point.endswith("#1") and point in self.tried]
        return fresh or known[len(known) // 2 :][:1]

    def try_all(self, operation: Operation) -> list[str]:
        """Kill at each point; what went wrong, in words."""
        problems: list[str] = []
        chosen = self.choose(self.points(operation))
        for point in chosen:
            problems += [f"{operation.name} at {point}: {problem}" for problem in self.try_one(operation, point)]
        problems += [f"{operation.name}, afterwards: {problem}" for problem in self.settle()]
        self.tried.update(chosen)
        self.table.append((operation.name, len(chosen), len(problems)))
        return problems

    def try_one(self, operation: Operation, point: str) -> list[str]:
        operation.before(self.api)
        self.arm(point)
        with contextlib.suppress(OSError, http.client.HTTPException):  # the daemon dies before it answers
            operation.act(self.api)
        died = self.daemon.died(2)
        self.arm("")
        if not died:
            self.settle()
            self.clear()
            # What the daemon writes down in the background by itself may have been taken for a point of this operation.
            return [] if point.startswith("state.") else ["the daemon did not come by"]
        self.daemon.start()
        found = self.settle()
        try:
            operation.after(self.api)
        except AssertionError as error:
            found.append(f"neither finished nor undone: {error}")
        self.clear()
        return found

    def arm(self, point: str) -> None:
        (self._faults / "passed").unlink(missing_ok=True)
        (self._faults / "kill").write_text(point)

    def settle(self) -> list[str]:
        """Wait until machine and database agree; what still differs after some seconds."""
        deadline = time.monotonic() + _SETTLED
        while (found := differences(self.daemon)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def clear(self) -> None:
        """Everything but the base image goes."""
        api = self.api
        for container in api("GET", "/containers/json?all=1"):
            call(api.path, "DELETE", f"/containers/{container['Id']}?force=1&v=1", expect=(204, 404, 409))
        for volume in api("GET", "/volumes")["Volumes"]:
            api("DELETE", f"/volumes/{volume['Name']}")
        for network in api("GET", "/networks"):
            if network["Name"] == "opnet":
                api("DELETE", "/networks/opnet")
        for image in api("GET", "/images/json?all=1"):
            if "busybox:latest" not in image["RepoTags"]:
                call(api.path, "DELETE", f"/images/{image['Id']}?force=1", expect=(200, 404))
        api("POST", "/build/prune?all=1")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp"))
    made = Bench(directory)
    made.daemon.start()
    make_busybox(made.daemon.socket)
    yield made
    if made.daemon.died(0):
        made.daemon.start()
    made.clear()
    made.daemon.clean()
    shutil.rmtree(directory, ignore_errors=True)
    width = max(len(name) for name, _, _ in made.table)
    print(f"\n{'operation':{width}}  kill points  leaks found")
    for name, points, leaks in made.table:
        print(f"{name:{width}}  {points:11}  {leaks:11}")


@pytest.mark.parametrize("operation", OPERATIONS, ids=[each.name.replace(" ", "-") for each in OPERATIONS])
def test_nothing_is_lost_or_left_when_the_daemon_dies(bench: Bench, operation: Operation) -> None:
    assert bench.try_all(operation) == []
