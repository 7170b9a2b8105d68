"""`.dockerignore` rules."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.model.ignore import IgnoreMatcher, parse_ignore


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        (["a"], "a", True),
        (["a"], "a/b/c", True),
        (["a"], "ab", False),
        (["a"], "b/a", False),
        (["*.log"], "x.log", True),
        (["*.log"], "dir/x.log", False),
        (["**/*.log"], "dir/deep/x.log", True),
        (["**/*.log"], "x.log", True),
        (["**/node_modules"], "web/node_modules/left-pad/index.js", True),
        (["**/node_modules"], "node_modules", True),
        (["**/node_modules"], "my_node_modules", False),
        (["**end"], "weekend", True),
        (["**"], "anything/at/all", True),
        (["docs/**"], "docs/a/b", True),
        (["docs/**"], "docs", False),
        (["docs/**/x"], "docs/x", True),
        (["docs/**/x"], "docs/a/b/x", True),
        (["a**/b"], "ab", True),
        (["a?c"], "abc", True),
        (["a?c"], "a/c", False),
        (["[a-c].txt"], "b.txt", True),
        (["[^a-c].txt"], "b.txt", False),
        (["[^a-c].txt"], "z.txt", True),
        ([r"a\*b"], "a*b", True),
        ([r"a\*b"], "axb", False),
        ([r"[\]]"], "]", True),
        (["a.b"], "axb", False),
        (["(x)+$"], "(x)+$", True),
        (["*", "!keep"], "keep", False),
        (["*", "!keep"], "other", True),
        (["*", "!keep/me"], "keep/me", False),
        (["*", "!keep/me"], "keep/other", True),
        (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["*.md", "README-secret.md", "!README*.md"], "README-secret.md", False),
        (["./a/../b"], "b", True),
        ([" spaced "], "spaced", True),
        (["*[ä-ö]"], "weiß-ö", True),
    ],
)
def test_match(patterns: list[str], path: str, excluded: bool) -> None:
    assert IgnoreMatcher(patterns).excludes(path) is excluded


def test_parse() -> None:
    text = "\ufeff# comment\n\n  /rooted/  \r\n!/kept\n ! spaced\n#x\n *.o\n//a//b\n/\n"
    assert parse_ignore(text) == ["rooted", "!kept", "!spaced", "*.o", "a/b", "/"]


@pytest.mark.parametrize("pattern", ["[", "[]", "[]a]", "[a", "[a-", "[a-]", "[-x]", "a\\", "!", "[^", "[\\"])
def test_malformed(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        IgnoreMatcher([pattern])


def test_walk_into_an_excluded_directory() -> None:
    matcher = IgnoreMatcher(["*", "!keep/me", "!other"])
    assert matcher.may_hold_exceptions("keep")
    assert not matcher.may_hold_exceptions("kee")
    assert not matcher.may_hold_exceptions("drop")
    assert matcher.has_exceptions


def test_walk_passes_over_a_pattern_that_the_parent_did_not_need() -> None:
    matcher = IgnoreMatcher(["*", "!dir/x", "dir"])
    assert matcher.excludes("dir/x")
    excluded, above = matcher.match("dir")
    assert excluded
    assert matcher.match("dir/x", above)[0] is False


segments = st.text(alphabet="ab*?.", min_size=1, max_size=4)
pattern_texts = st.lists(segments, min_size=1, max_size=3).map("/".join)
paths = st.lists(st.text(alphabet="ab.", min_size=1, max_size=3).filter(lambda s: s.strip(".")), min_size=1, max_size=4)


@given(st.lists(pattern_texts, max_size=4), paths)
def test_walk_agrees_with_whole_paths_without_exceptions(patterns: list[str], parts: list[str]) -> None:
    matcher = IgnoreMatcher(patterns)
    above = None
    excluded = False
    for depth in range(1, len(parts) + 1):
        step, above = matcher.match("/".join(parts[:depth]), above)
        excluded = excluded or step
    assert excluded is matcher.excludes("/".join(parts))


@given(st.lists(st.text(), max_size=3), st.text(min_size=1))
def test_only_its_own_error(patterns: list[str], path: str) -> None:
    try:
        matcher = IgnoreMatcher(patterns)
    except InvalidArgument:
        return
    assert matcher.excludes(path) in (True, False)
    parse_ignore("\n".join(patterns))


@given(st.text(alphabet="abc/.-_ ()+$^{}|", min_size=1))
def test_plain_text_matches_itself(text: str) -> None:
    (pattern,) = parse_ignore("./" + text)
    pattern = pattern.strip()
    assume(pattern)
    assert IgnoreMatcher([pattern]).excludes(pattern)
