import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gantry.client.client import Client, query_string, segment
from gantry.client.endpoints import Endpoint
from gantry.client.errors import ConnectionFailed, ProtocolError, ResponseError, StreamError
from gantry.client.stream import Frames
from lib.fake_api import FakeAPI, Request, Taken, frame, respond, upgrade

_CLIENTS: list[Client] = []


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    while _CLIENTS:
        _CLIENTS.pop().close()


def client_of(api: FakeAPI | Path, **environ: str) -> Client:
    client = Client(Endpoint(api.url if isinstance(api, FakeAPI) else f"unix://{api}"), environ=environ)
    _CLIENTS.append(client)
    return client


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeAPI]:
    made = FakeAPI(tmp_path)
    yield made
    while _CLIENTS:
        _CLIENTS.pop().close()
    made.close()


def raw(text: bytes) -> object:
    """A handler that writes `text` as its whole answer and closes."""

    def handler(request: Request) -> None:
        request.connection.sendall(text)
        raise Taken

    return handler


def test_version_is_negotiated_once_on_one_connection(api: FakeAPI) -> None:
    api.on("GET /containers/json", [])
    client = client_of(api)
    assert client.get("/containers/json", {"all": True}) == []
    assert client.get("/containers/json") == []
    assert [request.version for request in api.requests] == ["", "1.51", "1.51"]
    assert api.connections == 1
    assert api.requests[1].query == {"all": "1"}


def test_never_newer_than_ourselves(tmp_path: Path) -> None:
    api = FakeAPI(tmp_path, version="1.99")
    client = client_of(api)
    assert client.api_version == "1.55"
    client.close()
    api.close()


def test_docker_api_version_needs_no_ping(api: FakeAPI) -> None:
    api.on("GET /info", {"ID": "x"})
    assert client_of(api, DOCKER_API_VERSION="1.41").get("/info") == {"ID": "x"}
    assert [request.version for request in api.requests] == ["1.41"]


def test_error_messages(api: FakeAPI) -> None:
    api.on("GET /containers/x/json", (404, {"message": "No such container: x"}))
    with pytest.raises(ResponseError, match=r"^Error response from daemon: No such container: x$") as caught:
        client_of(api).get("/containers/x/json")
    assert (caught.value.status, caught.value.detail) == (404, "No such container: x")


