"""Whatever JSON comes to `/containers`, `/exec` and `/volumes`: an answer, never a 500, no traceback, nothing left."""

import json
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gantry.api.execs import ExecOptions
from gantry.model.container import ContainerConfig, HostConfig
from gantry.model.network import EndpointSettings
from gantry.wire.volumes import VolumeCreate
from lib.daemon import BIN, Client, Daemon
from lib.engine_api import UnixConnection
from lib.machine import Machine

_NUMBERS = st.one_of(
    st.integers(-3, 70), st.sampled_from([2**15, 2**16, 2**31, 2**32, 2**63 - 1, -(2**63), 2**64, 10**30])
)
_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "busybox", "/", "..", "../../etc", "a" * 300, "\0", "0", "-1", "host", "none", "bridge", "container:x",
         "80/tcp", "a:b:c", "a=b", "=", "true", "ALL", "{}", "[]", "\udc80".encode(errors="surrogatepass").decode("latin1")]
    ),
)  # fmt: skip
_SCALARS = st.one_of(st.none(), st.booleans(), _NUMBERS, st.floats(allow_nan=False, allow_infinity=False), _TEXTS)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)),
    max_leaves=6,
)


def _of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    arguments = [each for each in typing.get_args(kind) if each is not type(None)]
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return body(kind)
    if kind is bool:
        return st.booleans()
    if kind is int:
        return _NUMBERS
    if kind is str:
        return _TEXTS
    if origin is list:
        return st.lists(_of(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(_TEXTS, _of(arguments[1]), max_size=2)
    return st.one_of([_of(each) for each in arguments]) if arguments else _JSON


def body(struct: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the fields, most of them of the right type, some of any."""
    fields = [(field.encode_name, field.type) for field in msgspec.structs.fields(struct)]
    pairs = st.sampled_from(fields).flatmap(
        lambda field: st.tuples(st.just(field[0]), st.one_of(_of(field[1]), _of(field[1]), _JSON))
    )
    return st.lists(pairs, max_size=5).map(dict)


_CREATE = st.builds(
    lambda config, host, networking, extra: {"Image": "busybox", "Cmd": ["true"]} | config | host | networking | extra,
    body(ContainerConfig).filter(lambda config: config.pop("Image", "") is not ...),
    st.one_of(st.just({}), st.builds(lambda host: {"HostConfig": host}, st.one_of(body(HostConfig), _JSON))),
    st.one_of(
        st.just({}),
        st.builds(
            lambda endpoints: {"NetworkingConfig": {"EndpointsConfig": endpoints}},
            st.one_of(st.dictionaries(_TEXTS, body(EndpointSettings), max_size=2), _JSON),
        ),
    ),
    st.one_of(st.just({}), st.dictionaries(_TEXTS, _JSON, max_size=2)),
)
_FILTERS = st.one_of(
    _JSON,
    st.dictionaries(
        st.sampled_from(
            ["label", "label!", "until", "all", "dangling", "name", "status", "exited", "before", "volume", "publish",
             "network", "health", "ancestor", "is-task", "driver", "bogus"]
        ),
        st.one_of(st.lists(_TEXTS, max_size=2), st.dictionaries(_TEXTS, st.booleans(), max_size=2)),
        max_size=2,
    ),
)  # fmt: skip
_BODIES = {
    "POST /containers/{id}/update": st.one_of(body(HostConfig), _JSON),
    "POST /containers/{id}/exec": st.one_of(body(ExecOptions), _JSON),
    "POST /exec/{exec}/start": st.one_of(st.builds(lambda more: {"Detach": True} | more, body(ExecOptions)), _JSON),
    "POST /commit?container={id}&repo=random/json": st.one_of(body(ContainerConfig), _JSON),
    "POST /volumes/create": st.one_of(body(VolumeCreate), _JSON),
    "PUT /volumes/random": _JSON,
}
_QUERIES: dict[str, tuple[str, ...]] = {
    "GET /containers/json": ("limit", "all", "size"),
    "GET /containers/{id}/json": ("size",),
    "GET /containers/{id}/top": ("ps_args",),
    "GET /containers/{id}/logs": ("stdout", "stderr", "since", "until", "tail", "timestamps"),
    "GET /containers/{id}/changes": (),
    "GET /containers/{id}/archive": ("path",),
    "HEAD /containers/{id}/archive": ("path",),
    "POST /containers/{id}/resize": ("h", "w"),
    "POST /containers/{id}/rename": ("name",),
    "POST /containers/{other}/kill": ("signal",),
    "POST /containers/{other}/wait": ("condition",),
    "POST /containers/{other}/stop": ("t", "signal"),
    "DELETE /containers/{random}": ("v", "force", "link"),
    "DELETE /volumes/{random}": ("force",),
    "GET /volumes/{random}": (),
    "GET /exec/{random}/json": (),
}


class Target:
    """A daemon of its own with one running container."""

    def __init__(self, daemon: Daemon, container: str, stopped: str, execution: str) -> None:
        self.daemon = daemon
        self.names = {"id": container, "other": stopped, "exec": execution}

    def call(self, operation: str, data: Any = None, *, query: str = "", random: str = "") -> tuple[int, Any]:
        method, path = operation.split(" ", 1)
        path = path.format(**self.names, random=quote(random, safe=""))
        if query:
            path += ("&" if "?" in path else "?") + query
        connection = UnixConnection(self.daemon.socket, timeout=60)
        try:
            headers = {} if data is None else {"Content-Type": "application/json"}
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        shown = f"{method} {path} {data!r}: {answer.status} {content[:500]!r}"
        assert answer.status != 500, shown
        assert "Traceback" not in self.daemon.log.read_text(), shown
        try:
            return answer.status, json.loads(content) if content else None
        except ValueError:
            assert answer.status < 300, shown  # an error is always JSON
            return answer.status, None


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    before = Machine.look()
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp")))
    daemon.start()
    client = Client(str(BIN / "gantry"), daemon.host, daemon.directory)
    try:
        client.run("image", "bootstrap", "busybox", "-t", "busybox:latest")
        container = client.out("run", "-d", "--network", "none", "busybox", "sleep", "3600")
        stopped = client.out("create", "--network", "none", "busybox", "true")
        made = Target(daemon, container, stopped, "")
        _, execution = made.call("POST /containers/{id}/exec", b'{"Cmd":["true"]}')
        made.names["exec"] = execution["Id"]
        yield made
        client.run("rm", "-f", "-v", container, stopped)
        assert client.out("ps", "-aq") == ""
        left = list((daemon.data_root / "containers").iterdir())
        assert not left, f"left of containers: {left}"
    finally:
        daemon.clean()
    added = Machine.look().added_since(before)
    ours = {kind: [each for each in found if str(daemon.directory) in each] for kind, found in added.items()}
    assert not any(ours.values()), ours


_MANY = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@_MANY
@given(name=st.one_of(st.just(""), _TEXTS), data=st.one_of(_CREATE, _JSON))
def test_create(target: Target, name: str, data: Any) -> None:
    query = urlencode({"name": name}, errors="surrogatepass") if name else ""
    status, answer = target.call("POST /containers/create", _encoded(data), query=query)
    if status == 201:
        target.call("DELETE /containers/{random}", query="force=1&v=1", random=answer["Id"])
    volumes = target.call("GET /volumes")[1]["Volumes"] or []
    for volume in volumes:  # named ones stay, as they should; anonymous ones went with their container
        assert not (len(volume["Name"]) == 64 and "com.docker.volume.anonymous" in (volume["Labels"] or {}))
        target.call("DELETE /volumes/{random}", random=volume["Name"])


@_MANY
@given(operation=st.sampled_from(sorted(_BODIES)), data=st.data())
def test_bodies(target: Target, operation: str, data: st.DataObject) -> None:
    value = data.draw(_BODIES[operation])
    status, answer = target.call(operation, _encoded(value))
    if operation == "POST /volumes/create" and status == 201:
        target.call("DELETE /volumes/{random}", random=answer["Name"])


@_MANY
@given(operation=st.sampled_from(sorted(_QUERIES)), data=st.data())
def test_queries(target: Target, operation: str, data: st.DataObject) -> None:
    query = {name: data.draw(_TEXTS) for name in _QUERIES[operation] if data.draw(st.booleans())}
    random = data.draw(_TEXTS.filter(bool)) if "{random}" in operation else ""
    if operation.endswith("/logs"):
        query.pop("follow", None)
    if operation == "POST /containers/{other}/wait":
        query["condition"] = query.get("condition") or "not-running"  # the others wait for what does not come
        if query["condition"] in ("next-exit", "removed"):
            return
    target.call(operation, query=urlencode(query, errors="surrogatepass"), random=random)


@_MANY
@given(
    operation=st.sampled_from(
        ["GET /containers/json", "POST /containers/prune", "GET /volumes", "POST /volumes/prune"]
    ),
    filters=_FILTERS,
)
def test_filters(target: Target, operation: str, filters: Any) -> None:
    if operation == "POST /containers/prune":
        # The container that other tests look at stays.
        filters = {**(filters if isinstance(filters, dict) else {}), "label": ["only=this"]}
    target.call(operation, query=urlencode({"filters": json.dumps(filters)}))


@settings(_MANY, max_examples=60)
@given(data=st.binary(max_size=60))
@pytest.mark.parametrize("operation", ["POST /containers/create", "POST /containers/{id}/exec", "POST /volumes/create"])
def test_bytes_that_are_no_json(target: Target, operation: str, data: bytes) -> None:
    status, answer = target.call(operation, b"\x01" + data)
    assert status == 400
    assert answer["message"]


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
