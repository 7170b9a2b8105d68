"""Attach over a WebSocket, as browsers do it."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest

from lib.daemon import Client, Daemon

Exchange = Callable[[aiohttp.ClientWebSocketResponse], Any]


@pytest.fixture
def made(gantry: Client) -> Iterator[Callable[..., str]]:
    """Makes containers that are removed afterwards."""
    names: list[str] = []

    def make(*words: str) -> str:
        names.append(gantry.out("run", "-d", *words))
        return names[-1]

    yield make
    if names:
        gantry.run("rm", "-f", *names)


async def attach(daemon: Daemon, path: str, exchange: Exchange) -> None:
    connector = aiohttp.UnixConnector(str(daemon.socket))
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session,
        session.ws_connect(f"http://localhost{path}") as socket,
    ):
        await exchange(socket)


async def received(socket: aiohttp.ClientWebSocketResponse, wanted: bytes) -> aiohttp.WSMsgType:
    """Reads until `wanted` has come; the kind of the last message."""
    data = b""
    while True:
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        data += message.data if isinstance(message.data, bytes) else message.data.encode()
        if wanted in data:
            return message.type


@pytest.mark.parametrize(
    ("version", "kind"),
    [("v1.27", aiohttp.WSMsgType.TEXT), ("v1.28", aiohttp.WSMsgType.BINARY), ("v1.51", aiohttp.WSMsgType.BINARY)],
)
async def test_input_and_output(
    daemon: Daemon, gantry: Client, made: Callable[..., str], version: str, kind: aiohttp.WSMsgType
) -> None:
    name = await asyncio.to_thread(made, "-i", "busybox", "sh", "-c", 'read line; echo "out $line"; echo done >&2')

    async def exchange(socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_str("hello\n")
        # Before 1.28 there are text messages, and never frames: standard error comes as it is.
        assert await received(socket, b"out hello\n") is kind
        await received(socket, b"done\n")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    await attach(daemon, f"/{version}/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", exchange)
    assert await asyncio.to_thread(gantry.out, "wait", name) == "0"


async def test_streams_are_chosen_since_1_42(daemon: Daemon, made: Callable[..., str]) -> None:
    name = await asyncio.to_thread(made, "-i", "busybox", "sh", "-c", "read x; echo no; echo yes >&2; read y")

    async def exchange(socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_str("go\n")
        message = await socket.receive()
        assert message.data == b"yes\n"

    await attach(daemon, f"/v1.42/containers/{name}/attach/ws?stream=1&stdin=1&stderr=1", exchange)


async def test_logs_terminal_and_detach(daemon: Daemon, gantry: Client, made: Callable[..., str]) -> None:
    name = await asyncio.to_thread(made, "-it", "busybox", "sh", "-c", "echo before; cat")

    async def exchange(socket: aiohttp.ClientWebSocketResponse) -> None:
        await received(socket, b"before\r\n")
        await socket.send_str("typed\n")
        await received(socket, b"typed\r\ntyped\r\n")  # the terminal's echo, and what cat says
        await socket.send_bytes(b"\x18")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    target = f"/containers/{name}/attach/ws?logs=1&stream=1&stdin=1&stdout=1&detachKeys=ctrl-x"
    await attach(daemon, target, exchange)
    assert await asyncio.to_thread(gantry.out, "inspect", "-f", "{{.State.Running}}", name) == "true"


async def test_a_plain_request_is_refused(daemon: Daemon, made: Callable[..., str]) -> None:
    name = await asyncio.to_thread(made, "busybox", "sleep", "60")
    connector = aiohttp.UnixConnector(str(daemon.socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://localhost/containers/{name}/attach/ws?stream=1") as answer,
    ):
        assert answer.status == 400
