"""conmon(8), one for each container and exec: it holds the terminal or pipes, writes the log, keeps the exit code.

What is used of it: `--sync` (it stays our child), the pipes _OCI_SYNCPIPE (JSON lines: the process id, or
an error), _OCI_ATTACHPIPE and _OCI_STARTPIPE (an exec waits until its streams are connected), the attach
socket (SEQPACKET: one byte for the stream, then data), the `ctl` fifo (terminal size) and the exit file.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

import msgspec

from gantry.errors import Internal, Unavailable
from gantry.linux.process import ENVIRONMENT, spawn

_MAX_MESSAGE = 64 << 10
_RESIZE, _REOPEN = 1, 2
_MAX_SIDE = 1000  # conmon's own bound for rows and columns


class RuntimeFailed(Exception):
    """The runtime refused; the text is what it wrote to its standard error."""


class Message(msgspec.Struct, frozen=True):
    """One line on the sync pipe: `data` is a process id, or negative with `message`."""

    data: int
    message: str = ""


class Command(msgspec.Struct, frozen=True):
    """What conmon is told. `directory` receives its files, `log` is a k8s-file path or "" for none."""

    conmon: str
    runtime: str
    runtime_args: tuple[str, ...]
    container_id: str
    unit_id: str
    name: str
    directory: Path
    log: str = ""
    tty: bool = False
    stdin: bool = False
    leave_stdin_open: bool = False
    temporary: str = ""
    process_file: str = ""
    attach: bool = False

    def arguments(self) -> list[str]:
        args = [
            self.conmon,
            "--sync",
            "--api-version",
            "1",
            "--full-attach",
            "--no-sync-log",
            "-c",
            self.container_id,
            "-u",
            self.unit_id,
            "-n",
            self.name,
            "-r",
            self.runtime,
            "-b",
            str(self.directory),
            "-p",
            str(self.directory / "pidfile"),
            "--exit-dir",
            str(self.directory),
            "-l",
            f"k8s-file:{self.log}" if self.log else "none",
            "--log-level",
            "error",
        ]
        for argument in self.runtime_args:
            args += ["--runtime-arg", argument]
        if self.process_file:
            args += ["-e", "--exec-process-spec", self.process_file]
            if self.attach:
                args.append("--exec-attach")
        if self.tty:
            args.append("-t")
        if self.stdin:
            args.append("-i")
        if self.leave_stdin_open:
            args.append("--leave-stdin-open")
        return args


class Conmon:
    """A started conmon; its pipes are closed by `close`."""

    def __init__(self, process: "subprocess.Popen[bytes]", sync: int, attach: int, start: int) -> None:
        self.process = process
        self._sync = sync
        self._attach = attach
        self._start = start
        self._rest = b""

    @classmethod
    def launch(cls, command: Command) -> "Conmon":
        """Start it (about two milliseconds, blocking); raises Unavailable where it cannot be started."""
        environment = dict(ENVIRONMENT)
        if command.temporary:
            environment["TMPDIR"] = command.temporary
        ours: list[int] = []
        theirs: list[int] = []
        attach = start = -1
        try:
            sync, other = os.pipe2(os.O_CLOEXEC)
            ours.append(sync)
            theirs.append(other)
            environment["_OCI_SYNCPIPE"] = str(other)
            if command.attach:
                attach, other = os.pipe2(os.O_CLOEXEC)
                ours.append(attach)
                theirs.append(other)
                environment["_OCI_ATTACHPIPE"] = str(other)
                other, start = os.pipe2(os.O_CLOEXEC)
                ours.append(start)
                theirs.append(other)
                environment["_OCI_STARTPIPE"] = str(other)
            with open(command.directory / "conmon.err", "wb") as errors:
                process = spawn(
                    command.arguments(),
                    environment=environment,
                    directory=command.directory,
                    keep=theirs,
                    stderr=errors.fileno(),
                )
        except OSError as error:
            for descriptor in ours:
                os.close(descriptor)
            raise Unavailable(f"cannot start {command.conmon}: {error.strerror}; is conmon installed?") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return cls(process, sync, attach, start)

    async def process_id(self) -> int:
        """The process id that the runtime made; raises RuntimeFailed with its words."""
        message = await self._message(self._sync)
        if message is None:
            raise RuntimeFailed("")
        if message.data < 0:
            raise RuntimeFailed(message.message)
        return message.data

    async def attachable(self) -> None:
        """Return when an exec's attach socket is there."""
        self.go()
        if await self._message(self._attach) is None:
            raise RuntimeFailed("")

    def go(self) -> None:
        """Let conmon go on: once for itself, once for the runtime that it starts."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._start, b"\0")

    def kill(self) -> None:
        """End conmon, and a runtime of it that hangs, and take its status (blocking)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a session of its own
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        for name in ("_sync", "_attach", "_start"):
            if (descriptor := getattr(self, name)) >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    async def _message(self, descriptor: int) -> Message | None:
        """The next line of a pipe; None at its end."""
        os.set_blocking(descriptor, False)
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(descriptor, ready.set)
        data = b""
        try:
            while b"\n" not in data:
                await ready.wait()
                ready.clear()
                try:
                    chunk = os.read(descriptor, _MAX_MESSAGE)
                except BlockingIOError:
                    continue
                if not chunk:
                    break
                data += chunk
                if len(data) > _MAX_MESSAGE:
                    raise Internal("conmon sent a message without an end")
        finally:
            loop.remove_reader(descriptor)
        if not data.strip():
            return None
        try:
            return msgspec.json.decode(data.split(b"\n", 1)[0], type=Message)
        except msgspec.DecodeError as error:
            raise Internal(f"conmon sent an unreadable message: {data[:200]!r}") from error


def resize(control: Path, height: int, width: int) -> None:
    """Set a terminal's size through conmon's control fifo (never blocks); raises OSError where conmon has gone."""
    _control(control, f"{_RESIZE} {min(height, _MAX_SIDE)} {min(width, _MAX_SIDE)}\n".encode())


def reopen_log(control: Path) -> None:
    """Have conmon open the path of its log anew (never blocks); raises OSError where it has gone."""
    _control(control, f"{_REOPEN} 0 0\n".encode())


def _control(control: Path, line: bytes) -> None:
    descriptor = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def early_errors(directory: Path) -> str:
    """What conmon itself complained about before it let go of its standard error."""
    with contextlib.suppress(FileNotFoundError):
        return (directory / "conmon.err").read_bytes()[:2000].decode("utf-8", "replace").strip()
    return ""