def test_error_without_json(api: FakeAPI) -> None:
    api.on("GET /info", raw(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops"))
    with pytest.raises(ResponseError, match="oops"):
        client_of(api).get("/info")


def test_no_daemon(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nothing.sock"
    with pytest.raises(ConnectionFailed, match=r"^Cannot connect to the Gantry daemon at unix://"):
        Client(Endpoint(url), environ={}).ping()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{nojs",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 400_000,
    ],
)
def test_broken_answers_are_protocol_errors(api: FakeAPI, answer: bytes) -> None:
    api.on("GET /info", raw(answer))
    with pytest.raises(ProtocolError):
        client_of(api).request("GET", "/info").json()


def test_chunked_answers_and_messages_split_anywhere(api: FakeAPI) -> None:
    text = '{"status":"a\u00e9"}\r\n{"status":"b"}{"status":\n"c"}\n'.encode()

    def handler(request: Request) -> None:
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in text:
            request.connection.sendall(b"1\r\n" + bytes((byte,)) + b"\r\n")
        request.connection.sendall(b"0\r\n\r\n")
        raise Taken

    api.on("POST /images/create", handler)
    messages = list(client_of(api).messages("POST", "/images/create"))
    assert [message["status"] for message in messages] == ["a\u00e9", "b", "c"]


def test_a_message_with_an_error_raises(api: FakeAPI) -> None:
    body = b'{"status":"x"}\n{"errorDetail":{"code":7,"message":"no space"},"error":"no space"}\n'
    api.on("POST /build", lambda request: (respond(request.connection, 200, body, request), _taken())[1])
    seen = []
    with pytest.raises(StreamError, match="no space") as caught:
        seen.extend(client_of(api).messages("POST", "/build"))
    assert caught.value.code == 7


def _taken() -> None:
    raise Taken


def test_a_stream_that_breaks_off(api: FakeAPI) -> None:
    api.on("GET /events", raw(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"status":'))
    with pytest.raises(ProtocolError):
        list(client_of(api).messages("GET", "/events"))


def test_upload_in_chunks(api: FakeAPI) -> None:
    api.on("POST /images/load", lambda request: {"size": len(request.body)})
    answer = client_of(api).request("POST", "/images/load", data=(b"x" * 70_000 for _ in range(20)))
    assert answer.json() == {"size": 1_400_000}


def test_an_upload_ends_early_where_the_daemon_refuses(api: FakeAPI, tmp_path: Path) -> None:
    """The daemon answers after the head and reads no more: the rest of an endless body is never sent."""
    import socket

    path = tmp_path / "refuse.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def refuse() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b'HTTP/1.1 400 Bad\r\nContent-Length: 18\r\n\r\n{"message":"full"}')
        connection.recv(1)
        connection.close()

    thread = threading.Thread(target=refuse, daemon=True)
    thread.start()

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    client = client_of(path, DOCKER_API_VERSION="1.51")
    with pytest.raises(ResponseError, match="full"):
        client.request("PUT", "/containers/x/archive", data=endless())
    thread.join(5)
    listener.close()


def test_together_asks_all_at_once_and_answers_in_order(api: FakeAPI) -> None:
    barrier = threading.Barrier(3)

    def stop(request: Request) -> object:
        barrier.wait(5)
        return (204, None) if "bad" not in request.path else (409, {"message": "no"})

    for name in ("a", "bad", "c"):
        api.on(f"POST /containers/{name}/stop", stop)
    outcomes = client_of(api).together("POST", [f"/containers/{name}/stop" for name in ("a", "bad", "c")])
    assert [str(outcome) for outcome in outcomes] == ["None", "Error response from daemon: no", "None"]


def test_a_closed_idle_connection_is_replaced(api: FakeAPI) -> None:
    def close_after(request: Request) -> None:
        respond(request.connection, 200, b'"one"', request)
        raise Taken

    api.on("GET /one", close_after)
    api.on("GET /two", "two")
    client = client_of(api)
    assert client.get("/one") == "one"
    for thread in list(api._threads):
        thread.join(5)
    assert client.get("/two") == "two"
    assert api.connections == 2


def test_upgrade_gives_frames_and_takes_input(api: FakeAPI) -> None:
    def attach(request: Request) -> None:
        assert request.headers["upgrade"] == "tcp"
        connection = upgrade(request)
        got = b""
        while block := connection.recv(100):
            got += block
        connection.sendall(frame(1, got.upper()) + frame(2, b"err"))
        raise Taken

    api.on("POST /containers/x/attach", attach)
    stream = client_of(api).upgrade("/containers/x/attach", {"stream": True})
    stream.send_some(memoryview(b"hello"))
    stream.close_write()
    frames = []
    while (some := stream.receive()) is not None:
        frames += some
    assert frames == [(1, b"HELLO"), (2, b"err")]
    stream.close()


def test_frames_split_anywhere() -> None:
    data = frame(1, b"abc") + frame(2, b"") + frame(2, b"de") + frame(1, b"f" * 300)
    frames = Frames(framed=True)
    out = {1: b"", 2: b""}
    for byte in data:
        for number, part in frames.feed(bytes((byte,))):
            out[number] += part
    assert out == {1: b"abc" + b"f" * 300, 2: b"de"}
    with pytest.raises(ProtocolError, match="Unrecognized stream"):
        list(Frames(framed=True).feed(b"HTTP/1.1 oops"))


def test_queries_and_segments() -> None:
    assert query_string({"a": True, "b": None, "c": ["x", "y z"], "d": {"k": {"v": True}}, "e": 0}) == (
        "?a=1&c=x&c=y%20z&d=%7B%22k%22%3A%7B%22v%22%3Atrue%7D%7D&e=0"
    )
    assert segment("a/b c?\u00e9") == "a%2Fb%20c%3F%C3%A9"


def test_download_feeds_tarfile(api: FakeAPI) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    body = out.getvalue()
    api.on("GET /images/get", lambda request: (respond(request.connection, 200, body, request), _taken())[1])
    assert b"".join(client_of(api).download("/images/get")) == body
