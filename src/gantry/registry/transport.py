"""Requests to registries: one connection pool, TLS and proxies per host, redirects, authentication, retries."""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from yarl import URL

from gantry import __version__
from gantry.aio import run_blocking
from gantry.errors import GantryError, InvalidArgument, Unauthorized
from gantry.registry.auth import CLIENT_ID, Challenge, Credentials, Token, challenges, decode_token, merge_scopes
from gantry.registry.endpoints import Endpoint, Endpoints, Proxies
from gantry.registry.errors import Broken, Busy, Unreachable, refusal
from gantry.registry.settings import RegistrySettings

T = TypeVar("T")

_HOPS = 10
_ERROR_LIMIT = 64 << 10
_TOKEN_LIMIT = 1 << 20
_CONNECT = 30.0  # seconds
_SILENCE = 60.0  # seconds without a byte
_READ_AHEAD = 1 << 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_WAIT = 30.0
_CERTIFICATES = 10.0  # seconds after which `certs.d` is looked at again

Body = Callable[[], Any]  # makes a request's body anew for each attempt


class Transport:
    """The connections of one daemon or command. Close it in the loop that used it."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self.endpoints = Endpoints(settings)
        self._proxies = Proxies(settings)
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[str, bool], tuple[float, ssl.SSLContext]] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def hop(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, *, insecure: bool
    ) -> aiohttp.ClientResponse:
        """One request without redirects; raises Broken. The caller releases the answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ttl_dns_cache=10, keepalive_timeout=15),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_AHEAD,
                max_line_size=32 << 10,
                max_field_size=32 << 10,
            )
        parts = urlsplit(url)
        context = await self._context(parts.netloc, insecure=insecure) if parts.scheme == "https" else None
        try:
            return await self._session.request(
                method,
                URL(url, encoded=True),
                headers={"User-Agent": f"gantry/{__version__}", "Accept-Encoding": "identity", **headers},
                data=body() if body is not None else None,
                allow_redirects=False,
                ssl=context if context is not None else True,
                proxy=self._proxies.of(url),
            )
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unreachable(
                f'{method.capitalize()} "{url}": tls: failed to verify certificate: {error.certificate_error}'
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f'{method.capitalize()} "{url}": {_reason(error, parts.netloc)}') from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Broken(f'{method.capitalize()} "{url}": {_plain(error)}') from error

    async def _context(self, netloc: str, *, insecure: bool) -> ssl.SSLContext:
        key, now = (netloc, insecure), time.monotonic()
        made, context = self._contexts.get(key, (0.0, None))
        if context is None or now - made > _CERTIFICATES:
            context = await run_blocking(self.endpoints.tls, netloc, insecure=insecure)
            self._contexts[key] = now, context
        return context


def _reason(error: aiohttp.ClientConnectorError, netloc: str) -> str:
    """Go's words for a connection that could not be made, as far as it has some."""
    cause = error.os_error
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {netloc.rpartition(':')[0] or netloc}: no such host"
    if isinstance(cause, ssl.SSLError):
        if "WRONG_VERSION_NUMBER" in str(cause) or "RECORD_LAYER_FAILURE" in str(cause):
            return "http: server gave HTTP response to HTTPS client"
        return f"tls: {cause.reason or cause}"
    if isinstance(cause, ConnectionRefusedError):
        return f"dial tcp {netloc}: connect: connection refused"
    return f"dial tcp {netloc}: {(cause.strerror or str(cause)).lower()}"


