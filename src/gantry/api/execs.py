"""The `/exec` operations of the Engine API."""

import msgspec
from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.attach import stream_type
from gantry.api.containers import size_of
from gantry.api.query import json_body
from gantry.api.routing import Route
from gantry.api.stream import hijack
from gantry.engine.execs import Exec, ExecRequest, Execs
from gantry.engine.streams import DEFAULT_DETACH_KEYS, Pump, frame, parse_keys
from gantry.errors import GantryError
from gantry.model.golang import go_name
from gantry.wire.create import convert, plain_object


class ExecOptions(msgspec.Struct, frozen=True, rename=go_name):
    """Engine API `ExecConfig`."""

    cmd: list[str] = []
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    user: str = ""
    privileged: bool = False
    working_dir: str = ""
    console_size: list[int] | None = None


def routes(execs: Execs) -> list[Route]:
    h = _Handlers(execs)
    return [
        Route("POST", "/containers/{id}/exec", h.create),
        Route("POST", "/exec/{id}/start", h.start),
        Route("POST", "/exec/{id}/resize", h.resize),
        Route("GET", "/exec/{id}/json", h.inspect),
    ]


class _Handlers:
    def __init__(self, execs: Execs) -> None:
        self._execs = execs

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        asked = convert(plain_object(body), ExecOptions, "ExecOptions") if body.strip() else ExecOptions()
        fields = msgspec.structs.asdict(asked)
        made = await self._execs.create(request.match_info["id"], ExecRequest(**fields))
        return json_answer({"Id": made.id}, status=201)

    async def start(self, request: web.Request) -> web.StreamResponse:
        made = self._execs.get(request.match_info["id"])
        body = await json_body(request)
        options = plain_object(body) if body.strip() else {}
        size = options.get("ConsoleSize")
        console = None
        if isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and 0 < n < 65536 for n in size):
            console = (size[0], size[1])
        tty = made.request.tty
        if options.get("Detach"):
            await self._execs.start(made, detach=True, console_size=console)
            return web.Response(status=200)
        self._execs.check(made)
        keys = parse_keys(made.request.detach_keys or DEFAULT_DETACH_KEYS)
        connection = await hijack(request, stream_type(request, tty=tty))
        try:
            stream = await self._execs.start(made, detach=False, console_size=console)
        except GantryError as error:
            # The connection is the process's already: the client shows what comes and asks for the exit code.
            text = error.message.encode() + b"\r\n"
            await connection.write(text if tty else frame(1, text))
            stream = None
        if stream is None:
            await connection.close()
            return connection.response
        asked = made.request
        pump = Pump(
            connection,
            stream,
            tty=tty,
            stdin=asked.attach_stdin,
            stdout=asked.attach_stdout,
            stderr=asked.attach_stderr,
            keys=keys if tty else b"",
        )
        pump.before_close = lambda: self._execs.settled(made)
        if await pump.run():
            self._execs.detached(made)
        return connection.response

    async def resize(self, request: web.Request) -> web.StreamResponse:
        height, width = size_of(request)
        await self._execs.resize(self._execs.get(request.match_info["id"]), height, width)
        return web.Response(status=200)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        return json_answer(_encode(self._execs.get(request.match_info["id"])))


def _encode(made: Exec) -> dict[str, object]:
    asked = made.request
    return {
        "ID": made.id,
        "Running": made.running,
        "ExitCode": made.exit_code,
        "ProcessConfig": {
            "tty": asked.tty,
            "entrypoint": asked.cmd[0],
            "arguments": asked.cmd[1:],
            "privileged": asked.privileged,
            **({"user": asked.user} if asked.user else {}),
        },
        "OpenStdin": asked.attach_stdin,
        "OpenStderr": asked.attach_stderr,
        "OpenStdout": asked.attach_stdout,
        "CanRemove": False,
        "ContainerID": made.container_id,
        "DetachKeys": asked.detach_keys,
        "Pid": made.pid,
    }
