"""Commands where an engine lives: one shell that stays, so that every engine's commands are started alike.

A command's time is from the moment its line is written to the shell until its status comes back: a fork, an exec and
a wait of a small shell, whether the engine is on this machine or in namespaces of its own.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bench.model import Failed


class Completed(NamedTuple):
    """How a command ended; `seconds` is wall-clock time."""

    status: int
    output: str
    errors: str
    seconds: float


class Shell:
    """`enter` is the command that gives a shell there, `environment` what is set in it (all else is inherited)."""

    def __init__(self, enter: Sequence[str], environment: Mapping[str, str]) -> None:
        self._enter = list(enter)
        self._assignments = [f"{key}={value}" for key, value in environment.items()]
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "GANTRY_"))}
        self._process = subprocess.Popen(
            [*self._enter, "env", *self._assignments, "sh"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self._environment, bufsize=0,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._stdout = os.fdopen(os.dup(self._process.stdout.fileno()), "rb")
        self._under_way = False
        self.directory = self._line('echo "$(mktemp -d /var/tmp/gantry-bench.XXXXXX)"')
        if not self.directory:
            raise Failed("no directory can be made in /var/tmp")
        self._out = f"{self.directory}/.out"
        self._err = f"{self.directory}/.err"

    def run(self, command: str, *, check: bool = True, output: bool = True) -> Completed:
        """Run one shell command; its output is thrown away unless `output`. Raises Failed with `check`."""
        self._catch_up()
        self._under_way = True
        out = self._out if output else "/dev/null"
        began = time.perf_counter()
        status = int(self._line(f"{{ {command}\n}} >{out} 2>{self._err} </dev/null; echo $?"))
        seconds = time.perf_counter() - began
        text = self._content(self._out) if output else ""
        errors = self._content(self._err)
        self._under_way = False
        if status and check:
            raise Failed(f"{command}: status {status}: {errors.strip() or text.strip()}")
        return Completed(status, text, errors, seconds)

    def spawn(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        """A command with pipes to its standard input and output; the caller ends it."""
        return subprocess.Popen(
            [*self._enter, "env", *self._assignments, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self._environment, bufsize=0,
        )  # fmt: skip

    def background(self, command: str) -> int:
        """Start a command that stays, in a session of its own; returns its process id there."""
        return int(self._line(f"setsid {command} >{self._out} 2>&1 </dev/null & echo $!"))

    def stage(self, source: Path, name: str) -> str:
        """Copy a file to where the shell's commands see it; returns its path there."""
        target = f"{self.directory}/{name}"
        with source.open("rb") as data:
            copy = subprocess.run(
                [*self._enter, "sh", "-c", f"cat >{shlex.quote(target)}"],
                stdin=data, stderr=subprocess.PIPE, env=self._environment, check=False,
            )  # fmt: skip
        if copy.returncode:
            raise Failed(f"cannot copy {source.name}: {copy.stderr.decode(errors='replace')}")
        return target

    def close(self) -> None:
        """End the shell and remove its directory; what runs in the background is the caller's to end."""
        if self._process.poll() is None:
            self._catch_up()
            self._line(f"rm -rf {self.directory}; echo gone")
            self._stdin.close()
            self._process.wait(30)
        self._stdout.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _catch_up(self) -> None:
        """Pass over the rest of a command whose answer was not awaited: the benchmark was interrupted."""
        if self._under_way:
            self._write("echo; echo caught up")
            while self._stdout.readline() != b"caught up\n":
                pass
            self._under_way = False

    def _content(self, path: str) -> str:
        size = int(self._line(f'echo "$(wc -c <{path})"') or 0)
        if not size:
            return ""
        self._write(f"cat {path}")
        return self._stdout.read(size).decode(errors="replace")

    def _line(self, command: str) -> str:
        self._write(command)
        line = self._stdout.readline()
        if not line.endswith(b"\n"):
            raise Failed(f"the shell of {' '.join(self._enter) or 'this machine'} ended")
        return line.decode().strip()

    def _write(self, command: str) -> None:
        try:
            self._stdin.write(command.encode() + b"\n")
        except BrokenPipeError as error:
            raise Failed(f"the shell of {' '.join(self._enter) or 'this machine'} ended") from error
