"""Running a scenario on one engine."""

import json
import re
import secrets
import shlex
import struct
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests.exceptions

from differential.compare import Answer
from differential.engines import Engine
from differential.normalise import Normaliser
from differential.scenario import Scenario, Step

API = "/v1.51"
_HOLDER = re.compile(r"(?<![\w@])@([a-z][a-z0-9]*)")
_EVENTS_SETTLE = 0.4  # seconds for events that follow an answer


class Player:
    """Plays one scenario on one engine. `prefix` begins every name that the scenario makes."""

    def __init__(self, engine: Engine, scenario: Scenario) -> None:
        self.engine = engine
        self.scenario = scenario
        self.prefix = f"dt{secrets.token_hex(4)}"
        self._local = Path(tempfile.mkdtemp(prefix="dt-", dir="/var/tmp"))
        self._remote = f"/var/tmp/{self.prefix}-dir"
        self._replaced = {
            engine.root: "@root",
            engine.rich: "@rich",
            engine.image: "@image",
            self._remote: "@dir",
            str(self._local): "@local",
        }
        self._normaliser = Normaliser(self.prefix, self._replaced)

    def play(self) -> list[Answer]:
        """An answer for each step, then one for the events where the scenario asks for them."""
        for name, text in self.scenario.files.items():
            path = self._local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.fill(text))
        began = time.time_ns()
        try:
            answers = [self._step(step) for step in self.scenario.steps]
            if self.scenario.events:
                answers.append(Answer({"events": self._events(began)}))
            return answers
        finally:
            self._clean()

    def fill(self, text: str) -> str:
        """`@image`, `@rich`, `@dir` (a path of the daemon's), `@local` (of the client's); `@other` is a name."""
        known = {
            "image": self.engine.image, "rich": self.engine.rich, "dir": self._remote, "local": str(self._local),
        }  # fmt: skip
        filled = _HOLDER.sub(lambda found: known.get(found[1], f"{self.prefix}-{found[1]}"), text)
        return filled.replace("@@", "@")

    def _clean(self) -> None:
        self.engine.clean(self.prefix)
        texts = [step.text for step in self.scenario.steps]
        if any("@dir" in text for text in texts):
            arguments = ("run", "--rm", "-v", "/var/tmp:/t", self.engine.image)
            self.engine.client.run(*arguments, "rm", "-rf", f"/t/{Path(self._remote).name}")
        subprocess.run(["rm", "-rf", str(self._local)], check=True)

    # -------------------------------------------------------------------------------------------- steps

    def _step(self, step: Step) -> Answer:
        self._normaliser = Normaliser(self.prefix, self._replaced)
        text = self.fill(step.text)
        if step.kind == "docker":
            done = self.engine.client.run(*shlex.split(text), check=False, stdin=self._stdin(step), timeout=60)
            return self._printed(done)
        if step.kind == "sh":
            shell = ["sh", "-c", text]
            return self._printed(subprocess.run(shell, capture_output=True, text=True, check=False, cwd=self._local))
        if step.kind == "sdk":
            return self._sdk(text)
        return self._http(step, text)

    def _stdin(self, step: Step) -> str | None:
        return None if step.stdin is None else self.fill(step.stdin)

    def _printed(self, done: "subprocess.CompletedProcess[str]") -> Answer:
        clean = self._normaliser.text
        stdout = "(binary)" if "\0" in done.stdout else clean(done.stdout)
        return Answer({"exit code": done.returncode, "stdout": stdout, "stderr": clean(done.stderr)})

    def _http(self, step: Step, text: str) -> Answer:
        target, _, body = text.partition(" ")
        if not target.startswith("/v1."):
            target = API + target
        headers = {"Content-Type": "application/json"} if body else {}
        connection = self.engine.connection()
        try:
            quoted = urllib.parse.quote(target, safe="/?&=%:,+@~")
            connection.request(step.kind, quoted, body.encode() if body else None, headers | step.headers)
            answer = connection.getresponse()
            kind = answer.headers.get("Content-Type", "")
            data = answer.read()
        finally:
            connection.close()
        return self._answer(answer.status, kind, data)

    def _answer(self, status: int, kind: str, data: bytes) -> Answer:
        fields: dict[str, Any] = {"status": status, "content type": kind}
        if kind.partition(";")[0] == "application/json":
            try:
                return Answer(fields, self._normaliser.value(json.loads(data)))
            except ValueError:
                pass
        if kind == "application/vnd.docker.multiplexed-stream":
            fields["frames"] = self._normaliser.value(_frames(data))
        elif kind == "application/x-tar":
            fields["body"] = f"{bool(data)}"
        else:
            fields["body"] = self._normaliser.text(data.decode(errors="replace"))
        return Answer(fields)

    def _sdk(self, text: str) -> Answer:
        client = docker.DockerClient(base_url=self.engine.host, version="1.51", timeout=60)
        try:
            value = eval(text, {"client": client, "docker": docker})  # the scenario's own expression
            return Answer({"value": self._normaliser.text(_shown(value))})
        except docker.errors.APIError as error:
            raised = f"{type(error).__name__} {error.status_code}: {error.explanation}"
        except (docker.errors.DockerException, requests.exceptions.RequestException, TypeError, ValueError) as error:
            raised = f"{type(error).__name__}: {error}"
        finally:
            client.close()
        return Answer({"raised": self._normaliser.text(raised)})

    # ------------------------------------------------------------------------------------------- events

    def _events(self, began: int) -> list[str]:
        until = time.time() + _EVENTS_SETTLE
        span = {"since": f"{began // 10**9}.{began % 10**9:09d}", "until": f"{until:.9f}"}
        connection = self.engine.connection()
        try:
            connection.request("GET", f"{API}/events?{urllib.parse.urlencode(span)}")
            lines = connection.getresponse().read().splitlines()
        finally:
            connection.close()
        events = [json.loads(line) for line in lines if line.strip()]
        own = {
            event["Actor"]["ID"]
            for event in events
            if event["Type"] == "container" and self.prefix in event["Actor"]["Attributes"].get("name", "")
        }
        found = []
        for event in events:
            text = json.dumps(event)
            if self.prefix in text or any(identifier in text for identifier in own):
                keys = ",".join(sorted(event["Actor"]["Attributes"]))
                found.append(self._normaliser.text(f"{event['Type']} {event['Action']} [{keys}]"))
        return found


def _frames(data: bytes) -> list[str]:
    """The output of a multiplexed stream, neighbouring frames of one stream joined."""
    found: list[tuple[int, bytes]] = []
    while len(data) >= 8:
        stream, size = struct.unpack(">BxxxI", data[:8])
        block, data = data[8 : 8 + size], data[8 + size :]
        if found and found[-1][0] == stream:
            block = found.pop()[1] + block
        found.append((stream, block))
    return [f"{stream}: {block.decode(errors='replace')}" for stream, block in found]


def _shown(value: Any) -> str:
    """A value of the SDK as text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    for kind in ("name", "status"):
        if hasattr(value, kind) and hasattr(value, "attrs"):
            return f"{type(value).__name__}({', '.join(str(getattr(value, key, '')) for key in ('name', 'status'))})"
    return str(value)
