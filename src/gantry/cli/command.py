"""What a command is, and what it gets to work with.

A command group's module defines its commands, and `tree.LEAVES` names them:

    # gantry/cli/volume.py
    from gantry.cli.command import Command, Context
    from gantry.cli.flags import Arguments, boolean, strings

    def _rm(ctx: Context, args: Arguments) -> int:
        for name in args.positional:
            ctx.client.delete(f"/volumes/{segment(name)}", {"force": args.boolean("force")})
            ctx.out.write(name + "\\n")
        return 0

    RM = Command(_rm, "[OPTIONS] VOLUME [VOLUME...]", (boolean("force", "f", "..."),), least=1)

`Context.each` does such a loop as Docker does: errors of single items are printed and the others go on.
A command returns its exit status (None is 0) or raises CommandError / UsageError (cli.errors); the client's errors
(client.errors) may pass through, `main` prints them. Keep module-level imports to what the command always needs:
no `typing`, `re`, `json`, `dataclasses`, `subprocess` or `argparse` on the path of a common command
(annotations go under `if TYPE_CHECKING`; client.jsontext is the JSON codec).
"""

from __future__ import annotations

import os
import sys

from gantry.cli.errors import CommandError
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TextIO

    from gantry.cli.flags import Arguments, Flag
    from gantry.client.client import Client


class Command:
    """A leaf of the tree. `usage` is what follows its path; `least` and `most` count the positional words."""

    __slots__ = ("description", "flags", "interspersed", "least", "most", "run", "usage")

    def __init__(
        self,
        run: Callable[[Context, Arguments], int | None],
        usage: str,
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int | None = None,
        interspersed: bool = True,
        description: str = "",
    ) -> None:
        self.run = run
        self.usage = usage
        self.flags = flags
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.description = description

    def count_problem(self, count: int) -> tuple[str, str] | None:
        """What is wrong with `count` positional words, and Docker's verb of the line that points to help."""
        least, most = self.least, self.most
        if count >= least and (most is None or count <= most):
            return None
        if most == 0:
            return "accepts no arguments", "Run"
        if most is None:
            return f"requires at least {least} {_arguments(least)}", "See"
        if least == most:
            return f"requires {least} {_arguments(least)}", "Run"
        if least:
            return f"requires at least {least} and at most {most} {_arguments(most)}", "Run"
        return f"requires at most {most} {_arguments(most)}", "See"


def _arguments(count: int) -> str:
    return "argument" if count == 1 else "arguments"


class Context:
    """Everything that a command may use of its surroundings.

    `program` is the name the user called us by (gantry, or docker by alias), `path` the command's ("container ls").
    `flags` are the global flags. `out` and `err` are text streams, `stdin` is file descriptor 0.
    """

    def __init__(self, program: str, flags: Arguments, environ: Mapping[str, str]) -> None:
        self.program = program
        self.path = ""
        self.flags = flags
        self.environ = environ
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self._client: Client | None = None
        self._config: dict[str, Any] | None = None

    @property
    def config_dir(self) -> str:
        """Where config.json, contexts and TLS keys are: --config, $DOCKER_CONFIG, ~/.docker."""
        given = self.flags.string("config") or self.environ.get("DOCKER_CONFIG", "")
        return given or os.path.join(os.path.expanduser("~"), ".docker")

    @property
    def config(self) -> dict[str, Any]:
        """config.json, {} where there is none."""
        if self._config is None:
            from gantry.client.config import load

            self._config = load(self.config_dir)
        return self._config

    @property
    def client(self) -> Client:
        """The Engine API client of the chosen endpoint; it connects on its first request."""
        if self._client is None:
            from gantry.client.client import Client
            from gantry.client.endpoints import resolve

            endpoint = resolve(self.flags, self.environ, self.config_dir, self.config)
            self._client = Client(endpoint, headers=self.config.get("HttpHeaders"), environ=self.environ)
        return self._client

    def warn(self, message: str) -> None:
        """One line on standard error."""
        self.out.flush()
        self.err.write(message + "\n")

    def each(self, items: Iterable[str], action: Callable[[str], str | None]) -> int:
        """Call `action` per item and print what it returns (None: the item); an item's error is printed, and
        the status is 1 at the end."""
        status = 0
        for item in items:
            try:
                result = action(item)
            except (ClientError, CommandError) as error:
                self.warn(error.message)
                status = 1
            else:
                self.out.write((item if result is None else result) + "\n")
                self.out.flush()
        return status

    def confirm(self, question: str) -> bool:
        """Ask on standard output, as prune commands do; False unless the answer is yes."""
        self.out.write(question + " [y/N] ")
        self.out.flush()
        answer = sys.stdin.readline()
        return answer.strip().lower() in ("y", "yes")
