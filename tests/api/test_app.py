"""Versions, matching, errors and headers, through a real HTTP client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from gantry import errors
from gantry.api.app import application
from gantry.api.dispatch import Matcher
from gantry.api.query import boolean, filters, integer, json_body
from gantry.api.routing import Route, api_version

Call = Callable[..., Awaitable[ClientResponse]]


async def show(request: web.Request) -> web.Response:
    return web.json_response({"match": dict(request.match_info), "version": api_version(request)})


async def query(request: web.Request) -> web.Response:
    return web.json_response({"b": boolean(request, "b", True), "i": integer(request, "i", 7), "f": filters(request)})


async def take(request: web.Request) -> web.Response:
    return web.Response(body=await json_body(request, 100))


def failing(error: Exception) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        raise error

    return handler


ERRORS: dict[str, tuple[Exception, int]] = {
    "InvalidArgument": (errors.InvalidArgument("bad"), 400),
    "Unauthorized": (errors.Unauthorized("who"), 401),
    "Forbidden": (errors.Forbidden("no"), 403),
    "NotFound": (errors.NotFound("No such container: x"), 404),
    "Conflict": (errors.Conflict("taken"), 409),
    "Unsupported": (errors.Unsupported("not here"), 501),
    "Unavailable": (errors.Unavailable("down"), 503),
    "Internal": (errors.Internal("disk"), 500),
    "OSError": (ConnectionRefusedError(111, "Connection refused"), 500),
}


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    app = application(
        [
            Route("GET", "/images/json", show),
            Route("GET", "/images/{name:.+}/json", show),
            Route("GET", "/containers/{id}/json", show),
            Route("HEAD", "/_ping", show),
            Route("GET", "/query", query),
            Route("POST", "/take", take),
            Route("POST", "/same", failing(errors.NotModified())),
            *(Route("GET", f"/fail/{name}", failing(error)) for name, (error, _) in ERRORS.items()),
        ]
    )
    async with TestClient(TestServer(app)) as client:

        async def request(method: str, path: str, **options: Any) -> ClientResponse:
            return await client.request(method, URL(path, encoded=True), allow_redirects=False, **options)

        yield request


@pytest.mark.parametrize(
    ("path", "match", "version"),
    [
        ("/images/json", {}, [1, 55]),
        ("/v1.24/images/json", {}, [1, 24]),
        ("/v1.40.3/images/json", {}, [1, 40]),
        ("/v1.41/images/me/app:1.0/json", {"name": "me/app:1.0"}, [1, 41]),
        ("/v1.41/images/me%2Fapp/json", {"name": "me/app"}, [1, 41]),
        ("/v1.41/images/json/json", {"name": "json"}, [1, 41]),
        ("/containers/a b/json", {"id": "a b"}, [1, 55]),
    ],
)
async def test_routes(call: Call, path: str, match: dict[str, str], version: list[int]) -> None:
    answer = await call("GET", path.replace(" ", "%20"))
    assert await answer.json() == {"match": match, "version": version}
    assert answer.headers["Api-Version"] == "1.55"
    assert answer.headers["Ostype"] == "linux"
    assert answer.headers["Docker-Experimental"] == "false"
    assert answer.headers["Server"].startswith("Gantry/")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("GET", "/v1.41/nope"),
        ("GET", "/v1.24"),
        ("GET", "/v1.24x/images/json"),
        ("POST", "/images/json"),
        ("HEAD", "/images/json"),
        ("GET", "/containers/a/b/json"),
        ("GET", "/"),
    ],
)
async def test_page_not_found(call: Call, method: str, path: str) -> None:
    answer = await call(method, path)
    assert answer.status == 404
    if method != "HEAD":
        assert await answer.json() == {"message": "page not found"}


async def test_head_and_options_have_no_body(call: Call) -> None:
    assert (await call("HEAD", "/_ping")).status == 200
    assert (await call("OPTIONS", "/images/json")).status == 200


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//images/json", "/images/json"),
        ("/images/../images//json", "/images/json"),
        ("/v1.41/./images/json?a=b%20c", "/v1.41/images/json?a=b%20c"),
    ],
)
async def test_unclean_paths_are_redirected(path: str, clean: str) -> None:
    async with TestServer(application([Route("GET", "/images/json", show)])) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.0 301 ")
    assert f"\r\nLocation: {clean}\r\n".encode() in answer


@pytest.mark.parametrize(
    ("version", "words", "kind"),
    [
        (
            "1.23",
            (
                "client version 1.23 is too old. Minimum supported API version is 1.24, "
                "please upgrade your client to a newer version"
            ),
            "text/plain",
        ),
        ("0", "client version 0 is too old.", "text/plain"),
        ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.55", "application/json"),
        ("2", "client version 2 is too new. Maximum supported API version is 1.55", "application/json"),
    ],
)
async def test_versions_out_of_range(call: Call, version: str, words: str, kind: str) -> None:
    answer = await call("GET", f"/v{version}/images/json")
    assert (answer.status, answer.content_type) == (400, kind)
    assert words in await answer.text()


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_have_docker_s_status_and_document(call: Call, name: str) -> None:
    error, status = ERRORS[name]
    answer = await call("GET", f"/fail/{name}")
    text = await answer.text()
    assert answer.status == status
    assert text.endswith("}\n")
    message = (await answer.json())["message"]
    assert message == str(error) or message == f"{type(error).__name__}: {error}"


async def test_an_unforeseen_error_is_logged_with_its_traceback(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    await call("GET", "/fail/OSError")
    assert "GET /fail/OSError failed" in caplog.text
    assert "Traceback" in caplog.text


async def test_not_modified_has_no_body(call: Call) -> None:
    answer = await call("POST", "/same")
    assert (answer.status, await answer.read()) == (304, b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"b": True, "i": 7, "f": {}}),
        ("b=&i=&filters=", {"b": False, "i": 7, "f": {}}),
        ("b=none&i=-3", {"b": False, "i": -3, "f": {}}),
        ("b=yes&i=%2B5", {"b": True, "i": 5, "f": {}}),
        ('filters={"a":["x","y"]}', {"b": True, "i": 7, "f": {"a": ["x", "y"]}}),
        ('filters={"a":{"x":true,"y":false}}', {"b": True, "i": 7, "f": {"a": ["x"]}}),
    ],
)
async def test_query(call: Call, text: str, expected: dict[str, Any]) -> None:
    assert await (await call("GET", "/query?" + text)).json() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i=abc", 'strconv.ParseInt: parsing "abc": invalid syntax'),
        ("i=1e3", 'strconv.ParseInt: parsing "1e3": invalid syntax'),
        ("i=99999999999999999999", 'strconv.ParseInt: parsing "99999999999999999999": value out of range'),
        ("filters=xx", "invalid filter"),
        ('filters={"a":"x"}', "invalid filter"),
        ("filters=[]", "invalid filter"),
    ],
)
async def test_bad_query(call: Call, text: str, message: str) -> None:
    answer = await call("GET", "/query?" + text)
    assert (answer.status, await answer.json()) == (400, {"message": message})


@pytest.mark.parametrize(
    ("kind", "body", "status", "expected"),
    [
        ("application/json", b"{}", 200, "{}"),
        ("application/json; charset=utf-8", b"{}", 200, "{}"),
        (None, b"", 200, ""),
        ("text/plain", b"{}", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"),
        ("application/json", bytes(101), 400, "request body is larger than 100 bytes"),
    ],
)
async def test_json_body(call: Call, kind: str | None, body: bytes, status: int, expected: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = await call("POST", "/take", data=body, headers=headers, skip_auto_headers=["Content-Type"])
    assert answer.status == status
    text = await answer.text()
    assert text == expected if status == 200 else expected in text


async def test_chunked_body_is_bounded(call: Call) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield bytes(10)

    answer = await call("POST", "/take", data=pieces(), headers={"Content-Type": "application/json"})
    assert answer.status == 400


def test_first_given_pattern_wins_and_method_counts() -> None:
    matcher = Matcher(
        [
            Route("GET", "/a/{x}/b", show),
            Route("GET", "/a/{y:.+}", query),
            Route("POST", "/a/{z}", take),
            Route("GET", "/a.b/{x}", take),
        ]
    )
    assert matcher.find("GET", "/a/1/b") == (show, {"x": "1"})
    assert matcher.find("GET", "/a/1/c") == (query, {"y": "1/c"})
    assert matcher.find("POST", "/a/1") == (take, {"z": "1"})
    assert matcher.find("POST", "/a/1/2") is None
    assert matcher.find("GET", "/axb/1") is None
