from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.daemon.flags import help_text, parse
from gantry.errors import InvalidArgument


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["--debug"], {"debug": True}),
        (["-D", "-l", "warn"], {"debug": True, "log-level": "warn"}),
        (["-Dlwarn"], {"debug": True, "log-level": "warn"}),
        (["-D=false", "-l=warn"], {"debug": False, "log-level": "warn"}),
        (["--icc=0", "--mtu", "-5"], {"icc": False, "mtu": -5}),
        (["-H", "unix:///a", "--host=tcp://b"], {"hosts": ["unix:///a", "tcp://b"]}),
        (["-Hfd://"], {"hosts": ["fd://"]}),
        (["--dns", "1.1.1.1", "--dns=::1"], {"dns": ["1.1.1.1", "::1"]}),
        (["--log-opt", "max-size=1m", "--log-opt=a=b=c"], {"log-opts": {"max-size": "1m", "a": "b=c"}}),
        (["--add-runtime", "x=/usr/bin/x"], {"runtimes": {"x": {"path": "/usr/bin/x"}}}),
        (
            ["--default-ulimit", "nofile=10:20"],
            {"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}}},
        ),
        (
            ["--default-address-pool", "base=10.0.0.0/8,size=24"],
            {"default-address-pools": [{"base": "10.0.0.0/8", "size": 24}]},
        ),
        (["--default-network-opt", "bridge=a=b"], {"default-network-opts": {"bridge": {"a": "b"}}}),
        (["--http-proxy", "http://p"], {"proxies.http-proxy": "http://p"}),
        (["--"], {}),
    ],
)
def test_flags(arguments: list[str], values: dict[str, Any]) -> None:
    assert parse(arguments).values == values


def test_flags_that_are_no_options() -> None:
    line = parse(["--validate", "--config-file=/x", "-v", "-h"])
    assert (line.validate, line.config_file, line.version, line.help) == (True, "/x", True, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-Q"], "unknown shorthand flag: 'Q' in -Q"),
        (["-DQ"], "unknown shorthand flag: 'Q' in -DQ"),
        (["--mtu"], "flag needs an argument: --mtu"),
        (["-l"], "flag needs an argument: 'l' in -l"),
        (["arg"], '"gantryd" accepts no arguments.'),
        (["--debug", "false"], '"gantryd" accepts no arguments.'),
        (["--mtu", "abc"], 'invalid argument "abc" for "--mtu" flag: strconv.ParseInt: parsing "abc": invalid syntax'),
        (
            ["--debug=x"],
            'invalid argument "x" for "-D, --debug" flag: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (["--add-runtime", "x"], 'invalid argument "x" for "--add-runtime" flag: invalid runtime argument: x'),
        (
            ["--add-runtime", "runc=/x"],
            'invalid argument "runc=/x" for "--add-runtime" flag: runtime name \'runc\' is reserved',
        ),
        (["--label", "x"], 'invalid argument "x" for "--label" flag: bad attribute format: x'),
        (["--dns", "x"], 'invalid argument "x" for "--dns" flag: x is not an ip address'),
        (
            ["--default-address-pool", "base=10.0.0.0/8,sze=24"],
            (
                'invalid argument "base=10.0.0.0/8,sze=24" for "--default-address-pool" flag: '
                "unexpected key 'sze' in 'sze=24'"
            ),
        ),
        (
            ["--default-ulimit", "nofile=zz"],
            'invalid argument "nofile=zz" for "--default-ulimit" flag: strconv.ParseInt: parsing "zz": invalid syntax',
        ),
    ],
)
def test_bad_flags(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(arguments)
    assert caught.value.message == message


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_command_line_is_read_or_refused(arguments: list[str]) -> None:
    try:
        parse(arguments)
    except InvalidArgument as error:
        assert error.message  # noqa: PT017


def test_help_names_every_flag_once() -> None:
    text = help_text()
    assert text.count("--data-root ") == 1
    assert "-H, --host list" in text
