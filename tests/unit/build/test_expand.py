"""Variables and quotes: what the reference says, and what Docker answers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.build.errors import DockerfileError
from gantry.build.expand import expand, expand_text, expand_words

VARIABLES = {"A": "a b", "P": "/a/b.tar.gz", "E": "", "B": "c $A"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$A", "a b"), ("${A}b", "a bb"), ("$A$B", "a bc $A"), ("$NO", ""), ("${NO}", ""), ("\\$A", "$A"),
        ('"\\$A"', "$A"), ("'\\$A'", "\\$A"), ("'$A'", "$A"), ('"$A"', "a b"), ('"a\\"b"', 'a"b'), ('"a\\nb"', "a\\nb"),
        ("a\\nb", "anb"), ("$", "$"), ('"$"', "$"), ("$$", ""), ("a$", "a$"), ("$1", ""), ("x\\ y", "x y"),
        ("a\\", "a"),
        ("${NO:-d}", "d"), ("${E:-d}", "d"), ("${E-d}", ""), ("${NO-d}", "d"), ("${A:-d}", "a b"), ("${A:+y}", "y"),
        ("${E:+y}", ""), ("${E+y}", "y"), ("${NO+y}", ""), ("${A:?e}", "a b"), ("${NO:-${A}x}", "a bx"),
        ("${P#*/}", "a/b.tar.gz"), ("${P##*/}", "b.tar.gz"), ("${P%.*}", "/a/b.tar"), ("${P%%.*}", "/a/b"),
        ("${P/a/X}", "/X/b.tar.gz"), ("${P//a/X}", "/X/b.tXr.gz"), ("${P//a*./_}", "/_gz"), ("${P/?b/}", "/a.tar.gz"),
        ("${P#nope}", "/a/b.tar.gz"), ("${P%\\.gz}", "/a/b.tar"), ("${NO#x}", ""), ("s='it''s'", "s=its"),
    ],
)  # fmt: skip
def test_words(word: str, value: str) -> None:
    assert expand(word, VARIABLES) == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${x:?nope}", 'failed to process "${x:?nope}": x: nope'),
        ("${x?}", 'failed to process "${x?}": x: is not allowed to be unset'),
        ("${E:?}", 'failed to process "${E:?}": E: is not allowed to be empty'),
        ('"a', 'failed to process ""a": unexpected end of statement while looking for matching double-quote'),
        ("'a", 'failed to process "\'a": unexpected end of statement while looking for matching single-quote'),
        ("${x", "failed to process \"${x\": syntax error: missing '}'"),
        ("${x:q}", 'failed to process "${x:q}": unsupported modifier (q) in substitution: ${x:q'),
    ],
)
def test_mistakes(word: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(word, VARIABLES)
    assert caught.value.message == message


def test_splitting() -> None:
    assert expand_words("x$A \"$A\" ''", VARIABLES) == ["xa", "b", "a b", ""]
    assert expand_words("$NO", VARIABLES) == []


def test_documents_keep_their_quotes() -> None:
    assert expand_text("\"$A\" 'x' \\$A \\n\n", VARIABLES) == "\"a b\" 'x' $A \\n\n"


def test_the_other_escape() -> None:
    assert expand("a`$A\\", VARIABLES, "`") == "a$A\\"


@given(st.text(alphabet="$A{}:-+?#%/*'\"\\ ab`", max_size=30))
def test_nothing_else_is_raised(word: str) -> None:
    for call in (expand, expand_words, expand_text):
        with contextlib.suppress(DockerfileError):
            call(word, VARIABLES)


@given(st.text(st.characters(exclude_characters="$'\"\\", exclude_categories=["Cs"])))
def test_plain_words_stay(word: str) -> None:
    assert expand(word, VARIABLES) == word


@given(st.text("ab/.", max_size=12), st.text("ab/.*?", max_size=6))
def test_the_shortest_is_never_longer_than_the_longest(value: str, pattern: str) -> None:
    for short, long in (("#", "##"), ("%", "%%")):
        one = expand(f"${{v{short}{pattern}}}", {"v": value})
        two = expand(f"${{v{long}{pattern}}}", {"v": value})
        assert len(two) <= len(one) <= len(value)
        assert value.endswith(one) if short == "#" else value.startswith(one)