def _plain(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time (i/o timeout)"
    return " ".join(str(error).split()) or type(error).__name__


class Channel:
    """What one caller says to one endpoint: credentials, tokens and their scopes.

    Credentials go to the endpoint's own host and to the token service that it names, never where it redirects to.
    """

    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        credentials: Credentials,
        *scopes: str,
        offline: bool = False,
    ) -> None:
        """With `offline`, the token service is asked for an identity token too (`refresh`)."""
        self.endpoint = endpoint
        self._transport = transport
        self._credentials = Credentials() if endpoint.mirror else credentials
        self.scopes = set(scopes)
        self._challenge: Challenge | None = None
        self._tokens: dict[str, Token] = {}
        self._asking = asyncio.Lock()
        self._offline = offline
        self.refresh = ""

    @asynccontextmanager
    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        expect: tuple[int, ...] = (200,),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One exchange, authenticated and redirected; raises Broken, Busy, or what the answer says.

        `path` begins with a slash, or is a whole URL.
        """
        url = path if "://" in path else self.endpoint.url + path
        if self.endpoint.mirror and self.endpoint.registry not in self.endpoint.url and "://" not in path:
            url += ("&" if "?" in url else "?") + urlencode({"ns": self.endpoint.registry})
        response = await self._exchange(method, url, dict(headers or {}), body)
        try:
            if response.status not in expect:
                what = f'{method.capitalize()} "{url}"'
                data = b"" if method == "HEAD" else await _body(response, _ERROR_LIMIT, cut=True)
                retry = response.headers.get("Retry-After", "")
                raise refusal(what, response.status, response.reason or "", data, retry)
            yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Broken(f'{method.capitalize()} "{url}": {_plain(error)}') from error
        finally:
            # Who refuses a body has perhaps not read it to its end: nothing else goes over that connection.
            refused = body is not None and response.status not in expect
            response.close() if refused or not response.content.at_eof() else response.release()

    async def read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """A whole small answer; raises InvalidArgument beyond `limit` bytes."""
        return await _body(response, limit)

    async def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: Body | None
    ) -> aiohttp.ClientResponse:
        ours = self.is_ours(url)
        used = await self._authorization() if ours else ""
        response = await self._follow(method, url, headers, body, used)
        if response.status != 401 or not ours:
            return response
        demanded = challenges(response.headers.getall("WWW-Authenticate", []))
        data = await _body(response, _ERROR_LIMIT, cut=True)
        response.release()
        if not await self._answer(demanded, used):
            what = f'{method.capitalize()} "{url}"'
            error = refusal(what, 401, response.reason or "", data)
            if not used and not self._credentials.basic and self._challenge and self._challenge.scheme == "basic":
                raise Unauthorized(f"{what}: no basic auth credentials")
            raise error
        return await self._follow(method, url, headers, body, await self._authorization())

    def is_ours(self, url: str) -> bool:
        """Whether a URL is on the endpoint's own host, over no weaker connection."""
        mine, other = urlsplit(self.endpoint.url), urlsplit(url)
        return (mine.scheme, mine.netloc) == (other.scheme, other.netloc)

    async def _follow(
        self, method: str, url: str, headers: dict[str, str], body: Body | None, authorization: str
    ) -> aiohttp.ClientResponse:
        for _ in range(_HOPS):
            sent = {**headers, "Authorization": authorization} if authorization and self.is_ours(url) else headers
            insecure = self.endpoint.insecure and (self.is_ours(url) or self._is_insecure(url))
            response = await self._transport.hop(method, url, sent, body, insecure=insecure)
            target = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not target or method not in ("GET", "HEAD"):
                return response
            response.release()
            following = urljoin(url, target)
            scheme = urlsplit(following).scheme
            if scheme not in ("http", "https"):
                raise InvalidArgument(f'{method.capitalize()} "{url}": unsupported protocol scheme "{scheme}"')
            if scheme == "http" and url.startswith("https:") and not self.endpoint.insecure:
                raise InvalidArgument(
                    f'{method.capitalize()} "{url}": the redirect to "{following}" leaves TLS and is not followed'
                )
            url = following
        raise InvalidArgument(f'{method.capitalize()} "{url}": stopped after {_HOPS} redirects')

    def _is_insecure(self, url: str) -> bool:
        return self._transport.endpoints.is_insecure(urlsplit(url).netloc)

    # ------------------------------------------------------------------------------------ authentication

    async def _authorization(self) -> str:
        """The Authorization header for now: "" before the registry has asked for one."""
        if self._credentials.registrytoken:
            return f"Bearer {self._credentials.registrytoken}"
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            return self._credentials.basic
        return f"Bearer {(await self._token(self._challenge)).value}"

    async def _answer(self, demanded: list[Challenge], used: str) -> bool:
        """Get ready for another attempt after an answer 401; False where there is nothing else to try."""
        bearer = next((item for item in demanded if item.scheme == "bearer"), None)
        basic = next((item for item in demanded if item.scheme == "basic"), None)
        if bearer is not None and not self._credentials.registrytoken:
            if scope := bearer.parameters.get("scope"):
                self.scopes.update(scope.split())
            self._challenge = bearer
            key = self._key()
            if used and (token := self._tokens.get(key)) is not None and used == f"Bearer {token.value}":
                del self._tokens[key]  # it has ended early, or the scopes have grown
            token = await self._token(bearer)
            return used != f"Bearer {token.value}"
        if basic is not None:
            self._challenge = basic
            return bool(self._credentials.basic) and used != self._credentials.basic
        return False

    def _key(self) -> str:
        return " ".join(merge_scopes(self.scopes))

    async def _token(self, challenge: Challenge) -> Token:
        async with self._asking:
            token = self._tokens.get(self._key())
            if token is None or not token.is_fresh:
                token = self._tokens[self._key()] = await self._fetch_token(challenge)
                self.refresh = token.refresh or self.refresh
            return token

    async def _fetch_token(self, challenge: Challenge) -> Token:
        realm, service = challenge.parameters.get("realm", ""), challenge.parameters.get("service", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Unauthorized(f'unable to parse realm "{realm}" of {self.endpoint.url}')
        insecure = self.endpoint.insecure
        if parts.scheme == "http" and self.endpoint.url.startswith("https:") and not insecure:
            raise Unauthorized(f"{self.endpoint.host} wants credentials sent to {realm} without TLS: refused")
        scopes = merge_scopes(self.scopes)
        known = self._credentials
        if known.identitytoken:
            form = {
                "grant_type": "refresh_token", "service": service, "client_id": CLIENT_ID,
                "refresh_token": known.identitytoken, **({"scope": " ".join(scopes)} if scopes else {}),
            }  # fmt: skip
            content = {"Content-Type": "application/x-www-form-urlencoded"}
            return await self._ask("POST", realm, content, urlencode(form), insecure=insecure)
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        query += [("offline_token", "true"), ("client_id", CLIENT_ID)] if self._offline else []
        headers = {}
        if known.basic:
            query.append(("account", known.username))
            headers["Authorization"] = known.basic
        url = realm + ("&" if parts.query else "?") + urlencode(query) if query else realm
        return await self._ask("GET", url, headers, "", insecure=insecure)

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], form: str, *, insecure: bool) -> Token:
        async def once() -> Token:
            body = form.encode() if form else None
            response = await self._transport.hop(
                method, url, headers, (lambda: body) if body else None, insecure=insecure
            )
            try:
                data = await _body(response, _TOKEN_LIMIT)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Broken(f'{method.capitalize()} "{url}": {_plain(error)}') from error
            finally:
                response.release()
            if response.status != 200:
                what = f"{method.capitalize()} token of {urlsplit(url).netloc}"
                raise refusal(
                    what, response.status, response.reason or "", data, response.headers.get("Retry-After", "")
                )
            return decode_token(data, urlsplit(url)._replace(query="").geturl())

        return await attempts(self._transport.settings.attempts, once)


async def _body(response: aiohttp.ClientResponse, limit: int, *, cut: bool = False) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            if cut:
                break
            raise InvalidArgument(f"answer of {response.url.host} is larger than {limit} bytes")
    return b"".join(pieces)[:limit]


async def attempts(count: int, once: Callable[[], Awaitable[T]]) -> T:
    """Run `once` until it succeeds, at most `count` times, with growing pauses after Broken and Busy."""
    for number in range(1, max(count, 1) + 1):
        try:
            return await once()
        except (Broken, Busy) as error:
            if number >= count or isinstance(error, Unreachable):
                raise
            wait = pause(number, error)
            await asyncio.sleep(wait)
    raise AssertionError  # the last attempt returns or raises


def pause(number: int, error: GantryError) -> float:
    """Seconds before attempt `number` + 1: what the registry asks for, else half a second, doubled each time."""
    asked = error.wait if isinstance(error, Busy) else 0
    return min(asked or 0.5 * 2 ** (number - 1) * random.uniform(0.75, 1.25), _LONGEST_WAIT)  # noqa: S311
