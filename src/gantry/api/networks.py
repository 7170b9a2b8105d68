"""The `/networks` operations of the Engine API."""

import re
from collections.abc import Callable

from aiohttp import web

from gantry.api.answers import json_answer
from gantry.api.query import filters, json_body
from gantry.api.routing import Route, api_version
from gantry.engine.networks import NetworkCases
from gantry.errors import Forbidden, Internal, InvalidArgument, NotFound, Unsupported
from gantry.model import timestamp
from gantry.model.network import Network
from gantry.ports import NetworkRequest
from gantry.wire import networks as wire
from gantry.wire.errors import decode
from gantry.wire.times import moment

_LIST = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE = frozenset({"label", "label!", "until"})
_TRUE = frozenset({"1", "true"})
_FALSE = frozenset({"0", "false"})


def routes(networks: NetworkCases) -> list[Route]:
    h = _Handlers(networks)
    return [
        Route("GET", "/networks", h.all),
        Route("GET", "/networks/", h.all),
        Route("POST", "/networks/create", h.create),
        Route("POST", "/networks/prune", h.prune),
        Route("GET", "/networks/{id:.+}", h.inspect),
        Route("DELETE", "/networks/{id:.+}", h.remove),
        Route("POST", "/networks/{id:.+}/connect", h.connect),
        Route("POST", "/networks/{id:.+}/disconnect", h.disconnect),
    ]


class _Handlers:
    def __init__(self, networks: NetworkCases) -> None:
        self._networks = networks

    async def all(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        matches = _list_filter(wanted)
        dangling = _dangling(wanted)
        shown = []
        for network in await self._networks.list():
            if not matches(network):
                continue
            unused = not network.predefined and not await self._networks.users(network)
            if dangling is None or dangling == unused:
                shown.append(wire.network(network, api_version(request)))
        return json_answer(shown)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        verbose = request.query.get("verbose", "")
        if verbose.lower() not in ("", "t", "f", *_TRUE, *_FALSE):
            raise InvalidArgument(
                f'invalid value for verbose: {verbose}: strconv.ParseBool: parsing "{verbose}": invalid syntax'
            )
        network = await self._networks.get(name)
        if (scope := request.query.get("scope", "")) and scope != network.scope:
            raise NotFound(f"network {name} not found")
        document = wire.network(network, api_version(request))
        users = await self._networks.users(network)
        document["Containers"] = wire.containers((user.name, user.endpoint) for user in users)
        return json_answer(document)

    async def create(self, request: web.Request) -> web.StreamResponse:
        asked = decode(await json_body(request) or b"{}", wire.NetworkCreate, "network.CreateRequest")
        if asked.scope == "swarm" or asked.ingress:
            raise Forbidden("cannot create a swarm scoped network when swarm is not active")
        if asked.config_only or asked.config_from.network:
            raise Unsupported("configuration-only networks are not supported")
        network = await self._networks.create(
            NetworkRequest(
                name=asked.name,
                driver=asked.driver or "bridge",
                internal=asked.internal,
                attachable=asked.attachable,
                enable_ipv4=asked.enable_ipv4,
                enable_ipv6=asked.enable_ipv6,
                ipam=asked.ipam,
                options=asked.options,
                labels=asked.labels,
            )
        )
        return json_answer({"Id": network.id, "Warning": ""}, status=201)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        await self._networks.remove(request.match_info["id"])
        return web.Response(status=204)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        asked = decode(await json_body(request) or b"{}", wire.NetworkConnect, "network.ConnectOptions")
        await self._networks.connect(request.match_info["id"], asked.container, asked.endpoint_config)
        return web.Response()

    async def disconnect(self, request: web.Request) -> web.StreamResponse:
        asked = decode(await json_body(request) or b"{}", wire.NetworkDisconnect, "network.DisconnectOptions")
        await self._networks.disconnect(request.match_info["id"], asked.container, force=asked.force)
        return web.Response()

    async def prune(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request)
        _check_keys(wanted, _PRUNE)
        until = moment(wanted["until"][-1]) if wanted.get("until") else 0

        def keep(network: Network) -> bool:
            created = timestamp.parse_rfc3339(network.created)
            return not labels_match(network.labels, wanted) or bool(until and created > until)

        return json_answer({"NetworksDeleted": await self._networks.prune(keep) or None})


def _check_keys(wanted: dict[str, list[str]], known: frozenset[str]) -> None:
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")


def _dangling(wanted: dict[str, list[str]]) -> bool | None:
    values = wanted.get("dangling")
    if not values:
        return None
    if len(values) > 1:
        raise InvalidArgument('got more than one value for filter key "dangling"')
    if values[0] not in _TRUE | _FALSE:
        raise InvalidArgument('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
    return values[0] in _TRUE


def _list_filter(wanted: dict[str, list[str]]) -> Callable[[Network], bool]:
    _check_keys(wanted, _LIST)
    for value in wanted.get("type", ()):
        if value not in ("custom", "builtin"):
            raise Internal(f"invalid filter: 'type'='{value}'")

    def matches(network: Network) -> bool:
        kind = "builtin" if network.predefined else "custom"
        return (
            named(wanted.get("name"), network.name)
            and named(wanted.get("id"), network.id)
            and _one_of(wanted.get("driver"), network.driver)
            and _one_of(wanted.get("scope"), network.scope)
            and _one_of(wanted.get("type"), kind)
            and labels_match(network.labels, wanted)
        )

    return matches


def _one_of(values: list[str] | None, value: str) -> bool:
    return not values or value in values


def named(patterns: list[str] | None, text: str) -> bool:
    """Whether one of the values is the text, or a regular expression that is found in it."""
    return not patterns or any(pattern == text or _found(pattern, text) for pattern in patterns)


def _found(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def labels_match(labels: dict[str, str] | None, wanted: dict[str, list[str]]) -> bool:
    """Every `label`, and no `label!`."""

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return labels is not None and key in labels and (not equals or labels[key] == value)

    return all(has(text) for text in wanted.get("label", ())) and not any(
        has(text) for text in wanted.get("label!", ())
    )
