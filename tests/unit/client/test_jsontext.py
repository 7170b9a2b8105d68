import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.client import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_agrees_with_the_json_module(value: object) -> None:
    assert jsontext.decode(json.dumps(value)) == value
    assert json.loads(jsontext.encode_text(value)) == value


@given(st.text(alphabet='{}[]",:0123456789truefalsn \n\\e.-', max_size=30))
def test_malformed_text_is_a_value_error_and_nothing_else(text: str) -> None:
    try:
        value, end = jsontext.decode_from(text, 0)
    except ValueError:
        with pytest.raises(ValueError):
            json.JSONDecoder(strict=False).raw_decode(text.lstrip(" \t\r\n"))
    else:
        assert json.loads(text[:end], strict=False) == value


def test_incomplete_text_is_a_value_error_where_json_is_not_imported() -> None:
    code = """
import sys
from gantry.client import jsontext

assert "json" not in sys.modules
for text in ("{", "[1,", '"a', ""):
    try:
        jsontext.decode(text)
    except ValueError:
        continue
    raise SystemExit(text)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_infinity_and_no_foreign_types() -> None:
    with pytest.raises(ValueError):
        jsontext.encode(float("nan"))
    with pytest.raises(TypeError):
        jsontext.encode({"a": object()})
