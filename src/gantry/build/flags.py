"""The `--flags` of one instruction."""

from gantry.build.errors import DockerfileError

_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


class Flags:
    """`known` lists the names: `name*` may come several times, `name?` needs no value. Raises DockerfileError."""

    def __init__(self, words: list[str], known: str, line: int) -> None:
        self._line = line
        kinds = {name.rstrip("*?"): name[-1] for name in known.split()}
        self._values: dict[str, list[str]] = {}
        for word in words:
            name, equals, value = word[2:].partition("=")
            if name not in kinds:
                raise DockerfileError(f"unknown flag: --{name[:64]}", line=line)
            if not equals and kinds[name] != "?":
                raise DockerfileError(f"missing a value on flag: --{name}", line=line)
            if name in self._values and kinds[name] != "*":
                raise DockerfileError(f"duplicate flag specified: --{name}", line=line)
            self._values.setdefault(name, []).append(value if equals else "true")

    def given(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        return self._values.get(name, [""])[0]

    def many(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def boolean(self, name: str) -> bool:
        value = self.text(name).lower()
        if value not in _TRUE | _FALSE and value:
            raise DockerfileError(
                f"expecting boolean value for flag --{name}, not: {self.text(name)[:64]}", line=self._line
            )
        return value in _TRUE
