"""Challenges, tokens and credentials."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.errors import InvalidArgument, Unauthorized
from gantry.registry.auth import Challenge, Credentials, challenges, decode_token, merge_scopes

_NAMES = st.sampled_from(["realm", "service", "scope", "error"])
_VALUES = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.lists(st.tuples(st.sampled_from(["bearer", "basic"]), st.dictionaries(_NAMES, _VALUES)), max_size=3))
def test_every_challenge_is_read(wanted: list[tuple[str, dict[str, str]]]) -> None:
    values = []
    for scheme, parameters in wanted:
        quoted = [
            name + '="' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for name, value in parameters.items()
        ]
        values.append(f"{scheme.title()} {','.join(quoted)}".rstrip())
    assert challenges(values) == [Challenge(scheme, parameters) for scheme, parameters in wanted]


@given(st.lists(st.text(max_size=200), max_size=3))
def test_no_header_breaks_the_parser(values: list[str]) -> None:
    for challenge in challenges(values):
        assert challenge.scheme == challenge.scheme.lower()


def test_several_challenges_in_one_header() -> None:
    header = 'Basic realm="a b", Bearer realm="https://t/",service=x ,scope="repository:a/b:pull,push"'
    assert challenges([header]) == [
        Challenge("basic", {"realm": "a b"}),
        Challenge("bearer", {"realm": "https://t/", "service": "x", "scope": "repository:a/b:pull,push"}),
    ]


@pytest.mark.parametrize("text", ["", "{}", "null", '{"serveraddress": null, "username": null}'])
def test_nobody(text: str) -> None:
    assert Credentials.decode(text) == Credentials()


def test_an_auth_field_is_name_and_password() -> None:
    plain = Credentials.decode(json.dumps({"auth": "bWU6c2VjOnJldA=="}))
    assert (plain.username, plain.password) == ("me", "sec:ret")
    assert plain.basic == "Basic bWU6c2VjOnJldA=="


@pytest.mark.parametrize("text", ["[]", "{", '{"auth": "%%%"}', '{"username": 1}', "[" * 100_000])
def test_malformed_credentials(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid X-Registry-Auth header"):
        Credentials.decode(text)


@given(st.binary(max_size=200))
def test_token_answers(data: bytes) -> None:
    with pytest.raises(Unauthorized):
        decode_token(data, "https://t")


def test_a_token_is_a_header_value() -> None:
    assert decode_token(b'{"access_token": "abc"}', "r").value == "abc"
    assert decode_token(b'{"token": "abc", "expires_in": 3600}', "r").is_fresh
    with pytest.raises(Unauthorized):
        decode_token(b'{"token": "a\\r\\nHost: x"}', "r")


def test_scopes_of_one_repository_are_one() -> None:
    scopes = {"repository:a:pull", "repository:a:push,pull", "repository:b:pull", "registry:catalog:*"}
    assert merge_scopes(scopes) == ["registry:catalog:*", "repository:a:pull,push", "repository:b:pull"]
