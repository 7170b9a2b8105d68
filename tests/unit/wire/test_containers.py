"""Requests to create, and the words of `ps`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.model import timestamp
from gantry.model.container import Container, ContainerConfig, HostConfig, Phase, Status
from gantry.wire.containers import human_duration, inspect, status_text, summary
from gantry.wire.create import decode_create
from gantry.wire.times import duration, moment


def container(**status: object) -> Container:
    return Container(
        id="a" * 64, name="web", created_at=1, image_id="sha256:" + "b" * 64, image_ref="busybox", platform="linux",
        path="sh", args=("-c", "x"), config=ContainerConfig(), host_config=HostConfig(network_mode="bridge"),
        runtime="crun", driver="overlay2", status=Status(**status),  # type: ignore[arg-type]
    )  # fmt: skip


def test_create_body_takes_nulls_and_strings() -> None:
    body = {
        "Image": "busybox", "Cmd": "true", "Env": None, "Labels": None, "MacAddress": "02:42:00:00:00:01",
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}, "MemorySwappiness": -1, "PidsLimit": None},
        "NetworkingConfig": None,
    }  # fmt: skip
    config, host, endpoints, _ = decode_create(json.dumps(body).encode())
    assert config.cmd == ["true"]
    assert host.port_bindings is not None
    assert host.port_bindings["80/tcp"][0].host_port == "8080"  # type: ignore[index]
    assert endpoints["bridge"].mac_address == "02:42:00:00:00:01"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"Tty":"yes"}', b'{"HostConfig":{"Memory":"1g"}}', b"5"])
def test_bad_bodies(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_create(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["Cmd", "HostConfig", "Binds", "Env", "NetworkingConfig", "EndpointsConfig", "Memory"]),
                x,
            )
        ),
    )
)
def test_any_json_is_decoded_or_refused(value: object) -> None:
    try:
        decode_create(json.dumps(value).encode())
    except InvalidArgument:
        return


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (61, "About a minute"), (150, "2 minutes"),
        (3600, "About an hour"), (7200, "2 hours"), (3 * 86400, "3 days"), (20 * 86400, "2 weeks"),
        (90 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words


def test_status_words() -> None:
    now = timestamp.now()
    assert status_text(container()) == "Created"
    assert status_text(container(phase=Phase.RUNNING, started_at=now - 5 * 10**9)) == "Up 5 seconds"
    assert status_text(container(phase=Phase.PAUSED, started_at=now - 5 * 10**9)) == "Up 5 seconds (Paused)"
    ended = container(phase=Phase.EXITED, exit_code=3, finished_at=now - 120 * 10**9)
    assert status_text(ended) == "Exited (3) 2 minutes ago"


def test_documents_are_json() -> None:
    one = container(phase=Phase.RUNNING, pid=7)
    assert json.loads(json.dumps(summary(one, {}, (1, 50))))["Names"] == ["/web"]
    shown = json.loads(json.dumps(inspect(one, {}, [], (1, 41), directory="/d", graph={})))
    assert shown["State"]["Pid"] == 7
    assert shown["NetworkSettings"]["IPAddress"] == ""
    assert "IPAddress" not in inspect(one, {}, [], (1, 52), directory="/d", graph={})["NetworkSettings"]


def test_times_in_requests() -> None:
    assert moment("1700000000.5") == 1_700_000_000_500_000_000
    assert moment("1970-01-01T00:00:01Z") == 10**9
    assert abs(timestamp.now() - moment("1m") - 60 * 10**9) < 5 * 10**9
    assert duration("1h30m") == 5400 * 10**9
    for text in ("soon", "", "10", "-1s"):
        with pytest.raises(InvalidArgument):
            duration(text)
