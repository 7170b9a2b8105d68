import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.daemon import options
from gantry.daemon.config import Config, load, parse_size, read_file
from gantry.daemon.flags import parse
from gantry.errors import InvalidArgument


def configure(tmp_path: Path, document: Any, *arguments: str) -> Config:
    path = tmp_path / "daemon.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return load(parse(["--config-file", str(path), *arguments]))


def test_defaults_are_docker_s(tmp_path: Path) -> None:
    config = load(parse([]), tmp_path / "missing.json")
    assert (config.data_root, config.exec_root) == ("/var/lib/gantry", "/run/gantry")
    assert (config.log_driver, config.shm_size, config.mtu, config.shutdown_timeout) == (
        "json-file",
        64 << 20,
        1500,
        15,
    )
    assert config.icc
    assert config.ip_masq
    assert str(config.pid_path) == "/run/gantry/gantryd.pid"
    assert config.instance.name == "gantry"


def test_file_and_flags_meet(tmp_path: Path) -> None:
    config = configure(
        tmp_path,
        {"runtimes": {"a": {"path": "/a", "runtimeArgs": ["-x"]}}, "debug": True, "proxies": {"no-proxy": "b"}},
        "--add-runtime=b=/b",
        "--label=x=y",
        "--http-proxy=p",
    )
    assert {name: (runtime.path, runtime.runtime_args) for name, runtime in config.runtimes.items()} == {
        "a": ("/a", ("-x",)),
        "b": ("/b", ()),
    }
    assert config.debug
    assert config.labels == ("x=y",)
    assert config.proxies == {"no-proxy": "b", "http-proxy": "p"}


@pytest.mark.parametrize("document", ["", "{}", " \n", '{"debug":null}'])
def test_an_empty_file_says_nothing(tmp_path: Path, document: str) -> None:
    assert configure(tmp_path, document) == Config()


@pytest.mark.parametrize(
    ("document", "arguments", "message"),
    [
        ({"x": 1}, [], "the following directives don't match any configuration option: x"),
        ({"proxies": {"z": "1"}}, [], "the following directives don't match any configuration option: z"),
        (
            {"debug": True},
            ["--debug"],
            (
                "the following directives are specified both as a flag and in the configuration file: "
                "debug: (from flag: true, from file: true)"
            ),
        ),
        (
            {"labels": ["a=b"]},
            ["--label=c=d"],
            (
                "the following directives are specified both as a flag and in the configuration file: "
                "labels: (from flag: [c=d], from file: [a=b])"
            ),
        ),
        (
            {"debug": "a"},
            [],
            "invalid JSON: json: cannot unmarshal string into Go struct field Config.debug of type bool",
        ),
        ({"mtu": "x"}, [], "invalid JSON: json: cannot unmarshal string into Go struct field Config.mtu of type int"),
        (
            {"data-root": 5},
            [],
            "invalid JSON: json: cannot unmarshal number into Go struct field Config.data-root of type string",
        ),
        ([], [], "invalid JSON: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ({"log-level": "zz"}, [], "invalid logging level: zz"),
        ({"mtu": -1}, [], "invalid default MTU: -1"),
        ({"publish-policy": "filtered"}, [], 'publish-policy "filtered" is not supported'),
        ({"dns": ["x"]}, [], "invalid IP address: x"),
        ({"exec-opts": ["x=y"]}, [], "invalid exec-opt (x=y): unknown option: 'x'"),
        ({"storage-driver": "vfs"}, [], 'driver "vfs" not supported'),
        ({"data-root": "x"}, [], "data-root must be an absolute path: x"),
        ("{bad", [], "invalid JSON: "),
        ("[" * 100_000, [], "invalid JSON: "),
    ],
)
def test_bad_files(tmp_path: Path, document: Any, arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        configure(tmp_path, document, *arguments)
    start = f"unable to configure the Docker daemon with file {tmp_path}/daemon.json: "
    assert caught.value.message.startswith(start)
    assert message in caught.value.message


def test_a_named_file_must_exist() -> None:
    with pytest.raises(InvalidArgument, match=r"with file /nope.json: open /nope.json: no such file or directory"):
        load(parse(["--config-file=/nope.json"]))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--log-level=zz", "invalid logging level: zz"),
        ("--max-concurrent-downloads=-1", "invalid max concurrent downloads: -1"),
        ("--publish-policy=x", 'invalid publish-policy "x": must be "open"'),
        ("--registry-mirror=x", 'no scheme specified for "x": must use either'),
        ("--selinux-enabled", "selinux-enabled cannot be set: SELinux labels are not supported"),
    ],
)
def test_bad_flags(tmp_path: Path, flag: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load(parse([flag]), tmp_path / "missing")
    assert message in caught.value.message


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    assert configure(tmp_path, {"raw-logs": True}).warnings == ("raw-logs has no effect: the log never has colours",)
    assert configure(tmp_path, {"raw-logs": False}).warnings == ()


def test_every_option_is_honoured_refused_or_warned_about() -> None:
    honoured = {field.encode_name for field in msgspec.structs.fields(Config)}
    for option in options.OPTIONS:
        places = [
            option.key.partition(".")[0] in honoured,
            option.key in options.REFUSED,
            option.key in options.WITHOUT_EFFECT,
        ]
        renamed = option.key == "host-gateway-ip"
        assert sum(places) == (0 if renamed else 1), option.key


@pytest.mark.parametrize(
    ("text", "size"), [("64m", 64 << 20), ("64MiB", 64 << 20), ("1.5k", 1536), ("7", 7), (9, 9), ("2 GB", 2 << 30)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@given(st.text(max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("c") / "daemon.json"
    path.write_text(text, "utf-8")
    try:
        assert isinstance(read_file(path), dict)
    except InvalidArgument as error:
        assert "\n" not in error.message  # noqa: PT017
