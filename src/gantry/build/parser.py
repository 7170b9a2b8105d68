"""Dockerfile text to instructions: directives, comments, continuations, here-documents, flags and forms.

Follows the Dockerfile reference ("Format", "Parser directives", "Here-documents"). Raises DockerfileError alone.
"""

import re

import msgspec

from gantry.build import rules
from gantry.build.errors import DockerfileError
from gantry.build.instructions import Dockerfile, Heredoc, Instruction
from gantry.build.words import split_words

MAX_LINE = 65535
MAX_SIZE = 16 << 20

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"\d*<<(-?)([^<]*)", re.DOTALL)
_WITH_HEREDOC = frozenset({"ADD", "COPY", "RUN"})


class _Logical(msgspec.Struct):
    """One instruction's text on one line, with its first and last line."""

    text: str
    start: int
    end: int


def parse(data: bytes | str, name: str = "Dockerfile") -> Dockerfile:
    """Parse a whole file; raises DockerfileError with file, line and an excerpt."""
    source = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    source = source.removeprefix("\ufeff")
    try:
        return _Parser(source, name).parse()
    except DockerfileError as error:
        raise error.located(name, source) from None


def parse_trigger(text: str, escape: str = "\\") -> Instruction:
    """One instruction that an image's ONBUILD left."""
    parser = _Parser(text, "ONBUILD", escape)
    lines = list(parser.instructions())
    if len(lines) != 1:
        raise DockerfileError(f"ONBUILD trigger is not one instruction: {text}", numbered=False)
    return lines[0]


class _Parser:
    def __init__(self, source: str, name: str, escape: str = "") -> None:
        self._name = name
        self._source = source
        self._lines = source.split("\n")
        self._at = 0
        self._escape = escape or "\\"
        self._warnings: list[str] = []

    def parse(self) -> Dockerfile:
        if not self._source:
            raise DockerfileError(f"the Dockerfile ({self._name}) cannot be empty", numbered=False)
        if len(self._source) > MAX_SIZE:
            raise DockerfileError(f"the Dockerfile ({self._name}) is larger than {MAX_SIZE} bytes", numbered=False)
        directives = self._directives()
        self._escape = directives.get("escape", "\\")
        instructions = tuple(self.instructions())
        if not instructions:
            raise DockerfileError("failed to parse Dockerfile: file with no instructions", numbered=False)
        return Dockerfile(
            instructions, directives, self._source, self._name, self._escape, tuple(dict.fromkeys(self._warnings))
        )

    def _directives(self) -> dict[str, str]:
        """Comments of the form `# name=value` above everything else."""
        found: dict[str, str] = {}
        for number, line in enumerate(self._lines, 1):
            match = _DIRECTIVE.fullmatch(line.strip())
            if match is None or (key := match.group(1).lower()) not in _DIRECTIVES:
                break
            if key in found:
                raise _plain(f"only one {key} parser directive can be used", number)
            found[key] = match.group(2)
            if key == "escape" and found[key] not in ("`", "\\"):
                raise _plain(f"invalid escape token '{found[key]}' does not match ` or \\", number)
        return found

    def instructions(self) -> "list[Instruction]":
        found = []
        while (logical := self._logical_line()) is not None:
            found.append(self._instruction(logical))
        return found

    def _read(self) -> str | None:
        if self._at >= len(self._lines):
            return None
        line = self._lines[self._at]
        self._at += 1
        if len(line) > MAX_LINE:
            raise _plain(f"dockerfile line greater than maximum allowed size of {MAX_LINE}", self._at)
        return line.removesuffix("\r")

    def _logical_line(self) -> _Logical | None:
        """The next instruction with its continuation lines joined; comments and empty lines inside are dropped."""
        while (line := self._read()) is not None:
            text = line.lstrip()
            if text and not text.startswith("#"):
                break
        else:
            return None
        start = self._at
        end = start
        parts: list[str] = []
        piece: str | None = text
        empty_inside = False
        while piece is not None:
            body, continues = self._continued(piece)
            parts.append(body)
            end = self._at
            if not continues:
                break
            while (piece := self._read()) is not None:
                stripped = piece.strip()
                if stripped and not stripped.startswith("#"):
                    break
                empty_inside = empty_inside or not stripped
        whole = "".join(parts).strip()
        if not whole:
            return self._logical_line()
        if empty_inside:
            self._warnings.append(f"[WARNING]: Empty continuation line found in: {whole}")
        return _Logical(whole, start, end)

    def _continued(self, line: str) -> tuple[str, bool]:
        """A line without its continuation mark, and whether there was one; an escaped mark is none."""
        body = line.rstrip(" \t")
        if not body.endswith(self._escape) or body.endswith(self._escape * 2):
            return line, False
        return body[:-1], True

    def _instruction(self, logical: _Logical) -> Instruction:
        words = logical.text.split(None, 1)
        keyword = words[0].upper()
        rest = words[1].strip() if len(words) > 1 else ""
        documents = self._heredocs(keyword, rest, logical)
        where = rules.Where(logical.text, logical.start, self._at if documents else logical.end, self._escape)
        return rules.instruction(keyword, rest, documents, where)

    def _heredocs(self, keyword: str, rest: str, logical: _Logical) -> tuple[Heredoc, ...]:
        """Read the here-documents that an instruction announces; they follow it in the order of their marks."""
        if keyword == "ONBUILD":
            inner = rest.split(None, 1)
            keyword, rest = (inner[0].upper(), inner[1]) if len(inner) > 1 else ("", "")
        if keyword not in _WITH_HEREDOC or "<<" not in rest:
            return ()
        found = []
        for word in split_words(rest, self._escape):
            match = _HEREDOC.fullmatch(word)
            if match is None:
                continue
            name = match.group(2)
            quoted = len(name) >= 2 and name[0] == name[-1] and name[0] in "'\""
            if quoted:
                name = name[1:-1]
            if not name or set(name) & set("'\"$") or any(char.isspace() for char in name):
                continue
            found.append(self._document(name, logical, strip=bool(match.group(1)), expand=not quoted))
        return tuple(found)

    def _document(self, name: str, logical: _Logical, *, strip: bool, expand: bool) -> Heredoc:
        lines: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            line = line.removesuffix("\r")
            if strip:
                line = line.lstrip("\t")
            if line == name:
                return Heredoc(name, "".join(f"{each}\n" for each in lines), expand)
            lines.append(line)
        raise DockerfileError("unterminated heredoc", line=logical.start)


def _plain(message: str, line: int) -> DockerfileError:
    return DockerfileError(f"failed to parse Dockerfile: {message}", line=line, numbered=False)
