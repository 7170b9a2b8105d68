"""Dockerfile text to instructions: by table, and the promise that nothing but a DockerfileError comes out."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.build import instructions as ins
from gantry.build.errors import DockerfileError
from gantry.build.parser import parse, parse_trigger


def one(text: str) -> ins.Instruction:
    return parse(f"FROM a\n{text}").instructions[1]


def test_lines_comments_and_continuations() -> None:
    text = (
        "# syntax=docker/dockerfile:1\n#escape=\\\n\n  # a comment\n   from   busybox   as   Stage\n"
        "RUN echo a \\\n  # within\n\n  && echo b   \\   \n  && echo c\nrun x\\\\\n"
    )
    parsed = parse(text)
    assert parsed.directives == {"syntax": "docker/dockerfile:1", "escape": "\\"}
    head, first, second = parsed.instructions
    assert head == ins.From(image="busybox", name="stage", text="from   busybox   as   Stage", start=5, end=5)
    assert isinstance(first, ins.Run)
    assert first.command.words == ("echo a   && echo b     && echo c",)
    assert (first.start, first.end) == (6, 10)
    assert second.text == "run x\\\\"
    assert parsed.warnings == ("[WARNING]: Empty continuation line found in: RUN echo a   && echo b     && echo c",)


def test_another_escape() -> None:
    parsed = parse("# escape=`\nFROM a\nRUN dir C:\\ `\n x\n")
    assert parsed.instructions[1].text == "RUN dir C:\\  x"


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    parsed = parse("\ufeffFROM a\r\nRUN b \\\r\n c\r\n".encode())
    assert [each.text for each in parsed.instructions] == ["FROM a", "RUN b  c"]


def test_a_directive_below_a_comment_is_a_comment() -> None:
    assert parse("# hello\n# escape=`\nFROM a\n").directives == {}


@pytest.mark.parametrize(
    ("text", "words", "interpreted"),
    [
        ('RUN ["echo", "json \\u00e9"]', ("echo", "json é"), False),
        ("RUN [ 'single' ]", ("[ 'single' ]",), True),
        ('RUN ["a",', ('["a",',), True),
        ("RUN", (), True),
        ("RUN []", (), False),
        ("RUN  a  b ", ("a  b",), True),
    ],
)
def test_forms(text: str, words: tuple[str, ...], interpreted: bool) -> None:
    made = one(text)
    assert isinstance(made, ins.Run)
    assert made.command == ins.Command(words, interpreted)


def test_here_documents() -> None:
    made = parse("FROM a\nCOPY <<ONE <<-'TWO' plain /d/\nfirst $X\nONE\n\t\tsecond\n\tTWO\nRUN next\n").instructions
    assert isinstance(made[1], ins.Copy)
    assert made[1].documents == (
        ins.Heredoc("ONE", "first $X\n", expand=True), ins.Heredoc("TWO", "second\n", expand=False),
    )  # fmt: skip
    assert (made[1].sources, made[1].destination, made[1].end) == (("plain",), "/d/", 6)
    assert made[2].start == 7
    assert one('RUN ["cat", "<<E"]') == ins.Run(
        command=ins.Command(("cat", "<<E"), interpreted=False), text='RUN ["cat", "<<E"]', start=2, end=2
    )
    assert isinstance(one("RUN x <<<word\n"), ins.Run)


def test_flags() -> None:
    made = one('COPY --from=x --chown="a b":c --chmod=755 --link --exclude=*.o --exclude=t a b /c/')
    assert isinstance(made, ins.Copy)
    assert (made.source, made.chown, made.chmod, made.link, made.exclude) == ("x", "a b:c", "755", True, ("*.o", "t"))
    run = one("RUN --mount=type=cache,target=/x --mount=type=tmpfs,target=/y --network=none make")
    assert isinstance(run, ins.Run)
    assert (len(run.mounts), run.network, run.command.words) == (2, "none", ("make",))


def test_names_and_values() -> None:
    assert one('ENV a="b c" d=e\\ f').text == 'ENV a="b c" d=e\\ f'
    made = one("ENV a   b  c ")
    assert isinstance(made, ins.Env)
    assert made.pairs == (("a", "b  c"),)
    made = one('ENV a="b c" d=e\\ f g=')
    assert isinstance(made, ins.Env)
    assert made.pairs == (("a", '"b c"'), ("d", "e\\ f"), ("g", ""))
    arg = one("ARG a b=c")
    assert isinstance(arg, ins.Arg)
    assert arg.pairs == (("a", None), ("b", "c"))


def test_healthcheck() -> None:
    made = one('HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3 CMD ["a"]')
    assert isinstance(made, ins.Healthcheck)
    assert (made.test, made.interval, made.timeout, made.retries) == (("CMD", "a"), 90 * 10**9, 1_500_000_000, 3)
    made = one("HEALTHCHECK CMD curl x")
    assert isinstance(made, ins.Healthcheck)
    assert made.test == ("CMD-SHELL", "curl x")
    assert one("HEALTHCHECK NONE") == ins.Healthcheck(test=("NONE",), text="HEALTHCHECK NONE", start=2, end=2)


def test_triggers_can_be_parsed_again() -> None:
    made = one("ONBUILD COPY <<E /x\nhello\nE\n")
    assert isinstance(made, ins.Onbuild)
    again = parse_trigger(made.trigger)
    assert isinstance(again, ins.Copy)
    assert again.documents[0].content == "hello\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "the Dockerfile (Dockerfile) cannot be empty"),
        ("# only\n", 0, "failed to parse Dockerfile: file with no instructions"),
        ("FOO x\n", 1, "unknown instruction: FOO (did you mean FROM?)"),
        ("FROM a\nCPY a b\n", 2, "unknown instruction: CPY (did you mean COPY?)"),
        ("FROM a\nWHATEVER\n", 2, "unknown instruction: WHATEVER"),
        ("FROM\n", 1, "FROM requires either one or three arguments"),
        ("FROM a AS 1x\n", 1, 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols'),
        (
            "FROM a\nCOPY x\n",
            2,
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nENV\n", 2, "ENV requires at least one argument"),
        ("FROM a\nENV a\n", 0, "failed to parse Dockerfile: ENV must have two arguments"),
        (
            "FROM a\nENV a=b c\n",
            0,
            'failed to parse Dockerfile: Syntax error - can\'t find = in "c". Must be of the form: name=value',
        ),
        ("FROM a\nENV =x\n", 2, "ENV names can not be blank"),
        ("FROM a\nCOPY --bad=1 a b\n", 2, "unknown flag: --bad"),
        ("FROM a\nCOPY --from a b\n", 2, "missing a value on flag: --from"),
        ("FROM a\nCOPY --from=a --from=b c d\n", 2, "duplicate flag specified: --from"),
        ("FROM a\nONBUILD FROM x\n", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD ONBUILD RUN x\n", 2, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nSHELL x\n", 2, "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nHEALTHCHECK foo\n", 2, 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("FROM a\nHEALTHCHECK NONE x\n", 2, "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK --interval=1 CMD x\n", 2, 'time: missing unit in duration "1"'),
        ('FROM a\nVOLUME [""]\n', 2, "VOLUME specified can not be an empty string"),
        ("FROM a\nMAINTAINER\n", 2, "MAINTAINER requires exactly one argument"),
        (
            'FROM a\nCMD ["a", 1]\n',
            0,
            "failed to parse Dockerfile: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("# escape=x\nFROM a\n", 0, "failed to parse Dockerfile: invalid escape token 'x' does not match ` or \\"),
        (
            "# escape=`\n# escape=`\nFROM a\n",
            0,
            "failed to parse Dockerfile: only one escape parser directive can be used",
        ),
        ("FROM a\nRUN <<E\nx\n", 2, "unterminated heredoc"),
        (
            "FROM a\nRUN " + "x" * 70000,
            0,
            "failed to parse Dockerfile: dockerfile line greater than maximum allowed size of 65535",
        ),
    ],
)
def test_mistakes(text: str, line: int, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    assert caught.value.message == (f"dockerfile parse error on line {line}: {message}" if line else message)


def test_a_mistake_shows_where_it_is() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a\nRUN b\nBAD x\n", "sub/Dockerfile")
    assert (caught.value.file, caught.value.line) == ("sub/Dockerfile", 3)
    assert "> 3 | BAD x" in caught.value.excerpt


words = st.sampled_from(
    ["FROM ", "RUN ", "COPY ", "ADD ", "ENV ", "ARG ", "ONBUILD ", "HEALTHCHECK ", "CMD ", "SHELL ", "VOLUME ", "a",
     "=", "\\", "\n", " ", "\t", '"', "'", "<<E", "<<-'E'", "E\n", "$x", "${", "}", "[", "]", '["a"]', "--from=",
     "--mount=",
     "--", "# ", "#escape=`\n", "\r\n", "\0", "é", "\ud800", "CMD", "NONE", "--interval=", "1s", ",", ":"]
)  # fmt: skip


@given(st.lists(words, max_size=40).map("".join) | st.text(max_size=80))
def test_nothing_else_is_raised(text: str) -> None:
    with contextlib.suppress(DockerfileError):
        parsed = parse(text)
        assert parsed.instructions
        assert all(1 <= each.start <= each.end <= text.count("\n") + 1 for each in parsed.instructions)


@given(st.binary(max_size=80))
def test_nothing_else_is_raised_for_bytes(data: bytes) -> None:
    with contextlib.suppress(DockerfileError):
        parse(data)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=5))
def test_the_exec_form_is_exact(items: list[str]) -> None:
    made = one("CMD " + json.dumps(items))
    assert isinstance(made, ins.Cmd)
    assert made.command == ins.Command(tuple(items), interpreted=False)
