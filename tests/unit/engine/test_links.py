"""Links: their forms, what they bring into /etc/hosts and the environment."""

import msgspec
import pytest

from gantry.engine.links import Linked, environment, host_names, parse_link, renamed_links
from gantry.errors import InvalidArgument
from gantry.model.container import Container, ContainerConfig, HostConfig


def container(name: str, links: list[str] | None = None, **config: object) -> Container:
    return Container(
        id="0b44d34855c3" + "f" * 52, name=name, created_at=0, image_id="", image_ref="", platform="", path="", args=(),
        config=ContainerConfig(**config),  # type: ignore[arg-type]
        host_config=HostConfig(links=links), runtime="", driver="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("db", ("db", "db")),
        ("db:alias", ("db", "alias")),
        ("/db:/own/alias", ("db", "alias")),
    ],
)
def test_forms(text: str, found: tuple[str, str]) -> None:
    assert parse_link(text) == found


@pytest.mark.parametrize("text", ["", ":", ":a", "a:", "a:b:c"])
def test_bad_forms(text: str) -> None:
    with pytest.raises(InvalidArgument, match="bad format for links"):
        parse_link(text)


def test_names_of_a_line() -> None:
    assert host_names(container("tgt", hostname="h.example.com"), "db") == "db h.example.com tgt"
    assert host_names(container("tgt"), "tgt") == "tgt 0b44d34855c3"


def test_the_environment() -> None:
    target = container(
        "tgt",
        env=["FOO=bar", "HOME=/x", "PATH=/y", "BARE"],
        exposed_ports={"53/udp": {}, "8000-8002/tcp": {}, "5432": {}},
    )
    found = environment(container("own"), [Linked(target, "my-db", "172.17.0.2", "")])
    assert found == [
        "MY_DB_PORT=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_PORT_8000_TCP_START=tcp://172.17.0.2:8000",
        "MY_DB_PORT_8000_TCP_PORT_START=8000",
        "MY_DB_PORT_8000_TCP_END=tcp://172.17.0.2:8002",
        "MY_DB_PORT_8000_TCP_PORT_END=8002",
        *(
            line
            for port in (8000, 8001, 8002)
            for line in (
                f"MY_DB_PORT_{port}_TCP=tcp://172.17.0.2:{port}",
                f"MY_DB_PORT_{port}_TCP_ADDR=172.17.0.2",
                f"MY_DB_PORT_{port}_TCP_PORT={port}",
                f"MY_DB_PORT_{port}_TCP_PROTO=tcp",
            )
        ),
        "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
        "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_NAME=/own/my-db",
        "MY_DB_ENV_FOO=bar",
    ]


def test_links_follow_new_names() -> None:
    made = container("own", ["/tgt:/own/db", "/other:/own/o"])
    changed = renamed_links(made, "tgt", "new")
    assert changed is not None
    assert changed.links == ["/new:/own/db", "/other:/own/o"]
    own = renamed_links(made, "own", "mine")
    assert own is not None
    assert own.links == ["/tgt:/mine/db", "/other:/mine/o"]
    assert renamed_links(made, "nobody", "x") is None
    assert renamed_links(msgspec.structs.replace(made, host_config=HostConfig()), "own", "x") is None
