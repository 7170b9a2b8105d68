import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.model.gojson import json_error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ('{"a', "unexpected end of JSON input"),
        ("tru", "unexpected end of JSON input"),
        ("/x", "invalid character '/' looking for beginning of value"),
        ("nothing", "invalid character 'o' in literal null (expecting 'u')"),
        ("{1", "invalid character '1' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 2}', "invalid character '2' after object key:value pair"),
        ("{} x", "invalid character 'x' after top-level value"),
    ],
)
def test_the_words_of_go(text: str, words: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    assert json_error(caught.value) == words


@given(st.text(max_size=20))
def test_any_text_gets_one_line(text: str) -> None:
    error = None
    try:
        json.loads(text)
    except json.JSONDecodeError as found:
        error = found
    assert error is None or json_error(error).startswith(("unexpected end", "invalid character"))
