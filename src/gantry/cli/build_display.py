"""A build on a terminal: finished steps as lines, running ones below them with the end of their output."""

from __future__ import annotations

import base64
import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self, TextIO

_TAIL = 6
"""How many lines of a running step's output are shown."""
_KEPT = 400
"""How many lines of output are kept, to show them where the step fails."""
_INTERVAL = 0.1
_RED, _DIM, _CYAN, _PLAIN = "\x1b[31m", "\x1b[2m", "\x1b[36m", "\x1b[0m"


class _Step:
    def __init__(self, name: str) -> None:
        self.name = name
        self.began = 0.0
        self.seconds = 0.0
        self.state = ""
        """"", running, done, cached or failed."""
        self.lines: list[str] = []
        self.partial = ""
        self.statuses: dict[str, str] = {}

    def add(self, text: str) -> None:
        *whole, self.partial = (self.partial + text).split("\n")
        self.lines += [visible(line) for line in whole]
        del self.lines[:-_KEPT]


class LiveDisplay:
    """Gets the daemon's messages (`vertex`, `status`, `log`; classic `stream` texts too) and draws.

    Leave its block to stop drawing; where it is left by an exception, the failed step's output is printed.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._steps: dict[str, _Step] = {}
        self._drawn = 0
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._notes: list[str] = []
        self._failure: list[str] = []
        self._classic = False
        self._colour = not os.environ.get("NO_COLOR")

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._clock.join()
        with self._lock:
            self._erase()
            if self._classic:
                return
            if kind is not None:
                for step in self._steps.values():
                    if step.state == "running":
                        self._finish(step, "failed")
                self._print_failure()
            else:
                total = sum(step.state != "" for step in self._steps.values())
                seconds = time.monotonic() - self._began
                self._write(f"[+] {total} step{'s' if total != 1 else ''} in {seconds:.1f}s\n")
                for note in self._notes:
                    self._write(f" => {note}\n")
            self._out.flush()

    def feed(self, message: Mapping[str, Any]) -> None:
        """Take in one message."""
        with self._lock:
            if "stream" in message or isinstance(message.get("status"), str):
                self._classic = True
                self._write(str(message.get("stream") or f"{message.get('status')}\n"))
                self._out.flush()
            elif "vertex" in message:
                self._vertex(message["vertex"])
            elif "log" in message:
                self._log(message["log"])
            elif "status" in message:
                self._status(message["status"])
            elif "warning" in message:
                self._above(self._paint(f"WARNING: {visible(str(message['warning'].get('short')))}", _RED))
            elif "source" in message:
                self._source(message["source"])
            elif "aux" in message and (message["aux"] or {}).get("ID"):
                self._notes.append(f"image {message['aux']['ID']}")

    # ----------------------------------------------------------------------------- messages

    def _vertex(self, vertex: Mapping[str, Any]) -> None:
        step = self._steps.setdefault(vertex["digest"], _Step(visible(str(vertex.get("name") or ""))))
        if step.state in ("done", "cached", "failed"):
            return
        if vertex.get("started") and not step.state:
            step.state, step.began = "running", time.monotonic()
        if vertex.get("completed"):
            if vertex.get("error"):
                self._finish(step, "failed")
            else:
                self._finish(step, "cached" if vertex.get("cached") else "done")

    def _finish(self, step: _Step, state: str) -> None:
        step.seconds = time.monotonic() - step.began if step.began else 0.0
        step.state = state
        if step.partial:
            step.add("\n")
        mark = {"cached": "CACHED ", "failed": "ERROR "}.get(state, "")
        line = self._line(f" => {mark}{step.name}", step.seconds)
        self._above(self._paint(line, _RED if state == "failed" else _CYAN))
        if state == "failed":
            self._failure = [f"------ {step.name}", *step.lines, "------"]

    def _log(self, log: Mapping[str, Any]) -> None:
        step = self._steps.get(log.get("vertex") or "")
        if step is not None:
            step.add(base64.b64decode(log.get("data") or "").decode("utf-8", "replace"))

    def _status(self, status: Mapping[str, Any]) -> None:
        step = self._steps.get(status.get("vertex") or "")
        name = visible(str(status.get("name") or status.get("id") or ""))
        if step is None:
            if status.get("completed") and str(status.get("id") or "").startswith("naming to "):
                self._notes.append(visible(str(status["id"])))
            return
        from gantry.cli.units import human_size

        current, total = int(status.get("current") or 0), int(status.get("total") or 0)
        amount = f" {human_size(current)}" + (f" / {human_size(total)}" if total else "") if current else ""
        step.statuses[str(status.get("id") or name)] = f"{visible(str(status.get('id') or ''))} {name}{amount}".strip()

    def _source(self, source: Mapping[str, Any]) -> None:
        self._failure.append(f"{visible(str(source.get('file') or 'Dockerfile'))}:{source.get('line')}")
        self._failure += [visible(line) for line in str(source.get("excerpt") or "").splitlines()]
        self._failure += look_around(source)

    # ------------------------------------------------------------------------------ drawing

    def _tick(self) -> None:
        while not self._ended.wait(_INTERVAL):
            with self._lock:
                if not self._classic:
                    self._draw()

    def _draw(self) -> None:
        columns, rows = self._size()
        lines: list[str] = []
        for step in self._steps.values():
            if step.state != "running":
                continue
            lines.append(self._line(f" => {step.name}", time.monotonic() - step.began))
            below = [*list(step.statuses.values())[-_TAIL:], *step.lines[-_TAIL:]][-_TAIL:]
            lines += [self._paint(f" => => {line}"[: columns - 1], _DIM) for line in below]
        self._erase()
        lines = lines[-(max(rows, 4) - 2) :]
        self._write("".join(line + "\n" for line in lines))
        self._drawn = len(lines)
        self._out.flush()

    def _above(self, line: str) -> None:
        """A line that stays, above the running steps."""
        self._erase()
        self._write(line + "\n")

    def _erase(self) -> None:
        if self._drawn:
            self._write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _line(self, text: str, seconds: float) -> str:
        columns, _ = self._size()
        clock = f"{seconds:.1f}s"
        room = max(columns - len(clock) - 2, 10)
        return f"{text[:room]:<{room}} {clock}"

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return 100, 30
        return columns or 100, rows or 30

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour else text

    def _print_failure(self) -> None:
        self._write("".join(line + "\n" for line in self._failure))

    def _write(self, text: str) -> None:
        self._out.write(text)


def look_around(source: Mapping[str, Any]) -> list[str]:
    """How to get into the state before the step that failed, where there is one."""
    image, shell = str(source.get("image") or ""), source.get("shell") or ["/bin/sh"]
    if not image:
        return []
    short = image.removeprefix("sha256:")[:12]
    return ["", f"To look around in the state before this step: gantry run -it --rm --entrypoint {shell[0]} {short}"]


def visible(line: str) -> str:
    """What a line of foreign output shows: the last of its overwritten forms, without control sequences."""
    line = line.rstrip("\r").rpartition("\r")[2]
    parts: list[str] = []
    at = 0
    while at < len(line):
        char = line[at]
        at += 1
        if char == "\x1b":
            if line[at : at + 1] == "[":
                at += 1
                while at < len(line) and not "@" <= line[at] <= "~":
                    at += 1
            at += 1
        elif char == "\t":
            parts.append("    ")
        elif char.isprintable():
            parts.append(char)
    return "".join(parts)
