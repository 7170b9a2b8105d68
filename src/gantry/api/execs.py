"""The `/exec` operations of the Engine API."""

from aiohttp import web

from gantry.api.containers import size_of, stream_type
from gantry.api.query import json_body
from gantry.api.routing import Route
from gantry.api.stream import hijack
from gantry.engine.execs import Exec, ExecRequest, Execs
from gantry.engine.streams import DEFAULT_DETACH_KEYS, Pump, frame, parse_keys
from gantry.errors import GantryError
from gantry.wire.containers import convert, plain_object

_FIELDS = {
    "Cmd": "cmd", "AttachStdin": "attach_stdin", "AttachStdout": "attach_stdout", "AttachStderr": "attach_stderr",
    "Tty": "tty", "DetachKeys": "detach_keys", "Env": "env", "User": "user", "Privileged": "privileged",
    "WorkingDir": "working_dir", "ConsoleSize": "console_size",
}  # fmt: skip


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
        plain = plain_object(await json_body(request))
        fields = {_FIELDS[name]: value for name, value in plain.items() if name in _FIELDS}
        if isinstance(fields.get("cmd"), str):
            fields["cmd"] = [fields["cmd"]]
        made = self._execs.create(request.match_info["id"], convert({"cmd": [], **fields}, ExecRequest))
        return web.json_response({"Id": made.id}, status=201)

    async def start(self, request: web.Request) -> web.StreamResponse:
        made = self._execs.get(request.match_info["id"])
        body = await json_body(request)
        options = plain_object(body) if body.strip() else {}
        size = options.get("ConsoleSize")
        console = (int(size[0]), int(size[1])) if isinstance(size, list) and len(size) == 2 and size[0] else None
        tty = made.request.tty
        if options.get("Detach"):
            await self._execs.start(made, tty=tty, detach=True, console_size=console)
            return web.Response(status=200)
        self._execs.check(made)
        keys = parse_keys(made.request.detach_keys or DEFAULT_DETACH_KEYS)
        connection = await hijack(request, stream_type(request, tty=tty))
        try:
            stream = await self._execs.start(made, tty=tty, detach=False, console_size=console)
        except GantryError as error:
            # The connection is the process's already: the client shows what comes and asks for the exit code.
            text = error.message.encode() + b"\r\n"
            await connection.write(text if tty else frame(1, text))
            stream = None
        if stream is None:
            await connection.close()
            return connection.response
        pump = Pump(connection, stream, tty=tty, stdin=made.request.attach_stdin, keys=keys if tty else b"")
        pump.before_close = lambda: self._execs.settled(made)
        await pump.run()
        return connection.response

    async def resize(self, request: web.Request) -> web.StreamResponse:
        height, width = size_of(request)
        await self._execs.resize(self._execs.get(request.match_info["id"]), height, width)
        return web.Response(status=200)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(_encode(self._execs.get(request.match_info["id"])))


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
        "CanRemove": made.exit_code is not None,
        "ContainerID": made.container_id,
        "DetachKeys": "",
        "Pid": made.pid,
    }
