import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.wire.errors import decode, error_body


class Body(msgspec.Struct, rename="pascal"):
    cmd: list[str] | None = None
    tty: bool = False
    memory: int = 0
    labels: dict[str, str] | None = None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "invalid JSON: got EOF while reading request body"),
        (b"{", "invalid JSON: unexpected EOF"),
        (b"{} x", "unexpected content after JSON"),
        (b"zz", "invalid JSON: invalid character 'z' looking for beginning of value"),
        (b"[]", "invalid JSON: json: cannot unmarshal array into Go value of type object"),
        (b'{"Tty":"x"}', "invalid JSON: json: cannot unmarshal string into Go struct field .Tty of type bool"),
    ],
)
def test_bad_bodies_get_docker_s_words(data: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(data, Body)
    assert caught.value.message == message


def test_null_is_not_given() -> None:
    assert decode(b'{"Tty":null,"Memory":null,"Cmd":["a"],"Labels":{"a":null}}', Body) == Body(cmd=["a"], labels={})


@given(st.binary(max_size=64))
def test_any_body_is_decoded_or_refused_in_one_line(data: bytes) -> None:
    try:
        assert isinstance(decode(data, Body), Body)
    except InvalidArgument as error:
        assert "\n" not in error.message  # noqa: PT017


def test_deep_nesting_is_refused() -> None:
    for data in (b"[" * 100_000, b'{"x":' * 100_000 + b"1" + b"}" * 100_000):
        with pytest.raises(InvalidArgument):
            decode(data, Body)


def test_error_body_is_json_with_a_newline() -> None:
    assert error_body('a "b"') == b'{"message":"a \\"b\\""}\n'
