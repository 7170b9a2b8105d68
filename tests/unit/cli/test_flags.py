import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.cli.flags import (
    Arguments,
    Flag,
    FlagError,
    HelpWanted,
    boolean,
    csv_fields,
    integer,
    parse,
    quote,
    string,
    string_slice,
    strings,
    unsigned,
)

BOOL, INT, UINT = (f"strconv.Parse{kind}: parsing" for kind in ("Bool", "Int", "Uint"))
NINES = "9" * 20
FLAGS: tuple[Flag, ...] = (
    boolean("all", "a"),
    boolean("interactive", "i"),
    boolean("tty", "t"),
    boolean("sig-proxy", "", default=True),
    boolean("detach", "d"),
    string("name", ""),
    strings("publish", "p"),
    strings("env", "e"),
    string_slice("names", "s"),
    integer("last", "n", default=-1),
    unsigned("weight", "w", bits=16),
)


def given_words(*words: str, interspersed: bool = True) -> Arguments:
    return parse(FLAGS, words, interspersed=interspersed)


class TestShapes:
    @pytest.mark.parametrize(
        ("words", "values"),
        [
            (["--all"], {"all": True}),
            (["--all=false"], {"all": False}),
            (["--all=T", "--name=x"], {"all": True, "name": "x"}),
            (["--name", "x"], {"name": "x"}),
            (["--name="], {"name": ""}),
            (["--name", "--all"], {"name": "--all", "all": False}),
            (["--name=a=b"], {"name": "a=b"}),
            (["-itd"], {"interactive": True, "tty": True, "detach": True}),
            (["-itp", "80"], {"interactive": True, "publish": ["80"]}),
            (["-p8080:80", "-p=80", "-p", "90"], {"publish": ["8080:80", "80", "90"]}),
            (["-p="], {"publish": ["="]}),
            (["-ip=80"], {"interactive": True, "publish": ["80"]}),
            (["-a=false"], {"all": False}),
            (["-n", "0x10"], {"last": 16}),
            (["-n-3"], {"last": -3}),
            (["-n", "010"], {"last": 8}),
            (["-n", "1_000"], {"last": 1000}),
            (["-w65535"], {"weight": 65535}),
            (["-s", "a,b", "--names", "c"], {"names": ["a", "b", "c"]}),
            (["-e", "A=1,B=2"], {"env": ["A=1,B=2"]}),
            (["--sig-proxy=0"], {"sig-proxy": False}),
        ],
    )
    def test_values(self, words: list[str], values: dict[str, object]) -> None:
        arguments = given_words(*words)
        assert {name: arguments[name] for name in values} == values
        assert arguments.positional == []

    def test_defaults_and_changed(self) -> None:
        arguments = given_words("-n", "-1")
        assert arguments.changed == {"last"}
        assert (arguments["publish"], arguments["sig-proxy"], arguments["last"]) == ([], True, -1)

    def test_lists_of_two_parses_do_not_mix(self) -> None:
        given_words("-p", "1")
        assert given_words()["publish"] == []


class TestPositional:
    def test_interspersed(self) -> None:
        arguments = given_words("a", "--all", "b", "-", "", "--", "-x", "--name")
        assert arguments.positional == ["a", "b", "-", "", "-x", "--name"]
        assert arguments.dash == 4

    def test_not_interspersed(self) -> None:
        arguments = given_words("-i", "image", "--all", "--", "-x", interspersed=False)
        assert arguments.positional == ["image", "--all", "--", "-x"]
        assert not arguments.boolean("all")

    def test_dashes_before_the_first_word(self) -> None:
        assert given_words("--", "--all", interspersed=False).positional == ["--all"]


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--foo"], "unknown flag: --foo"),
            (["--foo=1"], "unknown flag: --foo"),
            (["-x"], "unknown shorthand flag: 'x' in -x"),
            (["-ix1"], "unknown shorthand flag: 'x' in -x1"),
            (["--name"], "flag needs an argument: --name"),
            (["-p"], "flag needs an argument: 'p' in -p"),
            (["-ip"], "flag needs an argument: 'p' in -p"),
            (["---x"], "bad flag syntax: ---x"),
            (["--=x"], "bad flag syntax: --=x"),
            (["--all=maybe"], f'invalid argument "maybe" for "-a, --all" flag: {BOOL} "maybe": invalid syntax'),
            (["-n", "x"], f'invalid argument "x" for "-n, --last" flag: {INT} "x": invalid syntax'),
            (["-n", "08"], f'invalid argument "08" for "-n, --last" flag: {INT} "08": invalid syntax'),
            (["-n", ""], f'invalid argument "" for "-n, --last" flag: {INT} "": invalid syntax'),
            (["-n", NINES], f'invalid argument "{NINES}" for "-n, --last" flag: {INT} "{NINES}": value out of range'),
            (["-w", "-1"], f'invalid argument "-1" for "-w, --weight" flag: {UINT} "-1": invalid syntax'),
            (["-w", "65536"], f'invalid argument "65536" for "-w, --weight" flag: {UINT} "65536": value out of range'),
        ],
    )
    def test_messages(self, words: list[str], message: str) -> None:
        with pytest.raises(FlagError) as caught:
            given_words(*words)
        assert str(caught.value) == message

    @pytest.mark.parametrize(("word", "deprecated"), [("--help", False), ("-h", True), ("-ah", True)])
    def test_help(self, word: str, deprecated: bool) -> None:
        with pytest.raises(HelpWanted) as caught:
            given_words(word)
        assert caught.value.deprecated is deprecated

    @given(st.lists(st.text(alphabet='-=aenpws01x," \n', max_size=6)), st.booleans())
    def test_any_words_parse_or_are_refused(self, words: list[str], interspersed: bool) -> None:
        try:
            arguments = given_words(*words, interspersed=interspersed)
        except (FlagError, HelpWanted):
            return
        assert len(arguments.positional) <= len(words)

    @given(st.text(), st.text(min_size=1))
    def test_a_value_arrives_unchanged(self, value: str, other: str) -> None:
        assert given_words("--name", value)["name"] == value
        assert given_words(f"--name={value}")["name"] == value
        assert given_words("-p" + other)["publish"] in ([other], [other[1:]])


class TestText:
    @pytest.mark.parametrize(
        ("text", "quoted"),
        [
            ('a"b\\', '"a\\"b\\\\"'),
            ("\n\t\x01\x7f", '"\\n\\t\\x01\\x7f"'),
            ("\u00e9\u2028", '"\u00e9\\u2028"'),
            ("\udcff", '"\\xff"'),
        ],
    )
    def test_quote(self, text: str, quoted: str) -> None:
        assert quote(text) == quoted

    def test_fields(self) -> None:
        assert csv_fields('a,"b,""c""",d') == ["a", 'b,"c"', "d"]
        assert csv_fields("a,") == ["a", ""]
        for broken in ('"a', 'a"b', '"a"b'):
            with pytest.raises(ValueError, match='"'):
                csv_fields(broken)
