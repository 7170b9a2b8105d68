"""What is wrong with a Dockerfile or with one of its steps, and where."""

from collections.abc import Sequence

from gantry.errors import GantryError, InvalidArgument


class DockerfileError(InvalidArgument):
    """A mistake in the Dockerfile. The message is Docker's; `line` is 1-based, 0 where no line is to blame.

    `excerpt` holds the lines around it, numbered, the guilty one marked with `>`.
    """

    def __init__(self, message: str, *, line: int = 0, numbered: bool = True) -> None:
        """With `numbered`, the message names the line as Docker does."""
        super().__init__(f"dockerfile parse error on line {line}: {message}" if numbered and line else message)
        self.line = line
        self.file = "Dockerfile"
        self.excerpt = ""

    def located(self, file: str, source: str) -> "DockerfileError":
        """The same error with the file's name and the lines around."""
        self.file = file
        if self.line:
            self.excerpt = excerpt(source, self.line, self.line)
        return self


class StepFailed(InvalidArgument):
    """A step that did not succeed. `code` is the exit code of its command, 0 where it has none.

    Where the step stands in a Dockerfile, `file`, `line` and `excerpt` say where, and `image` and `shell` are those of
    the state before it ("" where that is empty).
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.file = ""
        self.line = 0
        self.excerpt = ""
        self.image = ""
        self.shell: tuple[str, ...] = ()

    def explained(self, file: str, source: str, lines: tuple[int, int], image: str, shell: Sequence[str]) -> None:
        """Say where it stands, and on what."""
        self.file, self.line = file, lines[0]
        if self.line:
            self.excerpt = excerpt(source, *lines)
        self.image, self.shell = image, tuple(shell)


def excerpt(source: str, start: int, end: int, around: int = 3) -> str:
    """Lines `start` to `end` of a Dockerfile, marked, with some lines around them."""
    lines = source.split("\n")
    first, last = max(1, start - around), min(len(lines), end + around)
    width = len(str(last))
    return "\n".join(
        f"{'>' if start <= number <= end else ' '} {number:>{width}} | {lines[number - 1]}".rstrip()
        for number in range(first, last + 1)
    )


def code_of(error: GantryError) -> int:
    """The exit code that an error carries, 0 for none."""
    return error.code if isinstance(error, StepFailed) else 0
